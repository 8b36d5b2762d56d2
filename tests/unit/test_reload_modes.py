"""The one table of reload modes, and whatever else names them."""

from pathlib import Path

import pytest
import yaml
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.modes import MODES
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.switch import WAYS
from ansible_collections.flaskops.emperor.plugins.modules import vassal

ROOT = Path(__file__).parents[2]


def test_table_of_modes_and_functions_of_the_switch_match():
    assert {mode.way for mode in MODES.values()} | {"after"} == set(WAYS)


def test_module_and_role_offer_exactly_the_modes_of_the_table():
    module = yaml.safe_load(vassal.DOCUMENTATION)["options"]["reload"]
    assert (module["choices"], module["default"]) == (list(MODES), "zerg")
    specs = yaml.safe_load((ROOT / "roles/flask_apps/meta/argument_specs.yml").read_text())
    role = specs["argument_specs"]["main"]["options"]["flask_apps"]["options"]["reload"]
    assert (role["choices"], role["default"]) == (list(MODES), "zerg")


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_is_explained(mode):
    assert f"`{mode}`" in (ROOT / "docs/reload_modes.md").read_text()


def test_workers_that_find_their_release_through_a_link_load_the_app_themselves():
    assert [name for name, mode in MODES.items() if mode.through_link] == ["chain"]
    assert all(mode.lazy_apps and mode.least_processes > 1 for mode in MODES.values() if mode.through_link)
