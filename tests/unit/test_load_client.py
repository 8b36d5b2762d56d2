"""load_client: every request that has no good answer is a failure, and nothing else is."""

import asyncio
import contextlib
import hashlib
import json
import math
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from load_client import (  # type: ignore[import-not-found]  # pytest puts the directory of tests/conftest.py in sys.path
    FAILURES_KEPT,
    IDEMPOTENT,
    KINDS,
    SHORT,
    Failure,
    Load,
    Options,
    Report,
    Seen,
    Target,
    Visitor,
    noticed,
)

SCRIPT = Path(__file__).parents[1] / "load_client.py"
KEEP = {"get_keep": 1}
HOST = "shop.example.com"


def good(request, release="r1"):
    """What the sample app answers."""
    content = {"release": release, "size": len(request.body), "sha256": hashlib.sha256(request.body).hexdigest()}
    if "ms=" in request.path:
        content["ms"] = int(request.path.rpartition("=")[2])
        time.sleep(content["ms"] / 1000)
    return answer(200, json.dumps(content))


def answer(status, text, length=None):
    """The bytes of an answer that announces `length` bytes of content, by default as many as there are."""
    return f"HTTP/1.1 {status} X\r\nContent-Length: {length or len(text)}\r\n\r\n{text}".encode()


class Request:
    """A request as it arrived: number (from 0), method, path, headers in lower case, body, and its connection."""

    def __init__(self, number, head, body, connection):
        self.number, self.body, self.connection = number, body, connection
        first, *lines = head.decode().split("\r\n")
        self.method, self.path, _ = first.split(" ")
        self.headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}

    def end(self, *, reset=False):
        """End the connection, after everything that was sent to it, or with a reset."""
        if reset:
            # Now its thread reads the end of the requests, and closes it; that does the reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.shutdown(socket.SHUT_RD)
        else:
            self.connection.shutdown(socket.SHUT_WR)


