"""Workers that come and go, while clients who notice everything ask."""

import json
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from asking import ask
from load_client import Load, Options, Target

# Looks at the workers of an instance until stdin ends. Tells how many were seen running, when first; and of each that
# ended its number and its memory in MiB at the last look.
LOOK = """
import json, resource, select, socket, sys, time
begin, running, last, ended = time.monotonic(), {}, {}, []
def resident(pid):  # 0 when it has just ended
    try:
        with open("/proc/%s/statm" % pid) as file:
            return int(file.read().split()[1]) * resource.getpagesize() >> 20
    except OSError:
        return 0
while not select.select([sys.stdin], [], [], 0.05)[0]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(sys.argv[1])
        told = json.load(connection.makefile())
    now = {}
    for one in told["workers"]:
        if one["pid"] and one["accepting"]:
            # What it had at most: a process that ends gives its memory back piece by piece.
            now[one["pid"]] = one["id"], max(resident(one["pid"]), last.get(one["pid"], (0, 0))[1])
    running.setdefault(len(now), round(time.monotonic() - begin, 1))
    ended += [last[pid] for pid in last if pid not in now]
    last = now
print(json.dumps({"running": running, "ended": ended}))
"""

# The memory of all processes of a user, and that of the largest one, in MiB. Reads as that user, as the kernel shows it
# to nobody else who may not trace the processes, root in a container for one.
MEMORY = """
import json, os, pwd, re, sys
user = pwd.getpwnam(sys.argv[1])
os.setgroups([]); os.setgid(user.pw_gid); os.setuid(user.pw_uid)
told = []
for pid in filter(str.isdigit, os.listdir("/proc")):
    if os.stat("/proc/" + pid).st_uid == user.pw_uid and int(pid) != os.getpid():
        with open("/proc/%s/smaps_rollup" % pid) as file:
            told.append(dict(re.findall(r"^(Rss|Pss): +(\\d+)", file.read(), re.M)))
print(json.dumps([sum(int(one["Pss"]) for one in told) // 1024, max(int(one["Rss"]) for one in told) // 1024]))
"""


def load_of(addresses, app):
    """Clients of an app on every host, for use with `with`."""
    targets = [Target(name, f"{address}:80", f"{app}.test") for name, address in addresses.items()]
    return Load(targets, Options(kinds={"get_keep": 1, "get_close": 1, "post": 1, "slow": 1}, pause=0.2))


@pytest.fixture
def clients(addresses):
    return lambda app: load_of(addresses, app)


class Look:
    """What LOOK found on a host while a `with` block ran, in `found`."""

    def __init__(self, host, app):
        stats = host.check_output(f"ls /run/emperor/{app}/*.stats")
        self.command = ["docker", "exec", "-i", host.backend.name, "python3", "-c", LOOK, stats]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *error):
        self.found = json.loads(self.process.communicate("\n")[0])


def everywhere(fleet, deed):
    """Do something on all hosts at the same time."""
    with ThreadPoolExecutor(len(fleet)) as pool:
        return list(pool.map(deed, fleet))


def deploy(playbook, app):
    run = playbook("deploy", "-e", f"app={app['name']}", variables={"flask_apps": [app]})
    assert not run.failed, run.error


@pytest.fixture(scope="module")
def rushed(apps, playbook, addresses, fleet):
    """App two after a rush, with few clients left: what was seen running on each host meanwhile, and those clients."""
    deploy(playbook, apps["two"] | {"workers": {"processes": 4, "threads": 2, "minimum": 1}})

    def rush(host):
        with Look(host, "two") as look:
            assert ask(host, "/slow?ms=200", 60, threads=8, apps=["two"]) == {"200": 480}
        return look.found["running"]

    with load_of(addresses, "two") as load:
        yield everywhere(fleet, rush), load


def test_workers_are_added_under_load(rushed):
    seen, _load = rushed
    print(*seen, sep="\n")
    for running in seen:
        assert {"1", "4"} <= set(running), "not from the least to the most"


