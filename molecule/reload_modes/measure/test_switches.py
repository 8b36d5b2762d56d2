"""Switches to and fro, again and again: SWITCHES on every host in every mode.

With PRESSURE, no host has a processor to spare meanwhile: light load hides what this finds.
"""

import contextlib
import os
import subprocess
from pathlib import Path

import pytest
from figures import keep, side_by_side, targets_of, window
from modes import MODES, others

SWITCHES, PRESSURE = int(os.environ["SWITCHES"]), bool(os.environ.get("PRESSURE"))
BURN = "while True: pass"


@pytest.fixture
def pressure(fleet):
    """A process on every host that takes what it gets of a processor."""
    command = ["timeout", "7200", "python3", "-c", BURN]
    hosts = fleet if PRESSURE else []
    burners = [subprocess.Popen(["docker", "exec", host.backend.name, *command]) for host in hosts]
    yield
    for host, burner in zip(hosts, burners, strict=True):
        host.check_output("pkill --full %s", f"^timeout 7200 python3 -c {BURN}")
        burner.wait()


@pytest.mark.usefixtures("pressure")
def test_switches(apps, variant, playbook, clients, fleet, release_of, instances, most_memory):
    releases = []
    for mark in ("to", "fro"):
        new = list(others(apps, variant, mark).values())
        run = playbook("deploy", "-e", f"app={','.join(MODES)}", variables={"flask_apps": new})
        assert not run.failed, run.error
        releases.append(release_of(fleet[0], "zerg"))
    variables = {"switches": SWITCHES, "releases": releases, "modes": list(MODES)}
    with contextlib.ExitStack() as stack:
        load = stack.enter_context(clients(seconds=300 * SWITCHES))
        memory = {mode: stack.enter_context(most_memory(mode)) for mode in MODES}
        run = playbook(Path(__file__).with_name("switches.yml").resolve(), variables=variables)
    report = load.report
    print(report)
    for mode in MODES:
        targets = targets_of(report, mode)
        found = window(report, targets)
        found |= {
            "switches": SWITCHES * len(fleet),
            "mixed": round(max(side_by_side(report, target) for target in targets), 1),
            "memory": round(max(memory[mode]), 1),
        }
        keep("soak" if PRESSURE else "switches", mode, found)
    assert not run.failed, run.error
    assert not report.failures, report
    for host in fleet:
        for mode in MODES:
            assert list(instances(host, mode).values()) == [4], (host.backend.name, mode)