class Server:
    """Answers each request as `act` says, which gets the request and returns bytes or None."""

    def __init__(self):
        self.act = good
        self.requests, self.connections = [], 0
        self.counting = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.target = Target("shop", self.address, HOST)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection = self.listener.accept()[0]
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.connections += 1
                threading.Thread(target=self.talk, args=[connection], daemon=True).start()

    def talk(self, connection):
        with connection, contextlib.suppress(OSError):
            received = b""
            while True:
                while b"\r\n\r\n" not in received:
                    received += self.some(connection)
                head, _, received = received.partition(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
                while len(received) < length:
                    received += self.some(connection)
                with self.counting:
                    request = Request(len(self.requests), head, received[:length], connection)
                    self.requests.append(request)
                received = received[length:]
                if reply := self.act(request):
                    connection.sendall(reply)

    @staticmethod
    def some(connection):
        data = connection.recv(65536)
        if not data:
            raise ConnectionError
        return data

    def close(self):
        # Closing alone would not wake up who waits in accept().
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@pytest.fixture
def server():
    one = Server()
    yield one
    with contextlib.suppress(OSError):
        one.close()


def run(server, kinds=KEEP, requests=5, pause=0.01, **options):
    """Let visitors visit, in this process, until that many requests arrived; return the report."""
    report = Report(["shop"])

    async def visit():
        stop = asyncio.Event()
        visitors = [
            Visitor(server.target, kind, Options(pause=pause, **options), report)
            for kind in kinds
            for _ in range(kinds[kind])
        ]
        tasks = [asyncio.create_task(visitor.run(stop)) for visitor in visitors]
        while len(server.requests) < requests:
            await asyncio.sleep(0.01)
        stop.set()
        await asyncio.gather(*tasks)

    asyncio.run(visit())
    return report


def on_request(number, deed):
    """Do something else with one request, the others are answered well."""
    return lambda request: deed(request) if request.number == number else good(request)


def gone(pid):
    """Whether a process has ended (or is about to be reaped)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


# --- what is a failure, and what is not


def test_all_kinds_are_answered(server):
    kinds = {**dict.fromkeys(KINDS, 1), "get_close": 2}
    report = run(server, kinds, requests=40, long=0.2, upload=0.2, order=0.2)
    assert report.failed == 0, report
    assert report.failures == []
    assert {KINDS[number] for number in report.kind} == set(KINDS)
    assert len(report.begun) == len(server.requests)
    assert {request.headers["host"] for request in server.requests} == {HOST}
    # A new connection for each get_close, one for each other visitor
    closing = [request for request in server.requests if request.headers["connection"] == "close"]
    assert {request.path for request in closing} == {"/version"}
    assert server.connections == len(closing) + len(KINDS) - 1


def test_an_upload_takes_its_time(server):
    report = run(server, {"upload": 1}, requests=1, upload=0.4)
    assert len(server.requests[0].body) == 256 * 1024
    assert 0.4 <= report.took[0] < 5
    assert report.failed == 0, report


def test_an_order_works_for_a_while_and_is_not_asked_again(server):
    server.act = on_request(0, lambda _request: answer(502, "dead"))
    report = run(server, {"order": 1}, requests=2, order=0.2)
    assert [(request.method, request.path, request.body) for request in server.requests] == [
        ("POST", "/slow?ms=200", b"one small order, please")
    ] * 2
    assert [failure.idempotent for failure in report.failures] == [False]
    assert report.took[1] >= 0.2


def test_the_text_of_a_502_is_told(server):
    text = "0123456789" * 12
    server.act = lambda request: answer(502, text + "x") if request.number in (2, 4) else good(request)
    report = run(server, requests=6)
    assert [failure.reason for failure in report.failures] == [f"status 502: {text}"] * 2
    assert report.failures[0].target == "shop"
    assert report.failures[0].kind == "get_keep"
    assert abs(report.failures[0].at - time.time()) < 60


@pytest.mark.parametrize("status", [302, 404])
def test_every_status_that_is_not_2xx_is_a_failure(server, status):
    server.act = on_request(2, lambda request: answer(status, "no"))
    report = run(server)
    assert [failure.reason for failure in report.failures] == [f"status {status}: no"]


def test_idempotent_failures_are_told_apart(server):
    bad = [("/version", 1), ("/upload", 2), ("/upload", 3)]

    def act(request):
        before = [one.path for one in server.requests[: request.number]]
        return answer(500, "") if (request.path, before.count(request.path)) in bad else good(request)

    server.act = act
    report = run(server, {"get_keep": 1, "post": 1}, requests=24)
    assert (report.window().failed_idempotent, report.window().failed_other) == (1, 2), report
    told = sorted((failure.kind, failure.idempotent) for failure in report.failures)
    assert told == [("get_keep", True), ("post", False), ("post", False)]


def test_a_reset_in_the_middle_of_an_answer(server):
    def act(request):
        request.connection.sendall(good(request)[:-5])
        time.sleep(0.05)
        request.end(reset=True)

    server.act = on_request(2, act)
    (failure,) = run(server).failures
    assert "ConnectionResetError" in failure.reason
    assert failure.reason.endswith("(kept connection)")


def test_an_answer_shorter_than_announced(server):
    def act(request):
        # Its content is right, as far as it goes
        request.connection.sendall(good(request).replace(b"Content-Length: ", b"Content-Length: 1"))
        request.end()

    server.act = on_request(2, act)
    (failure,) = run(server).failures
    assert "without sending complete message body" in failure.reason


def test_a_connection_closed_in_order_between_requests_is_no_failure(server):
    def act(request):
        request.connection.sendall(good(request))
        request.end()

    server.act = act
    report = run(server, pause=0.05)
    assert report.failed == 0, report
    assert server.connections == len(server.requests) == len(report.begun)


def test_a_connection_closed_after_the_request_arrived_is_a_failure(server):
    server.act = on_request(2, lambda request: request.end())
    report = run(server)
    (failure,) = report.failures
    assert "Server disconnected without sending a response. (kept connection)" in failure.reason
    # Nothing was sent twice
    assert len(report.begun) == len(server.requests)


def test_a_connection_reset_between_requests_is_a_failure(server):
    def act(request):
        request.connection.sendall(good(request))
        time.sleep(0.05)
        request.end(reset=True)

    server.act = on_request(2, act)
    (failure,) = run(server, requests=4, pause=0.1).failures
    assert "while the connection was idle" in failure.reason
    assert not failure.hung_up, "nothing was written"


@pytest.mark.parametrize("reset", [False, True])
def test_a_connection_that_ends_just_before_the_write(server, reset):
    """After httpcore's look at the connection: closed in order is still no failure, and nothing was written to it."""

    report = Report(["shop"])
    visitor = Visitor(server.target, "post", Options(timeout=5), report)
    usual, ended = visitor.trace, list[None]()

    async def trace(event, info):
        if event == "http11.send_request_headers.started" and not visitor.opened and not ended:
            ended.append(server.requests[-1].end(reset=reset))
            await asyncio.sleep(0.05)
        await usual(event, info)

    async def visit():
        async with httpx.AsyncClient(trust_env=False) as client:
            return [await visitor.visit(client) for _ in range(3)]

    visitor.trace = trace
    assert asyncio.run(visit()) == [True, not reset, True], report
    assert ended
    assert len(server.requests) == 3 - reset
    assert server.connections == 2


def test_nobody_listens():
    report = Report(["shop"])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    visitor = Visitor(Target("shop", address, HOST), "long", Options(), report)

    async def visit():
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(0.3, stop.set)
        await visitor.run(stop)

    asyncio.run(visit())
    assert all("ConnectionRefusedError" in failure.reason for failure in report.failures), report
    assert report.failures[-1].reason.endswith("(new connection)")
    # With a pause, though the kind makes none
    assert 2 <= len(report.failures) <= 5
    assert not visitor.ready.is_set()


def test_no_answer_in_time(server):
    hangs = threading.Event()
    server.act = on_request(2, lambda request: hangs.wait(10) and None)
    report = run(server, requests=4, timeout=0.2)
    hangs.set()
    assert [failure.reason for failure in report.failures] == ["timeout: no answer within 0.2 s"]
    assert 0.2 <= report.took[2] < 3


def test_a_long_request_is_in_flight_at_any_time(server):
    report = run(server, {"long": 1}, requests=3, pause=5, long=0.1)
    ends = [begun + took for begun, took in zip(report.begun, report.took, strict=True)]
    assert all(begun - end < 0.5 for begun, end in zip(report.begun[1:], ends, strict=False))


def test_the_limit_is_beyond_what_a_request_takes(server):
    report = run(server, {"long": 1}, requests=1, timeout=0.3, long=0.5)
    assert report.failed == 0, report


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        ("post", '{"release": "r1", "size": 22}', "wrong content: {'size': 22, 'sha256': None}"),
        ("get_keep", "[]", "wrong content: []"),
        ("get_keep", "oops", "wrong content: oops"),
        ("get_keep", '{"release": 1}', "wrong content: 1"),
    ],
)
def test_wrong_content(server, kind, text, reason):
    server.act = on_request(1, lambda request: answer(200, text))
    report = run(server, {kind: 1}, requests=3)
    assert [failure.reason for failure in report.failures] == [f"status 200, {reason}"]


