"""docs/apps.md shows the very entries that the scenario real_apps deploys."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
# Where the scenario's sources are; in the text they stand for directories and files of the reader.
PLACES = {
    "${MOLECULE_PROJECT_DIRECTORY}/molecule/real_apps/": "../",
    "${MOLECULE_EPHEMERAL_DIRECTORY}/flask": "flask",
    "${MOLECULE_EPHEMERAL_DIRECTORY}/": "../",
}


def test_documented_entries_are_the_tested_ones():
    text = ROOT.joinpath("molecule/real_apps/molecule.yml").read_text(encoding="utf-8")
    for place, shown in PLACES.items():
        text = text.replace(place, shown)
    hosts = yaml.safe_load(text)["provisioner"]["inventory"]["host_vars"].values()
    tested = {app["name"]: app for host in hosts for app in host["flask_apps"]}
    blocks = re.findall(r"```yaml\n(.*?)```", ROOT.joinpath("docs/apps.md").read_text(encoding="utf-8"), re.DOTALL)
    assert {app["name"]: app for block in blocks for app in yaml.safe_load(block)} == tested
    assert max(len(block.splitlines()) for block in blocks) <= 15
