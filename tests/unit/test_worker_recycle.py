"""The watch on a worker's memory."""

import importlib.util
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "roles/uwsgi/files/worker_recycle.py"
specification = importlib.util.spec_from_file_location("worker_recycle", PROGRAM)
assert specification
assert specification.loader
worker_recycle = importlib.util.module_from_spec(specification)
specification.loader.exec_module(worker_recycle)

# A worker as the hook of a vassal file leaves it: it says with which signals it was asked to end, and does not.
WORKER = """
import json, os, signal, sys, time
recycle = {}
exec(open(sys.argv[1]).read(), recycle)
recycle.update(json.loads(sys.argv[2]))
signal.signal(signal.SIGHUP, lambda number, frame: os.write(1, b"asked\\n"))
recycle["start"](int(sys.argv[3]), 2)
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


@pytest.fixture
def noted(monkeypatch):
    """What a watch does at which sizes, as (what, seconds or signal)."""

    def watch(*sizes):
        deeds, left = [], list(sizes)
        monkeypatch.setattr(worker_recycle, "resident", lambda: left.pop(0))
        monkeypatch.setattr(worker_recycle.os, "kill", lambda pid, number: deeds.append(("kill", number)))
        monkeypatch.setattr(worker_recycle.time, "sleep", lambda seconds: deeds.append(("wait", seconds)))
        # In a thread of its own: it blocks its signals.
        thread = threading.Thread(target=worker_recycle.watch, args=(100, 60))
        thread.start()
        thread.join()
        return deeds

    return watch


def test_the_first_look_at_a_worker_is_when_it_is_old_enough(noted):
    assert noted(100)[:2] == [("wait", 10), ("kill", signal.SIGHUP)]


def test_a_worker_is_asked_once_and_killed_when_it_does_not_end(noted):
    end = [("kill", signal.SIGHUP), ("wait", 60), ("kill", signal.SIGKILL)]
    assert noted(99, 42, 100) == [("wait", 10), ("wait", 1), ("wait", 1), *end]


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


def test_a_worker_that_leaks_is_asked_to_end_and_when_it_hangs_killed(worker):
    began = time.monotonic()
    (_blocked, *told), ended = worker(100, 150, seconds=30)
    assert (sorted(told), ended) == (["asked", "leaked"], -signal.SIGKILL)
    assert time.monotonic() - began > 2, "it had no time for its requests"


def test_the_thread_that_serves_gets_the_signals(worker):
    (blocked, *_told), _ended = worker(200, 1)
    serving, watching = map(int, blocked.split())
    assert serving == 0
    assert watching & 1 << signal.SIGHUP - 1