# --- what a browser would show of it


def ends_unanswered(server, kind, number, reset=False):
    """Let the server end the connection of a request when it has all of it; return the report and the failure."""
    server.act = on_request(number, lambda request: request.end(reset=reset))
    report = run(server, {kind: 1})
    (failure,) = report.failures
    return report, failure


@pytest.mark.parametrize("reset", [False, True])
def test_a_get_on_a_kept_connection_that_ends_is_asked_again(server, reset):
    report, failure = ends_unanswered(server, "get_keep", 2, reset)
    assert failure.hung_up
    assert noticed(report) == []


@pytest.mark.parametrize("reset", [False, True])
def test_a_post_on_a_kept_connection_that_ends_is_noticed(server, reset):
    report, failure = ends_unanswered(server, "post", 2, reset)
    assert failure.hung_up
    assert noticed(report) == [failure]


@pytest.mark.parametrize("reset", [False, True])
def test_a_connection_that_ends_at_the_very_write_is_hung_up(server, reset):
    """After the last look at it: what is written reaches nobody."""
    report = Report(["shop"])
    visitor = Visitor(server.target, "get_keep", Options(timeout=5), report)
    usual = visitor.trace

    async def trace(event, info):
        await usual(event, info)
        if event == "http11.send_request_headers.started" and not visitor.opened:
            server.requests[-1].end(reset=reset)
            await asyncio.sleep(0.05)

    async def visit():
        async with httpx.AsyncClient(trust_env=False) as client:
            return [await visitor.visit(client) for _ in range(2)]

    visitor.trace = trace
    assert asyncio.run(visit()) == [True, False], report
    (failure,) = report.failures
    assert failure.hung_up, failure
    assert noticed(report) == []


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize(("kind", "number"), [("get_keep", 0), ("get_close", 2)])
def test_a_new_connection_that_ends_is_noticed(server, kind, number, reset):
    report, failure = ends_unanswered(server, kind, number, reset)
    assert not failure.hung_up
    assert noticed(report) == [failure]


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("part", [slice(5), slice(-5)], ids=["head", "content"])
def test_an_answer_that_breaks_off_is_noticed(server, part, reset):
    """In its head, too, though httpcore says then that no answer was sent."""

    def act(request):
        request.connection.sendall(good(request)[part])
        time.sleep(0.05)
        request.end(reset=reset)

    server.act = on_request(2, act)
    report = run(server)
    (failure,) = report.failures
    assert not failure.hung_up
    assert noticed(report) == [failure]


