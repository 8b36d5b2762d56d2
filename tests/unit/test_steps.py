"""Which steps of a deploy an app and a host need."""

from typing import Any

import pytest
from ansible_collections.flaskops.emperor.plugins.plugin_utils import steps
from planned import SHOP, host, wanted

NOTHING: dict[str, Any] = {
    "todo": [], "absent": [], "untooled": False, "packages": [], "host_differs": False, "accounts": [],
    "nginx_outdated": False, "https": False, "https_stays": False, "apps": {},
    "certificates": {"todo": {}, "files_differ": False, "unused": {}},
}  # fmt: skip
CALM = dict.fromkeys(("account", "build", "prepare", "before", "after"), False)


def of_app(hooks=None, differs=(), built=True, known=True, sides=False, run=True):
    one = wanted(host({**SHOP, "hooks": hooks or {}}))
    one.differs = dict.fromkeys(differs, "")
    return {name for name, needed in steps.of_app(one, built, known, sides, hooks=run).items() if needed}


@pytest.mark.parametrize(
    ("about", "needed"),
    [
        ({}, set()),
        ({"built": False}, {"build"}),
        ({"differs": ["static"]}, {"build"}),
        ({"differs": ["configuration"]}, {"build", "after"}),
        ({"differs": ["files"]}, {"account"}),
        ({"differs": ["account"]}, {"account"}),
        ({"differs": ["socket"]}, {"before"}),
        ({"sides": True}, {"before", "after"}),
        ({"hooks": {"prepare": ["a"]}}, {"prepare"}),
        ({"hooks": {"before_switch": ["a"]}}, {"before"}),
        ({"hooks": {"before_switch": ["a"]}, "known": False}, {"prepare", "before"}),
        ({"hooks": {"after_switch": ["a"]}}, {"after"}),
        ({"hooks": {"prepare": ["a"], "before_switch": ["a"], "after_switch": ["a"]}, "run": False}, set()),
    ],
)
def test_steps_of_an_app(about, needed):
    assert of_app(**about) == needed


SHOP_CHANGES = {"todo": ["shop"], "apps": {"shop": CALM}}
ALL = ["prepare", "build", "between", "absent", "switch", "around", "finish"]


@pytest.mark.parametrize(
    ("about", "needed"),
    [
        ({}, []),
        (SHOP_CHANGES, ["build", "switch"]),
        ({**SHOP_CHANGES, "apps": {"shop": {**CALM, "prepare": True}}}, ["build", "between", "switch"]),
        ({**SHOP_CHANGES, "apps": {"shop": {**CALM, "after": True}}}, ["build", "switch", "around"]),
        ({"absent": ["old"]}, ["absent"]),
        ({"nginx_outdated": True}, ["finish"]),
        ({"certificates": {**NOTHING["certificates"], "unused": {"old": True}}}, ["finish"]),
        ({"https": True}, ["finish"]),
        ({"https": True, "https_stays": True}, []),
        # New certificates change sites: then it may need any other step, too.
        ({"certificates": {**NOTHING["certificates"], "todo": {"shop": "new"}}}, ALL),
        ({"packages": ["libpq5"]}, ALL),
        ({"accounts": ["shop"]}, ALL),
    ],
)
def test_steps_of_a_host(about, needed):
    answer = {**NOTHING, **about}
    answer["apps"] = {name: {"steps": one} for name, one in answer["apps"].items()}
    assert steps.of_host(answer, rolling=False, balanced=False) == needed
    rolling = [step.replace("switch", "rolling") for step in needed]
    assert steps.of_host(answer, rolling=True, balanced=False) == rolling


def test_host_that_was_out_of_a_load_balancer_comes_back_though_nothing_else_is_to_be_done():
    assert steps.of_host(NOTHING, rolling=False, balanced=True) == ["finish"]
