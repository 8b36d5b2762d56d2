"""Side processes follow the releases: no job is lost or done twice; a worker that does not start changes nothing."""

import http.client
import json
import re
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

HOME = "/srv/flask_apps/jobs"
WORKERS = "systemctl list-units --plain --no-legend --state=%s 'emperor-side-jobs.worker@*' | cut -d ' ' -f 1"


@pytest.fixture
def workers(fleet):
    """The units of the workers that are in a state, on the first host."""
    return lambda state="running": sorted(fleet[0].check_output(WORKERS, state).split())


class Sockets:
    """Clients of a side process's WebSockets, on a host; `found` is what they saw."""

    def __init__(self, host):
        self.host, self.found = host, {}
        self.thread = threading.Thread(target=self.ask)

    def ask(self):
        python = f"{HOME}/releases/$(basename $(readlink {HOME}/current))/venv/bin/python"
        program = Path(__file__).with_name("sockets.py").read_text()
        run = self.host.run(f"rm -f /tmp/stop; {python} -c %s /tmp/stop jobs.test /live", program)
        self.found = json.loads(run.stdout) if run.rc == 0 else {"failures": [run.stderr]}

    def __enter__(self):
        self.thread.start()
        time.sleep(2)
        return self

    def __exit__(self, *_exception):
        self.host.check_output("touch /tmp/stop")
        self.thread.join()


@pytest.fixture
def deploy(playbook, apps):
    """Deploy the app with other settings, on the first host alone."""

    def run(changes, *arguments):
        changed = {"flask_apps": [apps["jobs"] | changes]}
        return playbook("deploy", "-e", "app=jobs", "--limit=webservers[0]", *arguments, variables=changed)

    return run


def until(condition, seconds=60):
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.2)


def lines(host, path):
    """The lines of a file of the app."""
    return host.check_output(f"cat {HOME}/shared/{path} 2>/dev/null || true").splitlines()


def wait_for_work(host, least):
    """Wait until the workers have written so many lines, or none for longer than RQ needs to find a dropped job."""
    seen, since = -1, time.monotonic()
    while seen < least and time.monotonic() - since < 150:
        found = len(lines(host, "done"))
        if found != seen:
            seen, since = found, time.monotonic()
        time.sleep(0.5)


def test_side_processes_run_as_the_app_in_its_sandbox(fleet):
    for host in fleet:
        name = host.check_output(WORKERS, "running").split()[0]
        pid = host.check_output(f"systemctl show --value --property=MainPID {name}")
        assert host.check_output(f"stat --format=%U /proc/{pid}") == "jobs"
        emperor = host.check_output("systemctl show --value --property=MainPID emperor-app@jobs.service")
        for key in ("NoNewPrivs", "Seccomp", "Umask"):
            values = [host.check_output(f"grep ^{key}: /proc/{one}/status") for one in (pid, emperor)]
            assert values[0] == values[1]
        assert "the key of the jobs" in host.check_output(f"tr '\\0' '\\n' < /proc/{pid}/environ")
        assert host.check_output(f"readlink /proc/{pid}/cwd").startswith(f"{HOME}/releases/")
        assert host.run(f"nsenter --target={pid} --mount touch /etc/x").rc == 1
        assert host.run("grep -r 'the key of the jobs' /etc/systemd /run/systemd").rc == 1
        jobs = host.check_output("find /etc/emperor/sides/jobs -type f -printf '%u:%g %m\\n' | sort -u")
        assert jobs == "root:jobs 440"
        limit = host.check_output("cat /etc/emperor/vassals/jobs.limit")
        assert host.check_output("systemctl show --value --property=MemoryMax emperor-jobs-side.slice") == limit
        # What the kernel knows of it, with control groups of version 1 or 2.
        told = "find /sys/fs/cgroup -path '*/emperor-jobs-side.slice/%s' -exec cat {} +"
        assert host.check_output(told % "memory.max" + "; " + told % "memory.limit_in_bytes") == limit
        tasks = host.check_output("sed -n 's/^side_tasks = //p' /etc/emperor/vassals/jobs.*.ini")
        assert host.check_output(told % "pids.max") == tasks != ""
        assert "started with PID" in host.check_output("journalctl --no-pager --quiet -t jobs-worker")