def test_workers_that_leak_alike_end_at_different_sizes(apps, playbook, clients, fleet):
    """The first at 160 MiB, each other one 16 MiB earlier.

    Slowly: a worker is never ended in its first 10 s, and the hosts may give one worker all of these requests.
    """
    deploy(playbook, apps["one"] | {"memory": {"worker_recycle": "160M"}})

    def leak(host):
        with Look(host, "one") as look:
            assert ask(host, "/leak?kb=512", 1100, 0.07, apps=["one"]) == {"200": 1100}
        return look.found

    with clients("one") as load:
        looks = everywhere(fleet, leak)
    print(load.report, *looks, sep="\n")
    assert not load.report.failures, load.report
    for found in looks:
        assert set(found["running"]) <= {"2", "3"}, "two were replaced at the same time"
        assert {number for number, _size in found["ended"]} == {1, 2, 3}
        for number, size in found["ended"]:
            # It looks once a second, and may leak 7 MiB meanwhile.
            assert -2 < size - (160 - 16 * (number - 1)) < 12, (number, size)


# As ps tells them: SCHED_BATCH and SCHED_OTHER.
@pytest.mark.parametrize(("app", "policy"), [("one", "B"), ("three", "TS")])
def test_a_worker_that_wakes_up_interrupts_others_only_where_that_is_wanted(app, policy, fleet):
    for host in fleet:
        threads = host.check_output("ps -L -u %s -o cls=,args=", app).splitlines()
        assert {thread.split()[0] for thread in threads if "--zerg" in thread} == {policy}


@pytest.mark.parametrize("hanging", [1, 6])
def test_late_requests_fail_no_other_requests(hanging, apps, playbook, clients, fleet):
    """Others end all the time, with each of which uWSGI's own harakiri forgets them. And none is asked again.

    Six hang in all three workers, which so are replaced one after the other.
    """
    deploy(playbook, apps["one"] | {"max_request_seconds": 5})
    time.sleep(10)  # a worker is not looked at before

    def hang(host):
        began = host.check_output("date +@%s")
        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(ask, host, "/slow?ms=2000", 8, threads=8, apps=["one"])
            hung = ask(host, "/slow?ms=60000", 1, threads=hanging, apps=["one"])
            others = asking.result()
        return hung, others, host.check_output("journalctl --output cat --identifier one --since %s", began)

    with clients("one") as load:
        seen = everywhere(fleet, hang)
    print(load.report, *seen, sep="\n")
    assert not load.report.failures, load.report
    for hung, others, told in seen:
        assert set(hung) <= {"502", "504"}
        assert sum(hung.values()) == hanging
        assert others == {"200": 64}
        assert "in slow" in told, "no word of what hangs"
        assert 1 <= told.count("Respawned") <= min(hanging, 3)


def test_workers_share_a_model(apps, playbook, fleet):
    """Four of them and their master, after requests that read all of it, need hardly more than one alone."""
    app = apps["three"] | {"profile": "inference", "workers": {"processes": 4}, "environment": {"SHOP_MODEL_MB": "200"}}
    deploy(playbook, app)
    for host in fleet:
        assert ask(host, "/model", 10, threads=8, apps=["three"]) == {"200": 80}
        total, largest = json.loads(host.check_output("python3 -c %s three", MEMORY))
        print(f"{host.backend.name}: {total} MiB in all, {largest} MiB the largest process")
        assert largest > 200, "the model is not there"
        assert total < 1.3 * largest


def test_workers_are_removed_after_the_load_without_a_failed_request(rushed, fleet):
    """The last test here: they go one by one, in two minutes, which the others have taken meanwhile."""
    _seen, load = rushed

    def rest(host):
        deadline = time.monotonic() + 240
        while (left := len(host.check_output("pgrep --euid two --full vassals/two.[bg]").split()) - 1) > 1:
            assert time.monotonic() < deadline, left
            time.sleep(1)

    everywhere(fleet, rest)
    load.stop()
    print(load.report)
    assert not load.report.failures, load.report
