"""Switches to and fro, again and again, on hosts without a processor to spare: light load hides what this finds.

How many is in the environment variable SWITCHES.
"""

import os
import subprocess
import time
from pathlib import Path

import pytest
from figures import keep, window
from modes import MODES

SWITCHES = int(os.environ.get("SWITCHES", "50"))
BURN = "while True: pass"


@pytest.fixture
def pressure(fleet):
    """A process on every host that takes what it gets of a processor."""
    command = ["timeout", "7200", "python3", "-c", BURN]
    burners = [subprocess.Popen(["docker", "exec", host.backend.name, *command]) for host in fleet]
    yield
    for host, burner in zip(fleet, burners, strict=True):
        host.check_output("pkill --full %s", f"^timeout 7200 python3 -c {BURN}")
        burner.wait()


@pytest.mark.usefixtures("pressure")
def test_switches_under_pressure(apps, variant, playbook, visitors, fleet, release_of, instances):
    with open(apps["zerg"]["source"]["path"] + "/shop/pages.py", encoding="utf-8") as file:
        page = file.read()
    releases = []
    for mark in ("to", "fro"):
        new = [variant(apps[mode], {"shop/pages.py": f"{page}\nMARK = {mark!r}\n"}) for mode in MODES]
        run = playbook("deploy", "-e", f"app={','.join(MODES)}", variables={"flask_apps": new})
        assert not run.failed, run.error
        releases.append(release_of(fleet[0], "zerg"))
    switches = Path(__file__).with_name("switches.yml").resolve()
    begin = time.time()
    with visitors() as load:
        variables = {"switches": SWITCHES, "releases": releases, "modes": list(MODES)}
        run = playbook(switches, variables=variables)
        assert not run.failed, run.error
    report = load.report
    print(report)
    for host in fleet:
        debian = host.check_output("sed -n 's/^VERSION_ID=\"\\(.*\\)\"/\\1/p' /etc/os-release")
        for mode in MODES:
            assert list(instances(host, mode).values()) == [4], (host.backend.name, mode)
            found = window(report, begin, time.time(), [f"{host.backend.name} {mode}"])
            keep(f"soak {debian}", mode, found | {"switches": SWITCHES})
    assert not report.failures, report
