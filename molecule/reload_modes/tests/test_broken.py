"""Broken releases of every kind in every mode: the run says why, no client notices, the host is clean.

Each kind meets each mode on one of the two hosts, in turn: so every mode and every kind meets both.
"""

import pytest
from modes import CRASH, LATE_CRASH, MODES

ILL = """
from flask import Flask


def create_app():
    app = Flask(__name__)
    app.add_url_rule("/healthz", "health", lambda: ("ill", 500))
    return app
"""
NEEDS_ANOTHER = "[project]\nname = 'needs'\nversion = '1'\nrequires-python = '>=3.99'\n"

# What is wrong, the files that make it so, other settings, and what the run has to say.
BROKEN = {
    "syntax error": ({"shop/__init__.py": "def create_app(:\n"}, {}, ["SyntaxError", "was not changed"]),
    "missing module": ({"shop/__init__.py": "import nowhere_to_be_found\n"}, {}, ["nowhere_to_be_found"]),
    "import that hangs": (
        {"shop/__init__.py": "import time\ntime.sleep(600)\n"},
        {"max_start_seconds": 3},
        ["after 3 s", "was not changed"],
    ),
    "health question unanswered": (
        {"shop/__init__.py": ILL},
        {"max_start_seconds": 10},  # so long it may need for its first answer on a busy machine
        ["status 500 instead of 200", "ill", "was not changed"],
    ),
    "crash after the fork": (
        {"shop/__init__.py": CRASH.replace("CONDITION", "True")},
        {},
        ["die as soon as they start", "was not changed"],
    ),
    "requirement that is not to be had": (
        {"requirements.txt": "flask==0.0.0.999\n"},
        {},
        ["installing requirements.txt failed", "0.0.0.999"],
    ),
    "wrong Python": (
        {"requirements.txt": "./needs\n", "needs/pyproject.toml": NEEDS_ANOTHER},
        {},
        ["installing requirements.txt failed", "Python>=3.99"],
    ),
    "crash where it serves": (
        {"shop/__init__.py": LATE_CRASH},
        {},
        ["did not start", "as soon as", "The earlier release serves again"],
    ),
}
TOUCHED = {"crash where it serves": ("graceful", "chain")}


@pytest.fixture(scope="session")
def running(fleet):
    """The processes of every app on each host, with their start times."""
    command = "ps -u {} -o pid,lstart,args | grep '[e]mperor' | grep -v resource_tracker"
    return lambda skip=(): [
        host.check_output(command.format(mode)) for host in fleet for mode in MODES if mode not in skip
    ]


@pytest.mark.parametrize("number", range(len(BROKEN)))
def test_broken_release_reaches_no_client(number, apps, variant, playbook, clients, fleet, release_of, running):
    """Four of them in one run, which goes on after each; scenario releases has runs that end with the first."""
    kinds = {mode: list(BROKEN)[(number + turn) % len(BROKEN)] for turn, mode in enumerate(MODES)}
    touched = [mode for mode, kind in kinds.items() if mode in TOUCHED.get(kind, ())]
    releases = [release_of(host, mode) for host in fleet for mode in MODES]
    before = running(touched)
    broken = [variant(apps[mode], BROKEN[kind][0]) | BROKEN[kind][1] for mode, kind in kinds.items()]
    variables = {"flask_apps": broken, "flask_apps_on_failure": "continue"}
    with clients() as load:
        run = playbook(
            "deploy", "-e", f"app={','.join(MODES)}", f"--limit=webservers[{number % 2}]", variables=variables
        )
    assert run.failed
    failed, _bracket, said = run.error.partition("Not deployed: ")[2].partition(" (")
    assert sorted(failed.split(", ")) == sorted(MODES), run.error
    for mode, kind in kinds.items():
        for fragment in BROKEN[kind][2]:
            assert fragment in said, (mode, kind, run.error)
    assert "correct horse" not in run.output, "a secret in the log"
    print(load.report)
    assert not load.report.failures, load.report
    assert [release_of(host, mode) for host in fleet for mode in MODES] == releases
    assert running(touched) == before


def test_host_without_memory_for_two_instances_is_refused_before_anything_changes(apps, variant, playbook, running):
    before = running()
    new = variant(apps["zerg"], {"note.txt": "another release"})
    run = playbook("deploy", "-e", "app=zerg", variables={"flask_apps": [new], "flask_apps_memory_reserve": 10**7})
    assert run.failed
    assert "0 MiB are for apps" in run.error, run.error
    assert "10000000 MiB for flask_apps_memory_reserve" in run.error
    assert running() == before


def test_broken_releases_leave_nothing_behind(playbook, fleet, instances, running):
    """A run with what served all the time has nothing to change. Good deploys after it: test_deploys.py."""
    processes = running()
    run = playbook("site")
    assert not run.failed, run.error
    assert run.changed == 0, run.output
    assert running() == processes
    for host in fleet:
        files = host.check_output("ls -A -I '*.limit' /etc/emperor/vassals").split()
        assert len(files) == len(MODES), "more than one file an app"
        left = host.check_output("find /run/emperor /srv/flask_apps -name 'trial*' -o -name scratch -o -name '*.new'")
        assert left == ""
        for mode in MODES:
            assert list(instances(host, mode).values()) == [4]
