"""logs.yml shows what was logged, goes on with what is logged meanwhile, and ends without a trace on the hosts."""

import os
import re
import signal
import threading
import time
from datetime import datetime

import pytest
from conftest import FLUSH

LINE = re.compile(r"  (\S+Z) (\S+) desk (request|journal) (.*)")
ROTATE = "logrotate --force --state /var/lib/logrotate/flask_apps.status /etc/flask_apps/logrotate.conf"
# A module that the host keeps, or a program that Ansible hands to Python; and the server of usercustomize.py for these.
MODULE = re.compile(r"\S*python3[.\d]*( -IS \S*/kept\.py [\w ]+| -c import usercustomize.*)?")
WAIT = 120  # seconds for a line to come, on a slow machine


def wait(check):
    """Wait until something is true."""
    end = time.monotonic() + WAIT
    while not check():
        assert time.monotonic() < end
        time.sleep(0.2)


class Reader:
    """Reads what a process prints, as it prints it.

    :ivar lines: read so far.
    """

    def __init__(self, process):
        self.process, self.lines = process, []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def wait(self, *parts):
        """Wait for a line of the log with all these parts; returns it."""
        end = time.monotonic() + WAIT
        while time.monotonic() < end and self.process.poll() is None:
            for line in self.lines:
                if LINE.fullmatch(line) and all(part in line for part in parts):
                    return line
            time.sleep(0.1)
        pytest.fail(f"{parts} did not come:\n" + "\n".join(self.lines))


@pytest.fixture
def follow(start_playbook):
    """Follow the log of the desk; returns what reads it."""
    started = []

    def start(*arguments):
        process = start_playbook("logs", "-e", "app=desk", "-e", "since=5m", "-e", "follow=1", *arguments)
        started.append(process)
        return Reader(process)

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def test_logs_of_all_hosts_are_shown_and_followed_until_ctrl_c(follow, fleet, ask):
    def fail(host):
        return ask(host, "/fail")["headers"]["x-request-id"]

    def modules():
        """How many of Ansible's programs run on the hosts."""
        found = [MODULE.fullmatch(line) for host in fleet for line in host.check_output("ps -eo args").splitlines()]
        return sum(map(bool, found))

    before, idle = [fail(host) for host in fleet], modules()
    time.sleep(FLUSH)
    began = time.time()
    reader = follow()
    for one in before:
        reader.wait(one, " desk request ")
        reader.wait(one, " desk journal ")
    moments = [datetime.fromisoformat(found[1]).timestamp() for line in reader.lines if (found := LINE.fullmatch(line))]
    # Later ones come as they are written, and nginx writes a request up to a second after its moment.
    shown = [moment for moment in moments if moment < began - FLUSH]
    assert shown == sorted(shown), "what was there before is in the order of time"
    assert len(shown) > len(before)
    seen = []
    for turn in range(3):
        for host in fleet:
            seen.append(one := fail(host))
            reader.wait(one, " desk request ")
            reader.wait(one, " desk journal ", "got 500")
            if turn == 1:
                host.check_output(ROTATE)
    wait(lambda: modules() > idle)
    os.killpg(reader.process.pid, signal.SIGINT)
    reader.process.wait(WAIT)
    lines = [LINE.fullmatch(line) for line in reader.lines if LINE.fullmatch(line)]
    for one in [*before, *seen]:
        found = [(line[2], line[3]) for line in lines if one in line[4]]
        assert sorted(kind for _host, kind in found) == ["journal", "request"], f"once each: {found}"
        assert len({host for host, _kind in found}) == 1
    wait(lambda: modules() == idle)  # they end by themselves
