"""A run that is killed in any step, or finds no room: what served serves on, and the next run heals what is left.

Each run but the last is killed in a later step than the one before, which it heals on its way there.
"""

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest

HOME, ARGUMENTS = "/srv/flask_apps/jobs", ("deploy", "-e", "app=jobs", "--limit=webservers[1]")
HOLD = "test ! -e /etc/hold-{step} || exec sleep {seconds}"
# What tells that a run is in a step, in the order of the steps.
STEPS = {
    "Debian packages": "pgrep --full 'sleep 90[4]'",
    "installation": "ls -d {home}/releases/*/venv/bin && ls -d {home}/releases/*/scratch",
    "build": "pgrep --euid emperor-build --full 'sleep 901'",
    "configuration files": "test -L {home}/files/before",
    "prepare hook": "pgrep --euid jobs --full 'sleep 902'",
    "start of the side processes": "test -e /etc/emperor/sides/jobs/started",
    "switch": "test -e /etc/emperor/vassals/jobs.blue.ini && test -e /etc/emperor/vassals/jobs.green.ini",
    "hook after the switch": "pgrep --euid jobs --full 'sleep 903'",
}
# What held the run before is taken away.
RELEASED = {"configuration files": "/etc/hold-build", "start of the side processes": "/etc/hold-prepare"}
BEFORE_THE_SWITCH = list(STEPS)[:6]
# While a package is installed, Debian asks this program whether it may start its service.
POLICY = """
echo '#!/bin/sh\ntest ! -e /etc/hold-packages || exec sleep 904' > /usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
touch /etc/hold-packages
"""
# Its module and the installation, and not the Emperor, whose process is named uwsgi.
KILL = "pkill -KILL --euid root '^(python3|apt-get|dpkg)'; rm -f /etc/hold-packages; pkill --full 'sleep 90[4]'"
SMALL = """
size=$(du -sm {home}/releases | cut -f 1)
mount -t tmpfs -o size=$((size + 4))m,mode=751 tmpfs /mnt
cp -a {home}/releases/. /mnt
mount --bind /mnt {home}/releases
"""
LEFT = """
cd /srv/flask_apps/jobs
ls releases/*/scratch releases/*/environment files/before /etc/emperor/sides/jobs/started 2>/dev/null
for one in releases/*; do test -e $one/release.json || echo $one; done
ls /etc/emperor/vassals | grep ^jobs | grep -v -e '\\.ini$' -e '\\.limit$'
ls /run/emperor-sockets/jobs/sides /run/emperor/jobs | grep -e new$ -e trial
systemctl list-units --plain --no-legend --state=deactivating,failed 'emperor-build-*' 'emperor-side-jobs*'
pgrep --list-full sleep | grep ' 90[1234]$'
dpkg --audit
find /srv/flask_apps/jobs -newer /etc/hold-began -name '*.new'
true
"""


@pytest.fixture(scope="module")
def host(fleet):
    yield fleet[1]
    fleet[1].run("rm -f /etc/hold-* /usr/sbin/policy-rc.d")


@pytest.fixture(scope="module")
def wanted(apps, tmp_path_factory):
    """Another release of the app, with something in each step."""
    source = tmp_path_factory.mktemp("jobs")
    for name in ("jobs.py", "live.py", "requirements.txt"):
        text = Path(apps["jobs"]["source"]["path"], name).read_text()
        (source / name).write_text(f"{text}# Another release, {time.time()}\n")
    build, prepare, after = (
        f"sh -c '{HOLD.format(step=step, seconds=seconds)}'"
        for step, seconds in (("build", 901), ("prepare", 902), ("after", 903))
    )
    return apps["jobs"] | {
        "source": {"path": str(source)},
        "packages": ["redis-server", "rsync"],
        "build": [build],
        "hooks": {"prepare": [prepare], "after_switch": [after]},
        "files": [{"path": "settings.ini", "content": "colour = blue of jobs\n"}],
    }


@pytest.fixture(scope="module")
def served(client, host):
    """What serves: the release, and the numbers of the workers."""
    jobs = client("jobs", 1)

    def look():
        status, release = jobs.ask("GET", "/")
        assert status == 200
        assert jobs.ask("GET", "/live")[0] == 200
        workers = host.check_output("pgrep --euid jobs --full 'rq worker' | sort").split()
        return release, workers

    return look


@pytest.fixture(scope="module")
def before(host, served):
    host.check_output("touch /etc/hold-began /etc/hold-build /etc/hold-prepare /etc/hold-after")
    host.check_output("sh -ec %s", POLICY)
    return served()


def test_full_disk_in_a_build_is_named_and_what_served_serves_on(host, wanted, before, served, playbook):
    known = host.check_output(f"ls {HOME}/releases")
    host.check_output("sh -ec %s", SMALL.format(home=HOME))
    try:
        run = playbook(*ARGUMENTS, variables={"flask_apps": [wanted | {"packages": ["redis-server"]}]})
        assert run.failed
        assert "could not be built, nothing that runs was touched" in run.error
        assert "the disk is full: make room on it" in run.error
        assert host.check_output(f"ls {HOME}/releases") == known
    finally:
        host.check_output(f"umount {HOME}/releases /mnt")
    assert served() == before


@pytest.mark.parametrize("step", STEPS)
def test_killed_run_leaves_what_served(step, host, wanted, before, served, start_playbook):
    if step in RELEASED:
        host.check_output(f"rm -f {RELEASED[step]}")
    run = start_playbook(*ARGUMENTS, variables={"flask_apps": [wanted]})
    end = time.monotonic() + 90
    while (there := host.run(STEPS[step].format(home=HOME)).rc) and run.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(run.pid, signal.SIGKILL)
    output, _none = run.communicate()
    assert there == 0, output
    host.run(KILL)
    release, workers = served()
    if step in BEFORE_THE_SWITCH:
        assert (release, set(before[1]) - set(workers)) == (before[0], set())


def test_next_run_heals_and_leaves_nothing_of_those_before(host, wanted, before, served, playbook):
    host.check_output("rm -f /etc/hold-build /etc/hold-prepare /etc/hold-after")
    run = playbook(*ARGUMENTS, variables={"flask_apps": [wanted]})
    assert not run.failed, run.error
    release, _workers = served()
    assert release != before[0]
    assert host.check_output(f"basename $(readlink {HOME}/current)") == release
    for _second in range(100):
        if not (left := host.check_output("sh -c %s", LEFT)):
            break
        time.sleep(0.2)
    assert not left
    _release, workers = served()
    assert not set(before[1]) & set(workers)
    assert len(host.check_output("ls /etc/emperor/vassals/jobs.*.ini").split()) == 1
    units = host.check_output(
        "systemctl list-units --plain --no-legend 'emperor-side-jobs.*@*' | cut -d ' ' -f 1"
    ).split()
    assert len(units) == 3
    jobs = host.check_output("ls /etc/emperor/sides/jobs").split()
    assert len(jobs) == 2  # a worker and one that serves; what has a schedule runs on the other host
    assert len(host.check_output("ls /run/emperor-sockets/jobs/sides").split()) == 1
