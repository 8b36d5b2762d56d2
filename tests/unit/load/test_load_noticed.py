"""Which failures a browser would show to its user, and which it would hide by sending the request again."""

import asyncio
import threading
import time

import httpx
import pytest
from load_client import Client, Options  # type: ignore[import-not-found]  # see tests/conftest.py
from load_report import Report, noticed  # type: ignore[import-not-found]
from load_server import good, on_request, run  # type: ignore[import-not-found]  # beside this file


def ends_unanswered(server, kind, number, reset=False):
    """Let the server end the connection of a request when it has all of it; return the report and the failure."""
    server.act = on_request(number, lambda request: request.end(reset=reset))
    report = run(server, {kind: 1})
    (failure,) = report.failures
    return report, failure


@pytest.mark.parametrize("reset", [False, True])
def test_a_get_on_a_kept_connection_that_ends_is_sent_again(server, reset):
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
    """After the last look at it: what is written is lost."""
    report = Report(["shop"])
    one = Client(server.target, "get_keep", Options(timeout=5), report)
    usual = one.trace

    async def trace(event, info):
        await usual(event, info)
        if event == "http11.send_request_headers.started" and not one.opened:
            server.requests[-1].end(reset=reset)
            await asyncio.sleep(0.05)

    async def send():
        async with httpx.AsyncClient(trust_env=False) as client:
            return [await one.send(client) for _ in range(2)]

    one.trace = trace
    assert asyncio.run(send()) == [True, False], report
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
