"""The watch on a worker's memory and its requests."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from role_program import load

PROGRAM = Path(__file__).parents[2] / "roles/uwsgi/files/worker_recycle.py"
worker_recycle = load(PROGRAM)
LIBRARY = Path(__file__).parents[2] / "plugins/module_utils/host.py"
setattr(worker_recycle, "LIBRARY", str(LIBRARY))  # noqa: B010

# Processes: the one that is watched, and one beside it.
OWN, OTHER = os.getpid(), 1

# A worker as the hook of a vassal file leaves it: it says with which signals it was asked to end, and does not.
WORKER = """
import json, os, signal, sys, time
recycle = {}
exec(open(sys.argv[1]).read(), recycle)
recycle.update(json.loads(sys.argv[2]))
signal.signal(signal.SIGHUP, lambda number, frame: os.write(1, b"asked\\n"))
recycle["start"](int(sys.argv[3]), 60, {"worker-reload-mercy": b"2", "stats": b"/nowhere.stats"})
del recycle
blocked, deadline = [], time.monotonic() + 10
while not any(blocked) and time.monotonic() < deadline:
    blocked = sorted(int(line.split()[1], 16) for task in os.listdir("/proc/self/task")
                     for line in open(f"/proc/self/task/{task}/status") if line.startswith("SigBlk"))
