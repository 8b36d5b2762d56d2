"""What is done for all hosts of a run together, by what became of each of them."""

import pytest
from rendering import ROLES, value

LOOKED: dict[str, dict[str, dict[str, str]]] = {"apps": {"shop": {}}}
NOT_LOOKED = {"changed": False}


@pytest.mark.parametrize(
    ("still_there", "returning"),
    [
        (["web1", "web2"], []),
        (["web1"], ["shop"]),
        ([], ["shop"]),
    ],
)
def test_all_return_when_a_host_leaves_the_run_that_had_been_looked_at(still_there, returning):
    plans = {"web1": LOOKED, "web2": LOOKED, "missing": NOT_LOOKED}
    hostvars = {name: {"inventory_hostname": name, "__flask_apps_plan": plan} for name, plan in plans.items()}
    found = value(
        "__flask_apps_returning", hostvars=hostvars, ansible_play_hosts_all=list(plans), ansible_play_hosts=still_there,
        __flask_apps_plan=LOOKED,
    )  # fmt: skip
    assert found == returning


def steps(*hosts, **more):
    """The steps of a run on hosts whose plans name these, and which form of the switch it has."""
    names = [f"web{number}" for number in range(len(hosts))]
    known = {name: {"__flask_apps_plan": {"steps": one}} for name, one in zip(names, hosts)}
    given = {"hostvars": {**known, **more.pop("hostvars", {})}, "ansible_play_hosts": names, **more}
    return [value(name, **given) for name in ("__flask_apps_steps", "__flask_apps_switch")]


def test_every_release_of_a_run_gets_its_trial_start_before_the_first_switch():
    every = ["finish", "switch", "absent", "between", "build", "prepare", "around"]
    order = ["prepare", "build", "between", "absent", "switch", "finish"]
    assert steps(every) == [order, "switch"]
    rolling = [step.replace("switch", "rolling") for step in every]
    assert steps(rolling) == [[step.replace("switch", "rolling") for step in order], "switch"]


def test_hosts_take_all_steps_that_any_of_them_needs():
    assert steps(["build", "switch"], ["prepare"], []) == [["prepare", "build", "switch"], "over"]
    assert steps(["build", "switch"], ["around"]) == [["build", "switch"], "switch"]
    assert steps([], []) == [[], "over"]


def test_restore_hooks_run_between_the_build_and_the_trial_start():
    restored = {"web0": {"__flask_apps_plan": {"steps": ["build", "switch"]}, "__flask_apps_restored": {}}}
    assert steps([], hostvars=restored)[0] == ["build", "between", "switch"]


def test_steps_have_a_file_each():
    tasks = ROLES / "flask_apps/tasks"
    assert "{{ __flask_apps_step }}.yml" in (tasks / "change.yml").read_text()
    for step in ("prepare", "build", "between", "absent", "switch", "rolling", "finish"):
        assert (tasks / f"{step}.yml").exists()
    for step in ("build", "between", "over", "switch"):
        assert (ROLES / f"release/tasks/{step}.yml").exists()
