"""The process that makes the load: when it is ready, how it ends, and that it does not outlive the tests."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from load_client import Load, Options, Target  # type: ignore[import-not-found]  # see tests/conftest.py
from load_report import KINDS, Report  # type: ignore[import-not-found]
from load_server import HOST, KEEP, SCRIPT, answer, gone, good  # type: ignore[import-not-found]  # beside this file


def test_stop_waits_for_requests_in_flight(server):
    with Load([server.target], Options({"get_keep": 1, "long": 1}, long=0.5)) as load:
        report = load.stop()
        # Again is no error
        assert load.stop() is report
    assert report.failed == 0, report
    longs = [took for took, kind in zip(report.took, report.kind, strict=True) if KINDS[kind] == "long"]
    assert len(longs) == 1
    assert longs[0] >= 0.5


def test_request_without_an_answer_at_the_end_is_unanswered(server):
    hangs = threading.Event()
    server.act = lambda request: hangs.wait(10) and None if "ms=" in request.path else good(request)
    begun = time.monotonic()
    with Load([server.target], Options({"get_keep": 1, "long": 1}, drain=0.3)) as load:
        pass
    hangs.set()
    assert time.monotonic() - begun < 5
    assert [(failure.kind, failure.reason) for failure in load.report.failures] == [
        ("long", "unanswered when the load ended")
    ]


def test_the_process_is_gone_when_the_block_raises(server):
    load = Load([server.target], Options({"long": 1}))

    def test():
        with load:
            assert not gone(load.process.pid)
            raise KeyError

    with pytest.raises(KeyError):
        test()
    assert gone(load.process.pid)
    # Without waiting for the answer
    assert load.process.returncode == -signal.SIGKILL
    with pytest.raises(RuntimeError, match="has not been stopped"):
        load.report  # noqa: B018


def test_the_process_does_not_outlive_the_tests(server):
    program = f"""
import sys, time
sys.path.insert(0, {str(SCRIPT.parent)!r})
from load_client import Load, Options, Target
with Load([Target("shop", {server.address!r}, "{HOST}")], Options({KEEP})) as load:
    print(load.process.pid, flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as tests:
        assert tests.stdout
        pid = int(tests.stdout.readline())
        assert not gone(pid)
        tests.kill()
    deadline = time.monotonic() + 10
    while not gone(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_load_is_ready_when_every_client_is_ready(server):
    server.act = lambda request: good(request) if request.number >= 2 else answer(503, "starting")
    with Load([server.target], Options(KEEP)) as load:
        assert len(server.requests) >= 3
    assert load.report.failed == 2


def test_a_load_that_does_not_get_ready_is_an_error(server):
    server.act = lambda request: answer(503, "starting")
    load = Load([server.target], Options(KEEP), ready_seconds=0.3)
    with pytest.raises(RuntimeError, match=r"within 0.3 s: (.|\n)* status 503: starting"), load:
        pass
    assert gone(load.process.pid)


def test_a_load_that_ended_by_itself_is_an_error(server):
    """Also while it still waits for requests in flight."""
    load = Load([server.target], Options({"long": 1}), seconds=5)  # its Python starts meanwhile, too
    with pytest.raises(RuntimeError, match="ended before it was stopped"), load:
        time.sleep(5)
    assert gone(load.process.pid)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_load_that_is_killed_is_an_error(server, number):
    load = Load([server.target], Options(KEEP))

    def test():
        with load:
            load.process.send_signal(number)
            os.waitid(os.P_PID, load.process.pid, os.WEXITED | os.WNOWAIT)

    with pytest.raises(RuntimeError, match="ended before it was stopped"):
        test()


def test_a_load_that_fails_at_the_end_is_an_error(server):
    load = Load([server.target], Options({"long": 1}))

    def test():
        with load:
            threading.Timer(0.1, load.process.kill).start()
            load.stop()

    with pytest.raises(RuntimeError, match="the load failed"):
        test()


@pytest.mark.parametrize("address", ["localhost:80", "127.0.0.1", "127.0.0.1:http"])
def test_address_that_is_no_number_is_refused(address):
    with pytest.raises(ValueError):  # noqa: PT011
        Target("shop", address, HOST)


def test_unknown_kind_of_request_is_refused():
    with pytest.raises(ValueError, match="no such kinds: get"):
        Options({"get": 1})


def test_program_run_by_hand_writes_its_report(server, tmp_path):
    """With a limit of time, several targets, and a SIGTERM that comes late."""
    command = [sys.executable, str(SCRIPT), f"--target=a={server.address},{HOST}", f"--target=b=[::1]:9,{HOST}"]
    command += ["--seconds=0.5", f"--report={tmp_path}/report.json", f'--options={{"kinds": {json.dumps(KEEP)}}}']
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    report = Report.read(tmp_path / "report.json")
    assert os.listdir(tmp_path) == ["report.json"]
    assert done.stdout == f"{report}\n"
    assert report.window(target="a").failed == 0
    assert report.window(target="b").failed == report.window(target="b").total == report.failed > 0
    assert report.mixed("a") == {"r1": len(server.requests)}