def test_an_answer_that_does_not_come_in_time_is_noticed(server):
    """On a kept connection, and without a byte; but the server did not end it."""
    hangs = threading.Event()
    server.act = on_request(2, lambda request: hangs.wait(10) and None)
    report = run(server, requests=4, timeout=0.2)
    hangs.set()
    (failure,) = report.failures
    assert not failure.hung_up
    assert noticed(report) == [failure]


# --- the process


def test_requests_in_flight_may_end(server):
    with Load([server.target], Options({"get_keep": 1, "long": 1}, long=0.5)) as load:
        report = load.stop()
        # Again is no error
        assert load.stop() is report
    assert report.failed == 0, report
    longs = [took for took, kind in zip(report.took, report.kind, strict=True) if KINDS[kind] == "long"]
    assert len(longs) == 1
    assert longs[0] >= 0.5


def test_whoever_has_no_answer_at_the_end_is_unanswered(server):
    hangs = threading.Event()
    server.act = lambda request: None if "ms=" in request.path and not hangs.wait(10) else good(request)
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


def test_it_is_ready_when_every_visitor_is(server):
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
    load = Load([server.target], Options({"long": 1}), seconds=1.2)
    with pytest.raises(RuntimeError, match="ended before it was stopped"), load:
        time.sleep(1.2)
    assert gone(load.process.pid)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_load_that_somebody_else_ends_is_an_error(server, number):
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
def test_an_address_is_a_number(address):
    with pytest.raises(ValueError):  # noqa: PT011
        Target("shop", address, HOST)


def test_a_kind_that_does_not_exist():
    with pytest.raises(ValueError, match="no such kinds: get"):
        Options({"get": 1})