def test_status_tells_how_they_do(playbook):
    run = playbook("status", "-e", "app=jobs")
    assert not run.failed, run.error
    assert "side processes of jobs on emperor-debian12: live 1 of 1 run, worker 2 of 2 run, tick " in run.output
    assert "side processes of jobs on emperor-debian13: live 1 of 1 run, worker 2 of 2 run\n" in run.output


def test_scheduled_job_runs_on_one_host_of_the_fleet(fleet):
    until(lambda: lines(fleet[0], "ticks"))
    release = fleet[0].check_output(f"basename $(readlink {HOME}/current)")
    assert set(lines(fleet[0], "ticks")) == {"JOBS_KEY=the key of the jobs", f"RELEASE_ID={release}"}
    assert not lines(fleet[1], "ticks")
    assert fleet[1].run("systemctl is-active emperor-side-jobs.tick.timer").rc != 0


def test_no_job_is_lost_or_done_twice_through_deploys(apps, giver, variant, playbook, fleet, workers):
    with Sockets(fleet[0]) as sockets, giver() as load:
        old = workers()
        first, second, third = (variant(apps["jobs"], {"note.txt": f"release {number}"}) for number in range(3))
        steps = [("deploy", first), ("rollback", first), ("deploy", second), ("rollback", second), ("deploy", third)]
        for step, settings in steps:
            # The release whose workers still end their work stays until they have.
            variables = {"flask_apps": [settings], "flask_apps_keep_releases": 1 if settings is third else 5}
            run = playbook(step, "-e", "app=jobs", "--limit=webservers[0]", variables=variables)
            assert not run.failed, run.error
            assert not set(old) & set(workers())
            assert len(workers()) == 2
            old = workers()
    assert not load.failures, load.failures[:3]
    # New WebSockets always come in, to all releases; one that is open ends with its release: 1012, service restart.
    assert not sockets.found["failures"], sockets.found["failures"][:3]
    assert sockets.found["asked"] > 100
    assert len(sockets.found["releases"]) == 4
    assert sockets.found["heard"] == [1012] * len(steps)
    # Where a client sends something just then, nginx cannot pass it on, closes both sides, and that word is lost (0).
    closed = sockets.found["closed"]
    assert len(closed) == len(steps)
    assert set(closed) <= {1012, 0}
    wanted = Counter(f"{what} {number}" for number in load.taken for what in ("began", "ended"))
    wait_for_work(fleet[0], wanted.total())
    until(lambda: not workers("deactivating"))
    done = [line.rpartition(" ") for line in lines(fleet[0], "done")]
    told = Counter(what for what, _space, _release in done)
    assert told == wanted, {"lost": wanted - told, "twice": told - wanted}
    assert len({release for _what, _space, release in done}) == 4
    # Not always the last one in `done`: a worker of the release before may end last.
    current = fleet[0].check_output(f"basename $(readlink {HOME}/current)")
    until(lambda: lines(fleet[0], "ticks")[-1] == f"RELEASE_ID={current}")


def test_side_process_serves_a_path_as_clients_ask_for_it(client):
    told = client("jobs").json("/live/some%20where?a=1")
    assert told["path"] == "/live/some where"
    assert told["headers"]["host"] == "jobs.test"
    assert told["headers"]["x-forwarded-proto"] == "http"
    assert "upgrade" not in told["headers"]
    assert client("jobs").ask("GET", "/live")[0] == 200
    assert "headers" not in client("jobs").ask("GET", "/lively")[1]


def test_side_process_is_asked_for_no_other_protocol_than_websocket(client):
    """By h2c a client would speak with it past nginx, and send what headers it likes."""
    connection = http.client.HTTPConnection(client("jobs").address, timeout=40)
    settings = {"Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAAP__", "Connection": "Upgrade, HTTP2-Settings"}
    connection.request("GET", "/live", headers={"Host": "jobs.test", **settings})
    headers = json.loads(connection.getresponse().read())["headers"]
    assert "upgrade" not in headers
    assert "upgrade" not in headers.get("connection", "").lower()


def test_worker_that_does_not_start_fails_the_release(apps, client, variant, deploy, fleet, workers):
    before, served = workers(), client("jobs").ask("GET", "/")
    broken = {"worker": {"command": "python -c 'import os, nothing_like_it'", "start_seconds": 20}}
    run = deploy(variant(apps["jobs"], {"note.txt": "broken"}) | {"background": broken})
    assert run.failed
    assert "its side process worker does not start: the module nothing_like_it is missing" in run.error
    assert workers() == before
    assert client("jobs").ask("GET", "/") == served
    assert (
        fleet[0].check_output("ls /etc/systemd/system/multi-user.target.wants | grep -c emperor-side-jobs.worker")
        == "2"
    )
    run = deploy({"schedule": {"tick": {"command": "true", "calendar": "someday"}}})
    assert "flask_apps[jobs].schedule.tick.calendar is 'someday', but systemd does not understand that" in run.error


