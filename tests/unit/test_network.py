"""What an app may reach: from the settings to what systemd is told."""

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import host
from ansible_collections.flaskops.emperor.plugins.module_utils.sides import units
from ansible_collections.flaskops.emperor.plugins.plugin_utils import side_processes, vassal_options
from planned import SHOP
from planned import host as planned

DENIED = "IPAddressDeny=any"
PLAN = {"processes": 2, "threads": 4}


def app(**settings):
    return planned({**SHOP, **settings}).apps[0]


@pytest.mark.parametrize(
    ("settings", "told", "lines"),
    [
        ({}, "full", []),
        ({"network": "local"}, "local", [DENIED, "IPAddressAllow=localhost"]),
        ({"network": "none"}, "none", [DENIED]),
        ({"network": "none", "allowed_addresses": ["10.0.3.7", "10.0.3.7"]}, "none 10.0.3.7/32",
         [DENIED, "IPAddressAllow=10.0.3.7/32"]),
        ({"network": "local", "allowed_addresses": ["fd00::/8"]}, "local fd00::/8",
         [DENIED, "IPAddressAllow=localhost", "IPAddressAllow=fd00::/8"]),
        ({"allowed_addresses": ["169.254.169.254"]}, "full 169.254.169.254/32", ["IPAddressAllow=169.254.169.254/32"]),
    ],
)  # fmt: skip
def test_network_of_the_settings_is_what_every_process_of_the_app_gets(settings, told, lines):
    one = app(background={"worker": {"command": "rq worker"}}, **settings)
    assert one["network"] == told
    assert host.network(told) == lines
    launch = vassal_options.launch(one, PLAN, "aaa", "pyuwsgi")
    assert launch.get("network", "full") == told
    job = side_processes.sides(one, "aaa")["worker"]
    (text,) = units.files("shop", "worker", {**job, "sandbox": []}).values()
    assert [line for line in text.splitlines() if line.startswith("IPAddress")] == lines


def test_settings_without_network_leave_vassal_files_and_jobs_as_they_were():
    one = app(background={"worker": {"command": "rq worker"}})
    assert "network" not in vassal_options.launch(one, PLAN, "aaa", "pyuwsgi")
    assert "network" not in side_processes.sides(one, "aaa")["worker"]


@pytest.mark.parametrize(
    ("networks", "widest"),
    [
        (["none", "local"], "local"),
        (["local", "full"], "full"),
        (["none 10.0.3.7", "none 10.0.3.7 10.0.4.0/24", "none"], "none 10.0.3.7 10.0.4.0/24"),
        (["full 169.254.169.254", "none"], "full 169.254.169.254"),
    ],
)
def test_widest_network_has_what_each_needs(networks, widest):
    assert host.widest(networks) == widest
    assert host.widest(reversed(networks)) == widest
