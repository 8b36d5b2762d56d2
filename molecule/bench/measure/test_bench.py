"""What is measured. No test: it fails only when something cannot be measured."""

import os

import figures
import pytest
from servers import BASELINE, BATCH, BESIDE, LEAK, LEAK_KB, MODEL_MB, QUICK, SETTINGS, SWITCH, WORKLOADS, Silent

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))


@pytest.fixture(scope="module", autouse=True)
def machine(bench):
    figures.keep_machine(bench, ROUNDS)


def in_turn(servers):
    """All servers once a round, every other round in reverse, so that none always follows the same one."""
    for number in range(ROUNDS):
        print(f"round {number + 1} of {ROUNDS}")
        yield from servers if number % 2 == 0 else reversed(servers)


def test_servers(bench):
    found = {server.title: {"slots": server.slots} for server in bench.servers}
    for server in in_turn(bench.servers):
        with bench.running(server):
            for name, workload in WORKLOADS.items():
                found[server.title].setdefault(name, []).append(bench.load(server, workload))
    figures.keep("servers", found)


def test_quick_beside_others(bench):
    servers = bench.servers + [server for server in bench.settings if server.title in (BASELINE, SWITCH, BATCH)]
    found = {server.title: {name: [] for name in ("alone", *BESIDE)} for server in servers}
    for server in in_turn(servers):
        with bench.running(server):
            found[server.title]["alone"].append(bench.load(server, QUICK))
            for name, workload in BESIDE.items():
                with bench.busy(server, workload):
                    found[server.title][name].append(bench.ask(server, QUICK))
    figures.keep("beside", found)


def test_settings(bench):
    baseline, *others = bench.settings
    assert baseline.title == BASELINE
    found = {server.title: {"slots": server.slots, "memory": []} for server in bench.settings}
    with bench.running(baseline):
        found[BASELINE]["memory"].append(bench.memory(baseline)[0]["last"])
        for server in in_turn(others):
            if "silent" not in found[server.title]:
                measure_in_turn(bench, baseline, server, found)
    assert list(found) == list(SETTINGS)
    figures.keep("settings", found)


def measure_in_turn(bench, baseline, server, found):
    """Ask a setting in turn with the baseline, which waits meanwhile: no machine is equally fast all the time."""
    base, own = found[baseline.title], found[server.title]
    try:
        with bench.running(server):
            own["memory"].append(bench.memory(server)[0]["last"])
            for name in ("trivial", "page", *server.also):
                answers = bench.ask(baseline, WORKLOADS[name])  # not load: its silence is not the setting's
                base.setdefault(name, []).append(answers)
                own.setdefault(name, []).append(bench.load(server, WORKLOADS[name]) | {"base": answers["rate"]})
    except Silent as reason:  # that is a result, too
        own["silent"] = str(reason).splitlines()[-1]


def test_memory(bench):
    found = {}
    for server in bench.alone:
        found[server.title] = {}
        for title, size in {"without": "0", "with": str(MODEL_MB)}.items():
            with bench.running(server, SHOP_MODEL_MB=size):
                found[server.title][title] = bench.memory(server)[0]
    figures.keep("memory", found)


def test_leak(bench):
    found = {}
    for server in bench.alone:
        with bench.running(server):
            memory, load = bench.memory(server, LEAK)
            found[server.title] = memory | {"leaked": load["requests"] * LEAK_KB // 1024, "load": load}
    figures.keep("leak", found)
