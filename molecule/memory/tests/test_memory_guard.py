"""The memory guard on a host whose apps leak, while clients who notice everything ask them.

A container shows the memory of the whole machine. So the guard is told to begin at what is available less a little, and
the hosts have their turns.
"""

import re
import threading
import time

import pytest
from asking import ask
from load_client import Load, Options, Target

APPS = ("one", "two", "three")
KINDS = {"get_keep": 1, "get_close": 1, "post": 1, "slow": 1, "long": 1}
UNIT = "emperor-memory-guard.service"
DROP_IN = f"/run/systemd/system/{UNIT}.d"
WITH_FLOOR = f"""
mkdir -p {DROP_IN}
{{ printf '[Service]\\nExecStart=\\n'
  sed -n 's/--floor=[^ ]*/--floor=%dM/; /^ExecStart=/p' /etc/systemd/system/{UNIT}
}} > {DROP_IN}/floor.conf
systemctl daemon-reload && systemctl restart {UNIT}
"""
ASKED = re.compile(
    r"asked the (idle|busy) worker (\d) of (\w+) \(pid (\d+), (\d+) MiB of its own\) to end after its requests: "
    r"(\d+) MiB of memory are available, twice the floor is (\d+) MiB"
)
REPLACED = re.compile(
    r"worker (\d) of (\w+) is replaced \(pid (\d+), (\d+) MiB of its own\): available memory went from "
)


def available(host):
    """MiB."""
    return int(host.check_output("grep MemAvailable /proc/meminfo").split()[1]) // 1024


def workers(host):
    return host.check_output(f"pgrep --euid {','.join(APPS)} --full 'vassals/[a-z]*[.][bg]'").split()


@pytest.fixture
def set_floor(host):
    """Set the floor of the guard to so many MiB until the test ends."""
    yield lambda floor: host.check_output(WITH_FLOOR % floor)
    host.check_output(f"rm -r {DROP_IN} && systemctl daemon-reload && systemctl restart {UNIT}")


@pytest.fixture
def told(host):
    """What the guard wrote to the journal since the test began, or since the last call."""

    def read():
        command = f"journalctl --quiet --no-pager --output=cat _SYSTEMD_UNIT={UNIT} --cursor-file=/run/guard.cursor"
        return host.check_output(command).splitlines()

    host.check_output(f"echo begin | systemd-cat --identifier=begin; journalctl --sync; systemctl is-active {UNIT}")
    read()
    return read


@pytest.fixture
def clients(host, addresses):
    """Clients of all apps on the host, for use with `with`."""
    address = f"{addresses[host.backend.name]}:80"
    return Load([Target(app, address, f"{app}.test") for app in APPS], Options(kinds=KINDS, pause=0.1))


class Lowest(threading.Thread):
    """The least memory that was available on a host, in MiB; for use with `with`."""

    def __init__(self, host):
        super().__init__()
        self.host, self.found, self.over = host, available(host), threading.Event()

    def run(self):
        while not self.over.wait(0.3):
            self.found = min(self.found, available(self.host))

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *error):
        self.over.set()
        self.join()


def test_the_unit_is_locked_down(host):
    line = host.check_output(f"systemd-analyze security --no-pager {UNIT}").splitlines()[-1]
    assert float(line.split(":")[1].split()[0]) <= 1.2, line
    pid = host.check_output(f"systemctl show --property=MainPID --value {UNIT}")
    status = dict(line.split(":\t", 1) for line in host.file(f"/proc/{pid}/status").content_string.splitlines())
    assert status["Uid"].split()[0] != "0"
    assert {int(status[name], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {1 << 5}  # CAP_KILL


def test_with_enough_memory_no_worker_is_replaced(host, set_floor, told):
    before = workers(host)
    set_floor(available(host) // 3)
    assert set(ask(host, "/leak?kb=1024", 60, apps=APPS)) == {"200"}
    time.sleep(3)
    assert not [line for line in told() if "asked" in line]
    assert workers(host) == before


def test_leaking_apps_leave_memory_above_the_floor_without_a_failed_request(host, set_floor, told, clients):
    """They leak 900 MiB in a minute, and would go to 800 MiB below where the guard begins.

    Workers in their first 10 s are left alone, and what a replacement gives back is what others have more than those.
    So nine workers may have 16 MiB each, and what they leak in 10 s.
    """
    begin = (available(host) - 100) // 2 * 2
    set_floor(begin // 2)
    with clients as load, Lowest(host) as lowest:
        leaked = ask(host, "/leak?kb=512", 600, 0.03, apps=APPS)
    lines = told()
    print("\n".join(lines), load.report, f"lowest: {begin - lowest.found} MiB below the begin", sep="\n")
    assert leaked == {"200": 1800}
    assert not load.report.failures, load.report
    assert begin - lowest.found < 450
    decisions = [line for line in lines if ASKED.search(line) or REPLACED.search(line)]
    assert len(decisions) >= 4
    for first, second in zip(decisions[::2], decisions[1::2], strict=False):  # one at a time
        asked, replaced = ASKED.search(first), REPLACED.search(second)
        assert asked, first
        assert replaced, second
        assert asked.group(2, 3) == replaced.group(1, 2)
        assert int(asked[6]) < int(asked[7]) == begin
    assert len(workers(host)) == 12


def test_when_it_is_urgent_a_busy_worker_is_replaced_after_its_requests(host, set_floor, told):
    assert ask(host, "/leak?kb=1024", 150, apps=["one"]) == {"200": 150}
    slow, lines = [], []
    asking = threading.Thread(target=lambda: slow.append(ask(host, "/slow?ms=10000", 1, threads=12, apps=["one"])))
    asking.start()
    time.sleep(1)
    set_floor(3 * available(host))

    def busy():
        """The worker that was asked, and whether it was replaced."""
        asked = [found for line in lines if (found := ASKED.search(line)) and found.group(1, 3) == ("busy", "one")]
        replaced = [found.group(1, 2) for line in lines if (found := REPLACED.search(line))]
        return asked and asked[0].group(2, 3) in replaced

    deadline = time.monotonic() + 30
    while not busy() and time.monotonic() < deadline:
        time.sleep(0.5)
        lines += told()
    asking.join()
    assert busy(), "\n".join(lines)
    assert slow == [{"200": 12}]
