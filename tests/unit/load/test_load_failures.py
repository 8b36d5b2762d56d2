"""load_client: every request that has no good answer is a failure, and nothing else is."""

import asyncio
import socket
import threading
import time

import httpx
import pytest
from load_client import Client, Options, Target  # type: ignore[import-not-found]  # see tests/conftest.py
from load_report import KINDS, Report  # type: ignore[import-not-found]
from load_server import HOST, answer, good, on_request, run  # type: ignore[import-not-found]  # beside this file


def test_requests_of_all_kinds_succeed(server):
    kinds = {**dict.fromkeys(KINDS, 1), "get_close": 2}
    report = run(server, kinds, requests=40, long=0.2, upload=0.2, order=0.2)
    assert report.failed == 0, report
    assert report.failures == []
    assert {KINDS[number] for number in report.kind} == set(KINDS)
    assert len(report.begun) == len(server.requests)
    assert {request.headers["host"] for request in server.requests} == {HOST}
    # A new connection for each get_close, one for each other one
    closing = [request for request in server.requests if request.headers["connection"] == "close"]
    assert {request.path for request in closing} == {"/version"}
    assert server.connections == len(closing) + len(KINDS) - 1


def test_upload_is_sent_as_slowly_as_asked(server):
    report = run(server, {"upload": 1}, requests=1, upload=0.4)
    assert len(server.requests[0].body) == 256 * 1024
    assert 0.4 <= report.took[0] < 5
    assert report.failed == 0, report


def test_failed_order_is_counted_and_not_sent_again(server):
    server.act = on_request(0, lambda _request: answer(502, "dead"))
    report = run(server, {"order": 1}, requests=2, order=0.2)
    assert [(request.method, request.path, request.body) for request in server.requests] == [
        ("POST", "/slow?ms=200", b"one small order, please")
    ] * 2
    assert [failure.idempotent for failure in report.failures] == [False]
    assert report.took[1] >= 0.2


def test_text_of_a_502_is_reported(server):
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


def test_idempotent_failures_are_counted_separately(server):
    bad = [("/version", 1), ("/upload", 2), ("/upload", 3)]

    def act(request):
        before = [one.path for one in server.requests[: request.number]]
        return answer(500, "") if (request.path, before.count(request.path)) in bad else good(request)

    server.act = act
    report = run(server, {"get_keep": 1, "post": 1}, requests=24)
    assert (report.window().failed_idempotent, report.window().failed_other) == (1, 2), report
    told = sorted((failure.kind, failure.idempotent) for failure in report.failures)
    assert told == [("get_keep", True), ("post", False), ("post", False)]


def test_reset_within_a_response_is_a_failure(server):
    def act(request):
        request.connection.sendall(good(request)[:-5])
        time.sleep(0.05)
        request.end(reset=True)

    server.act = on_request(2, act)
    (failure,) = run(server).failures
    assert "ConnectionResetError" in failure.reason
    assert failure.reason.endswith("(kept connection)")


def test_response_shorter_than_announced_is_a_failure(server):
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
def test_connection_closed_in_order_just_before_the_write_is_no_failure(server, reset):
    """After httpcore's look at the connection: closed in order is still no failure, and nothing was written to it."""

    report = Report(["shop"])
    one = Client(server.target, "post", Options(timeout=5), report)
    usual, ended = one.trace, list[None]()

    async def trace(event, info):
        if event == "http11.send_request_headers.started" and not one.opened and not ended:
            ended.append(server.requests[-1].end(reset=reset))
            await asyncio.sleep(0.05)
        await usual(event, info)

    async def send():
        async with httpx.AsyncClient(trust_env=False) as client:
            return [await one.send(client) for _ in range(3)]

    one.trace = trace
    assert asyncio.run(send()) == [True, not reset, True], report
    assert ended
    assert len(server.requests) == 3 - reset
    assert server.connections == 2


def test_refused_connection_is_a_failure():
    report = Report(["shop"])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    one = Client(Target("shop", address, HOST), "long", Options(), report)

    async def send():
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(0.3, stop.set)
        await one.run(stop)

    asyncio.run(send())
    assert all("ConnectionRefusedError" in failure.reason for failure in report.failures), report
    assert report.failures[-1].reason.endswith("(new connection)")
    # With a pause, though the kind makes none
    assert 2 <= len(report.failures) <= 5
    assert not one.ready.is_set()


def test_response_that_takes_too_long_is_a_failure(server):
    hangs = threading.Event()
    server.act = on_request(2, lambda request: hangs.wait(10) and None)
    report = run(server, requests=4, timeout=0.2)
    hangs.set()
    assert [failure.reason for failure in report.failures] == ["timeout: no answer within 0.2 s"]
    assert 0.2 <= report.took[2] < 3


def test_one_long_request_is_always_in_flight(server):
    report = run(server, {"long": 1}, requests=3, pause=5, long=0.1)
    ends = [begun + took for begun, took in zip(report.begun, report.took, strict=True)]
    assert all(begun - end < 0.5 for begun, end in zip(report.begun[1:], ends, strict=False))


def test_timeout_starts_after_the_duration_of_a_request(server):
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
def test_response_with_wrong_content_is_a_failure(server, kind, text, reason):
    server.act = on_request(1, lambda request: answer(200, text))
    report = run(server, {kind: 1}, requests=3)
    assert [failure.reason for failure in report.failures] == [f"status 200, {reason}"]
