"""Settings that an argument specification rules out: one sentence that names the variable and the cure."""

from pathlib import Path

import pytest
import yaml
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.specification import (
    check_value,
    check_variables,
    mistaken,
)
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused

ROOT = Path(__file__).resolve().parents[2]
HEALTH = {"path": {"type": "str", "required": True}, "status": {"type": "int"}}
APP = {
    "name": {"type": "str", "required": True},
    "domains": {"type": "list", "elements": "str"},
    "health": {"type": "dict", "options": HEALTH},
    "tls": {"type": "dict", "options": {"mode": {"type": "str", "choices": ["off", "acme"]}}},
    "environment": {"type": "dict"},
    "workers": {"type": "raw"},
    "debug": {"type": "bool"},
    "files": {"type": "list", "elements": "dict", "options": {"path": {"type": "path"}}},
}
ROLE = {
    "shops": {"type": "list", "elements": "dict", "options": APP, "required": True},
    "shops_keep": {"type": "int", "default": 5},
    "shops_share": {"type": "float"},
}
GOOD = {"name": "one", "domains": ["a.test"], "health": {"path": "/", "status": "200"}, "workers": 4, "debug": "yes"}


def check(values):
    check_variables(ROLE, {name: value for name, value in values.items() if name in ROLE}, values)


@pytest.mark.parametrize(
    "values",
    [
        {"shops": [GOOD, {"name": 7}, {"name": "x", "domains": None, "environment": {}}]},
        {"shops": (), "shops_keep": "3", "shops_share": "0.5", "other": []},
        {"shops": [{"name": "x", "tls": {"mode": False}, "files": [{"path": "a"}], "debug": True}], "shops_keep": 3.0},
    ],
)
def test_what_ansible_takes_is_taken(values):
    check(values)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, "shops is not set: add it to the inventory."),
        ({"shop": []}, "shops is not set: shop is, did you mean that?"),
        ({"shops_keep": 3}, "shops is not set: add it to the inventory."),
        ({"shops": {"one": {}}}, "shops is a dict, but must be a list: write one item per line, each behind a dash."),
        ({"shops": ["one"]}, "shops[0] is text, but must be a dict with name, domains, health, tls, environment, "
         "workers, debug, files: write one `name: value` per line."),
        ({"shops": [GOOD, {"domains": []}]}, "shops[1] has no name: add it."),
        ({"shops": [GOOD | {"domain": "a.test"}]},
         "shops[one] has domain, which is no option of it: did you mean domains?"),
        ({"shops": [GOOD | {"colour": 1}]},
         "shops[one] has colour, which is no option of it: choose from name, domains, health, tls, environment, "
         "workers, debug, files."),
        ({"shops": [GOOD | {"domains": "a.test"}]},
         "shops[one].domains is text, but must be a list: write one item per line, each behind a dash."),
        ({"shops": [GOOD | {"domains": [{"a.test": None}]}]},
         "shops[one].domains[0] is a dict, but must be text: put it in quotes."),
        ({"shops": [GOOD | {"health": "/"}]},
         "shops[one].health is text, but must be a dict with path, status: write one `name: value` per line."),
        ({"shops": [GOOD | {"health": {"status": 200}}]}, "shops[one].health has no path: add it."),
        ({"shops": [GOOD | {"health": {"path": "/", "status": "ok"}}]},
         "shops[one].health.status is text, but must be a whole number."),
        ({"shops": [GOOD | {"health": {"path": "/", "status": True}}]},
         "shops[one].health.status is true, but must be a whole number."),
        ({"shops": [GOOD | {"tls": {"mode": "letsencrypt"}}]},
         "shops[one].tls.mode is 'letsencrypt', but must be one of off, acme."),
        ({"shops": [GOOD | {"tls": {"mode": True}}]}, "shops[one].tls.mode is True, but must be one of off, acme."),
        ({"shops": [GOOD | {"debug": "perhaps"}]},
         "shops[one].debug is text, but must be true or false: write one of them without quotes."),
        ({"shops": [GOOD | {"files": [{"pth": "a"}]}]},
         "shops[one].files[0] has pth, which is no option of it: did you mean path?"),
        ({"shops": [], "shops_keep": 2.5}, "shops_keep is the number 2.5, but must be a whole number."),
        ({"shops": [], "shops_share": []}, "shops_share is a list, but must be a number."),
    ],
)  # fmt: skip
def test_refusal_names_the_variable_and_the_cure(values, told):
    with pytest.raises(Refused) as refusal:
        check(values)
    assert str(refusal.value) == told


def test_secret_is_not_told():
    with pytest.raises(Refused) as refusal:
        check({"shops": [GOOD | {"environment": "TOKEN=planted-secret"}]})
    assert "planted-secret" not in str(refusal.value)


def test_variable_that_means_nothing_is_named_when_it_is_like_another():
    names = ["shops", "shops_kep", "shops_of_mine", "other_keep", "__shops_keep", "shops_keep"]
    assert mistaken(ROLE, names, "shops") == ["The role shops has no variable shops_kep: did you mean shops_keep?"]


@pytest.mark.parametrize("role", sorted(path.parents[1].name for path in ROOT.glob("roles/*/defaults/main.yml")))
def test_defaults_of_a_role_are_what_its_specification_allows(role):
    options = yaml.safe_load((ROOT / f"roles/{role}/meta/argument_specs.yml").read_text())["argument_specs"]["main"]
    values = yaml.safe_load((ROOT / f"roles/{role}/defaults/main.yml").read_text())
    for name, value in values.items():
        if "{{" not in str(value):
            check_value(options["options"][name], value, name)