def test_by_hand(server, tmp_path):
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


# --- the report


def test_releases(server):
    """A release that comes back after the switch is seen."""
    switched: list[float] = []

    def act(request):
        if request.number == 12:
            switched.append(time.time())
        return good(request, "r2" if switched and request.number != 20 else "r1")

    server.act = act
    report = run(server, requests=24)
    assert report.failed == 0, report
    seen = report.timeline("shop")
    assert list(seen) == report.releases == ["r1", "r2"]
    assert seen["r1"].first < switched[0] < seen["r2"].first < seen["r1"].last < seen["r2"].last
    assert (seen["r1"].count, seen["r2"].count) == (13, len(server.requests) - 13)
    # Number 12 was begun before
    assert report.mixed("shop", after=switched[0]) == {"r1": 1, "r2": len(server.requests) - 14}


def test_releases_of_requests_begun_later():
    report = Report(["a", "b"])
    for begun, took, target, release in [
        (11, 9, "a", "r1"),  # Answered last, but begun before
        (10, 1, "a", "r1"),
        (12, 1, "a", "r2"),
        (14, 2, "a", "r2"),
        (15, 1, "a", None),
        (16, 1, "b", "r1"),
    ]:
        report.add(begun, took, target, "long", release, "")
    assert report.mixed("a") == {"r1": 2, "r2": 2}
    assert report.mixed("a", after=11) == {"r2": 2}
    assert report.mixed("a", after=14) == {}
    assert report.mixed("b") == {"r1": 1}
    assert report.timeline("a") == {"r1": Seen(11, 20, 2), "r2": Seen(13, 16, 2)}


def test_failures_beyond_the_bound_are_counted(tmp_path):
    report = Report(["a"])
    for number in range(FAILURES_KEPT + 5):
        report.add(number, 0.5, "a", "post", None, f"bad {number}", hung_up=True)
    report.add(5000, 0.25, "a", "slow", "r1")
    report.write(tmp_path / "r")
    again = Report.read(tmp_path / "r")
    assert again == report
    assert again.failed == again.window().failed_other == FAILURES_KEPT + 5
    assert len(again.failures) == FAILURES_KEPT
    assert again.failures[-1] == Failure(
        FAILURES_KEPT - 0.5, FAILURES_KEPT - 1, "a", "post", False, f"bad {FAILURES_KEPT - 1}", True
    )


# Whole numbers and halves, so that sums are exact
moments = st.integers(0, 40).map(lambda number: number / 2)
requests = st.tuples(moments, moments, st.sampled_from(["a", "b"]), st.sampled_from(KINDS), st.booleans())


@given(st.lists(requests, max_size=30), moments, moments, st.sampled_from([None, "a", "b"]))
def test_windows(these, begin, end, target):
    report = Report(["a", "b"])
    for begun, took, to, kind, answered in these:
        report.add(begun, took, to, kind, "r1" if answered else None)
    window = report.window(begin, end, target)
    inside = [
        (took, kind, answered)
        for begun, took, to, kind, answered in these
        if begun <= end and begun + took >= begin and target in (None, to)
    ]
    failed = [kind for took, kind, answered in inside if not answered]
    assert window.total == len(inside)
    assert window.failed_idempotent == sum(kind in IDEMPOTENT for kind in failed)
    assert window.failed == len(failed)
    waits = [max(0, took - 0.1) if kind == "slow" else took for took, kind, yes in inside if yes and kind in SHORT]
    if not waits:
        assert all(math.isnan(wait) for wait in (window.worst, window.median, window.p99))
        return
    assert window.worst == max(waits)
    for wait, part in ((window.median, 0.5), (window.p99, 0.99)):
        # Of so many waits that many are not longer, and it is the shortest of which that is true
        assert wait in waits
        assert sum(one <= wait for one in waits) >= part * len(waits)
        assert sum(one < wait for one in waits) < part * len(waits)