CROWD = (
    "python -c 'import threading, time; [threading.Thread(target=time.sleep, args=[600]).start() for _ in range(90)]'"
)


def test_app_that_may_have_no_more_processes_is_told_so_at_once(apps, client, deploy, workers):
    before, served = workers(), client("jobs").ask("GET", "/")
    began = time.monotonic()
    crowd = apps["jobs"]["background"] | {"crowd": {"command": CROWD, "start_seconds": 1}}
    run = deploy({"max_tasks": 64, "background": crowd})
    assert run.failed
    assert re.search(
        r"(?:did|would) not start: it may not start another process or thread: max_tasks is 64, and its user has "
        r"1\d\d now, those of side processes included\. Set flask_apps\[jobs\]\.max_tasks",
        run.error,
    ), run.error
    assert time.monotonic() - began < 60
    assert workers() == before
    assert client("jobs").ask("GET", "/") == served


# Starts threads as long as the kernel lets it, once it is told to; forks are not counted otherwise.
ENDLESS = """python -c '
import os, threading, time
while not os.path.exists(os.path.expanduser("~/go")):
    time.sleep(0.1)
try:
    while threading.active_count() < 1000:
        threading.Thread(target=time.sleep, args=[600], daemon=True).start()
except RuntimeError:
    pass
with open(os.path.expanduser("~/threads"), "w") as file:
    file.write(str(threading.active_count()))
time.sleep(600)'"""


def test_side_process_that_forks_without_end_leaves_the_web_workers_theirs(apps, client, deploy, fleet):
    host, endless = fleet[0], {"endless": {"command": ENDLESS, "start_seconds": 1}}
    # Less than systemd lets one unit have by itself, which is 15 % of what the host has.
    run = deploy({"max_tasks": 200, "background": apps["jobs"]["background"] | endless})
    assert not run.failed, run.error
    host.check_output(f"touch {HOME}/shared/go")
    until(lambda: lines(host, "threads"))
    assert 100 < int(lines(host, "threads")[0]) < 200
    before = set(host.check_output("pgrep -u jobs uwsgi").split())
    host.check_output("pkill -KILL -u jobs uwsgi")
    until(lambda: len(set(host.run("pgrep -u jobs uwsgi").stdout.split()) - before) == len(before))
    assert client("jobs").ask("GET", "/")[0] == 200
    host.check_output(f"rm {HOME}/shared/go {HOME}/shared/threads")


def test_changed_settings_restart_only_what_differs(apps, deploy, fleet, workers):
    more = apps["jobs"]["background"] | {"other": {"command": "sleep infinity", "start_seconds": 1}}
    run = deploy({"background": more}, "--diff")
    assert not run.failed, run.error
    assert "side processes: other new" in run.output
    assert "+other.command = sleep infinity" in run.output
    assert "the key of the jobs" not in run.output
    before = workers()
    less = {"background": more | {"other": {"command": "sleep 9d", "start_seconds": 1}}, "schedule": {}}
    run = deploy(less, "--check")
    assert "side processes: other changed, tick to be removed" in run.output
    run = deploy(less)
    assert not run.failed, run.error
    workers_now = [name for name in workers() if ".worker@" in name]
    assert workers_now == [name for name in before if ".worker@" in name]
    assert fleet[0].check_output("pgrep -u jobs -a sleep | cut -d ' ' -f 2-") == "sleep 9d"
    assert fleet[0].run("ls /etc/systemd/system | grep jobs.tick").rc == 1


def test_absent_app_leaves_no_side_process(playbook, fleet, workers):
    assert workers()
    run = playbook("remove", "-e", "app=jobs", "-e", "confirm=yes", "--limit=webservers[0]")
    assert not run.failed, run.error
    assert not fleet[0].run("systemctl list-units --all --no-legend 'emperor-side-jobs*'").stdout
    left = "find /etc/systemd /etc/emperor /run/systemd/system /srv/flask_apps -name '*jobs*'"
    assert fleet[0].check_output(left) == ""
