"""Which apps return to the release before, by what became of the hosts of a run."""

import pytest
from rendering import value

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
