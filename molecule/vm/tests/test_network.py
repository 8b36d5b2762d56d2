"""What apps reach: their web workers, commands and scheduled jobs, now and after a restart."""

import time

import pytest

GROUP = "/sys/fs/cgroup/emperor.slice/emperor-{0}.slice/emperor-app@{0}.service"
REACHABLE = {  # see molecule.yml
    "shop": {"127.0.0.1", "::1", "10.0.2.2", "10.0.2.3"},
    "hog": set(),
    "third": {"127.0.0.1", "::1", "10.0.2.2"},
}
ADDRESSES = [*REACHABLE["shop"], "169.254.169.254"]
# Sends a datagram to each address, and tells to which it could.
SEND = """
import socket, sys
for address in sys.argv[1:]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        socket.socket(family, socket.SOCK_DGRAM).sendto(b"", (address, 9))
    except PermissionError:
        continue
    print(address)
"""


@pytest.fixture
def reached(host):
    def by(*command):
        words = ["python3", "-c", SEND, *ADDRESSES]
        return set(host.check_output(" ".join(command) + " %s" * len(words), *words).split())

    return by


def by_web_workers(reached, app):
    """By a process in their control group."""
    return reached("sh", "-c", f'\'echo $$ > "{GROUP.format(app)}/cgroup.procs"; exec "$@"\'', "-")


@pytest.mark.parametrize("app", REACHABLE)
def test_web_workers_reach_what_the_settings_say(reached, app):
    assert by_web_workers(reached, app) == REACHABLE[app]


@pytest.mark.parametrize("app", REACHABLE)
def test_commands_reach_what_the_settings_say(reached, app):
    assert reached("emperor-run", app) == REACHABLE[app]


def test_scheduled_jobs_reach_what_the_settings_say(host):
    shown = "systemctl show --value emperor-side-third.reach --property="
    deadline = time.monotonic() + 180
    while not host.check_output(f"{shown}ExecMainExitTimestamp"):
        assert time.monotonic() < deadline
        time.sleep(2)
    assert host.check_output(f"{shown}Result") == "success"


def test_network_changes_while_the_app_serves(host, apps, playbook, reached, visits):
    unit = "systemctl show --property=MainPID --property=NRestarts emperor-app@third"
    before, end = host.check_output(unit), visits("third")
    wider = [app | ({"network": "full", "hooks": {}, "schedule": {}} if app["name"] == "third" else {})
             for app in apps.values()]  # fmt: skip
    run = playbook("deploy", "-e", "app=third", variables={"flask_apps": wider})
    assert not run.failed, run.output
    assert by_web_workers(reached, "third") == REACHABLE["shop"]
    run = playbook("deploy", "-e", "app=third")
    assert not run.failed, run.output
    assert by_web_workers(reached, "third") == REACHABLE["third"]
    assert host.check_output(unit) == before
    seen = end()
    print(seen)
    assert set(seen) == {"200"}, seen