print(*blocked, flush=True)
leaked = bytearray(int(sys.argv[4]) << 20)
leaked[::1024] = b"x" * len(leaked[::1024])
os.write(1, b"leaked\\n")
time.sleep(int(sys.argv[5]))
"""


class Worker:
    """A process that a watch looks at, on a clock of its own.

    :ivar deeds: what the watch did: at which second, and the signal.
    :ivar looks: when uWSGI was asked.
    :ivar tracebacks: how often the journal was told what all threads do.
    :ivar sizes: the memory by the second from which on it has it; 100 is the limit.
    :ivar requests: what is at work: from when to when, by (when it began, whose it is, thread).
    :ivar alone: from when to when another worker is not there.
    :ivar dumb: from when to when uWSGI tells nothing.
    """

    def __init__(self, monkeypatch):
        self.deeds: list[tuple[float, int]] = []
        self.looks: list[float] = []
        self.tracebacks = 0
        self.now, self.sizes, self.requests, self.dumb, self.alone = 0.0, {0: 42}, {}, (0, 0), (0, 0)
        monkeypatch.setattr(worker_recycle, "resident", self.resident)
        monkeypatch.setattr(worker_recycle, "at_work", self.at_work)
        monkeypatch.setattr(worker_recycle.os, "kill", lambda _pid, number: self.deeds.append((self.now, number)))
        monkeypatch.setattr(worker_recycle.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(worker_recycle.time, "sleep", self.sleep)
        monkeypatch.setattr(worker_recycle.faulthandler, "dump_traceback", self.dump_traceback)

    def resident(self):
        return [size for at, size in self.sizes.items() if at <= self.now][-1]

    def sleep(self, seconds):
        self.now += seconds
        if self.now > 1000:
            self.sizes = {0: 100}  # the end of the test

    def dump_traceback(self, file):
        assert file == 2
        self.tracebacks += 1

    def at_work(self, stats):
        self.looks.append(self.now)
        assert stats == "web.stats"
        if self.dumb[0] <= self.now < self.dumb[1]:
            raise ConnectionRefusedError
        requests = {name for name, (begin, end) in self.requests.items() if begin <= self.now < end}
        return requests, not self.alone[0] <= self.now < self.alone[1]

    def watched(self):
        # In a thread of its own: it blocks its signals.
        thread = threading.Thread(target=worker_recycle.watch, args=(100, 30, 35, "web.stats"))
        thread.start()
        thread.join()
        return self.deeds


@pytest.fixture
def process(monkeypatch):
    return Worker(monkeypatch)


def test_first_look_at_a_worker_waits_for_its_least_age(process):
    process.sizes = {0: 100}
    assert process.watched()[0] == (10, signal.SIGHUP)


def test_worker_gets_one_signal_and_is_killed_when_it_does_not_end(process):
    process.sizes = {0: 99, 11: 42, 12: 100}
    assert process.watched() == [(12, signal.SIGHUP), (47, signal.SIGKILL)]
    assert not process.tracebacks


def test_requests_in_time_are_left_alone(process):
    process.requests = {(at, OWN, 0): (at, at + 29) for at in range(0, 900, 29)}
    assert process.watched()[0][0] > 1000
    assert sum(at < 1000 for at in process.looks) == 329, "not every tenth of the time"


def test_a_request_that_takes_too_long_is_killed_when_the_others_have_ended(process, capfd):
    process.requests = {(100, OWN, 0): (100, 999)} | {(at, OWN, 1): (at, at + 20) for at in range(90, 150, 20)}
    (asked, first), (killed, last) = process.watched()
    assert (first, last) == (signal.SIGHUP, signal.SIGKILL)
    assert 130 <= asked <= 130 + 2 * 3, "uWSGI is asked every tenth of the time"
    assert 150 <= killed <= 151
    assert "more than 30 s (max_request_seconds)" in capfd.readouterr().err
    assert process.tracebacks == 1


def test_other_requests_are_awaited_no_longer_than_their_time_limit(process):
    process.requests = {(100, OWN, 0): (100, 999), (125, OWN, 1): (125, 999)}
    (asked, _hup), (killed, _kill) = process.watched()
    assert 155 <= killed <= asked + 35


def test_one_worker_after_the_other_is_replaced(process):
    process.requests = {(101, OWN, 0): (101, 999), (100, OTHER, 0): (100, 200)}
    process.alone = (200, 300)  # until another process is there instead
    assert 300 <= process.watched()[0][0] <= 303


def test_request_with_unknown_begin_is_awaited_and_not_late(process):
    process.requests = {(0, OWN, 1): (0, 999), (100, OWN, 0): (100, 999)}
    (asked, _hup), (killed, _kill) = process.watched()
    assert 130 <= asked <= 136
    assert killed == asked + 35


def test_request_is_remembered_while_uwsgi_gives_no_statistics(process):
    process.requests, process.dumb = {(100, OWN, 0): (100, 999)}, (110, 125)
    assert 130 <= process.watched()[0][0] <= 136


def test_no_request_is_killed_early_while_uwsgi_gives_no_statistics(process):
    process.requests, process.dumb = {(100, OWN, 0): (100, 999), (110, OWN, 1): (110, 200)}, (131, 999)
    (asked, _hup), (killed, _kill) = process.watched()
    assert (asked, killed) == (130, 165)


def test_old_statistics_do_not_count_when_uwsgi_gives_no_new_ones(process):
    """Only a late request was left then, which could not be helped; meanwhile another one has come."""
    process.requests, process.alone, process.dumb = {(100, OWN, 0): (100, 999)}, (0, 999), (200, 999)
    process.sizes = {0: 42, 205: 100}
    assert process.watched() == [(205, signal.SIGHUP), (240, signal.SIGKILL)]


def answer(listening, document):
    connection, _address = listening.accept()
    with connection:
        connection.sendall(document)


def test_running_requests_are_read_from_uwsgi(tmp_path):
    core = {"id": 0, "in_request": 1, "req_info": {"request_start": 1000}}
    workers = [
        {"pid": 7, "status": "busy", "accepting": 1, "cores": [core, core | {"id": 1, "in_request": 0}]},
        {"pid": 8, "status": "busy", "accepting": 1, "cores": [core | {"id": 2, "req_info": {}}]},
        {"pid": 0, "status": "cheap", "accepting": 0, "cores": [core]},
    ]
    path = str(tmp_path / "stats")
    for there in (True, False):
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path)
            listening.listen()
            workers[0]["accepting"] = int(there)
            document = json.dumps({"workers": workers}).encode()
            thread = threading.Thread(target=answer, args=(listening, document))
            thread.start()
            assert worker_recycle.at_work(path) == ({(1000, 7, 0), (0, 8, 2)}, there)
            thread.join()
        Path(path).unlink()
    with pytest.raises(OSError, match="No such file"):
        worker_recycle.at_work(path)


def test_the_resident_memory_is_that_of_the_process():
    before = worker_recycle.resident()
    leaked = bytearray(64 << 20)
    leaked[::1024] = b"x" * len(leaked[::1024])
    assert 60 << 20 < worker_recycle.resident() - before < 80 << 20


@pytest.fixture
def worker():
    """Run a worker with a limit that leaks, both in MiB, and then hangs; returns what it printed, and how it ended."""

    def run(limit, leak, seconds=1):
        arguments = [PROGRAM, json.dumps({"YOUNG": 0, "INTERVAL": 0.05}), limit, leak, seconds]
        done = subprocess.run(
            [sys.executable, "-c", WORKER, *map(str, arguments)], stdout=subprocess.PIPE, text=True, check=False
        )
        return done.stdout.splitlines(), done.returncode

    return run


def test_a_worker_within_its_limit_is_left_alone(worker):
    (_blocked, *told), ended = worker(200, 1)
    assert (told, ended) == (["leaked"], 0)


def test_leaking_worker_is_recycled_and_killed_when_it_hangs(worker):
    began = time.monotonic()
    (_blocked, *told), ended = worker(100, 150, seconds=30)
    assert (sorted(told), ended) == (["asked", "leaked"], -signal.SIGKILL)
    assert time.monotonic() - began > 2, "it had no time for its requests"


def test_the_thread_that_serves_gets_the_signals(worker):
    (blocked, *_told), _ended = worker(200, 1)
    serving, watching = map(int, blocked.split())
    assert serving == 0
    assert watching & 1 << signal.SIGHUP - 1
