#!/usr/bin/env python3
"""demo_release.py good|broken: another release of the demo's app, while clients send requests all the time.

Options name another host than the demo's: --inventory PATH, --host NAME in it, --address of its port 80.

Tells how many requests each release answered and draws it. Ends with 1 when a request failed, or the run did not end as
it should: a good release goes live, a broken one reaches no client.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from shutil import copytree

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests"))

from load_client import Load, Options, Target  # noqa: E402  # in that directory
from load_report import Report  # noqa: E402
from timeline import draw  # noqa: E402

PICTURE = ROOT / ".cache/demo.svg"
CLIENTS = {"get_keep": 3, "get_close": 2, "post": 1, "slow": 2, "order": 1}
CHANGES = {
    "good": ("served you.", f"served you. (Release of {time.strftime('%H:%M:%S')})", "templates/index.html"),
    "broken": (
        "    app = Flask(",
        '    raise RuntimeError("this release is broken on purpose")\n    app = Flask(',
        "__init__.py",
    ),
}


def changed(kind: str, directory: Path) -> Path:
    """Make a copy of the sample app that is another release; returns where it is."""
    old, new, name = CHANGES[kind]
    source = copytree(ROOT / "sample_app", directory / "sample_app")
    file = source / "shop" / name
    file.write_text(file.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    return source


def deploy(source: Path, inventory: str, host: str) -> int:
    """Deploy it; returns the run's exit code."""
    told = subprocess.check_output(["ansible-inventory", "-i", inventory, "--host", host], cwd=ROOT, text=True)
    apps = [app | ({"source": {"path": str(source)}} if app["name"] == "shop" else {})
            for app in json.loads(told)["flask_apps"]]  # fmt: skip
    variables = source.with_name("variables.json")
    variables.write_text(json.dumps({"flask_apps": apps}), encoding="utf-8")
    command = ["ansible-playbook", "-i", inventory, "--limit", host, "playbooks/deploy.yml", "-e", "app=shop",
               "-e", f"@{variables}"]  # fmt: skip
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def tell(kind: str, report: Report, picture: Path) -> None:
    """What the clients saw, in a sentence, and where the picture is."""
    answers = report.mixed("demo")
    by_release = ", ".join(f"{count} by {name}" for name, count in answers.items())
    print(f"\n{sum(answers.values())} requests were answered during this run ({by_release}), {report.failed} failed.")
    if kind == "broken":
        print("The broken release was started once on a private socket, failed there, and answered no client.")
    print(f"Picture: {picture.relative_to(ROOT)}")


def main() -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=CHANGES)
    parser.add_argument("--inventory", default="inventory/demo")
    parser.add_argument("--host", default="emperor-demo")
    parser.add_argument("--address")
    given = parser.parse_args()
    address = given.address or subprocess.check_output(["podman", "port", "emperor-demo", "80"], text=True).strip()
    target = Target("demo", address, address)
    with tempfile.TemporaryDirectory() as directory, Load([target], Options(kinds=CLIENTS)) as load:
        time.sleep(2)
        code = deploy(changed(given.kind, Path(directory)), given.inventory, given.host)
        time.sleep(2)
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(draw(load.report, "Requests answered while a release was deployed"), encoding="utf-8")
    tell(given.kind, load.report, PICTURE)
    releases = len(load.report.releases)
    as_it_should = (code == 0 and releases == 2) if given.kind == "good" else (code != 0 and releases == 1)
    return 0 if as_it_should and not load.report.failed else 1


if __name__ == "__main__":
    sys.exit(main())
