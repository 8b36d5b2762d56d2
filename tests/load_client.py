"""A strict load client: clients that send requests to apps all the time, and a report of every request that failed.

    with Load([Target("shop", "10.88.0.5:80", "shop.example.com")]) as load:
        deploy()
    assert not load.report.failures, load.report

A request fails when its answer is not complete, right and in time: a status that is not 2xx, a refused, reset or ended
connection, a body that is short or wrong, no answer in time. Nothing is sent twice. One thing is no failure: the server
closed a kept connection in an orderly way before the next request was written. Then a new connection takes the request.

How httpcore 1.0.9, which sends httpx's requests, plays along (read in its source):
- Its pool tries a request again only on ConnectionNotAvailable, which AsyncHTTP11Connection raises before it writes a
  byte. Its `retries` are for connecting, and 0. A request that was written in part or whole is never sent again.
- Its pool drops an idle connection whose socket is readable: closed, but also reset, and that would go unnoticed.
  So clients look for a reset themselves, see `has_ended`.
- The pool looks a few rounds of the event loop before it writes. A connection closed in between would be written to,
  and a failure. So clients look again in `trace`; from there to the write anyio 4.16 does not yield to the loop.
- An error while writing is hidden and the answer read all the same; the checks of the answer's content find that out.

It runs in a process of its own, so that nothing which tests do slows it. By hand:
    python tests/load_client.py --target shop=127.0.0.1:80,shop.example.com --seconds 60 --report report.json
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import json
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
from load_messages import Options, messages  # type: ignore[import-not-found]  # beside it
from load_report import SHORT, Report  # type: ignore[import-not-found]  # beside it

PIECES = 20  # of the big body
FAILURE_PAUSE = 0.1  # seconds; where nothing listens, clients without a pause would take a whole core


@dataclass(frozen=True)
class Target:
    """An app to send requests to.

    :ivar name: what the report calls it.
    :ivar address: IP:PORT. No host name: it may have several addresses, and trying the next one is a hidden retry.
    :ivar host: the Host header, the app's domain.
    :raises ValueError: when `address` is not IP:PORT.
    """

    name: str
    address: str
    host: str

    def __post_init__(self) -> None:
        ip, _, port = self.address.rpartition(":")
        ipaddress.ip_address(ip.strip("[]"))
        int(port)

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read NAME=ADDRESS,HOSTHEADER; ValueError when it is something else."""
        name, rest = text.split("=", 1)
        return cls(name, *rest.split(","))


# --- the process that makes the load


class ClosedBefore(Exception):
    """The server had closed the kept connection before anything of the request was written."""


class WrongAnswer(Exception):
    """An answer arrived, but not the right one."""


async def pieces(body: bytes, seconds: float) -> AsyncIterator[bytes]:
    """Yield `body` in pieces, the last one after `seconds`."""
    size = math.ceil(len(body) / PIECES)
    for start in range(0, len(body), size):
        await asyncio.sleep(seconds / PIECES)
        yield body[start : start + size]


def has_ended(stream: Any) -> bool:
    """Tell whether the server closed an idle connection; ConnectionResetError when that was not in an orderly way."""
    connection = stream.get_extra_info("socket")
    # Below 0 it was closed on this side, as the last answer demanded it.
    if connection.fileno() >= 0 and (number := connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
        raise ConnectionResetError(number, f"{os.strerror(number)}, while the connection was idle")
    return bool(stream.get_extra_info("is_readable"))


def root_of(error: BaseException) -> BaseException:
    """Return what caused an error in the first place, maybe itself."""
    # httpcore's pool cuts the chain of causes, but not that of contexts.
    while cause := error.__cause__ or error.__context__:
        error = cause
    return error


def describe(error: BaseException) -> str:
    """Name an error and what caused it, in one line."""
    root = root_of(error)
    names = [f"{type(error).__name__}: {error}"] + [f"{type(root).__name__}: {root}"] * (root is not error)
    return " <- ".join(names)


class Client:
    """Sends the same message again and again, over one connection at a time."""

    def __init__(self, target: Target, kind: str, options: Options, report: Report) -> None:
        self.target, self.kind, self.report = target, kind, report
        self.message = messages(options)[kind]
        self.pause = options.pause if kind in SHORT else 0
        self.limit = self.message.takes + options.timeout
        self.ready = asyncio.Event()
        self.stream: Any = None
        self.opened = False  # whether it was this request that opened the connection
        self.silent = False  # whether it was written to a kept connection, and not a byte of an answer came yet

    async def run(self, stop: asyncio.Event) -> None:
        """Send requests until `stop` is set."""
        while not stop.is_set():
            # Only the server closes kept connections: they never expire here. TLS is not used; verify=False only spares
            # the loading of certificates. Proxies in the environment (trust_env) would answer in the app's place.
            one = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=None)
            async with httpx.AsyncClient(limits=one, timeout=None, trust_env=False, verify=False) as client:
                while not stop.is_set() and await self.send(client):
                    await asyncio.sleep(self.pause)
            # After a failure begin with nothing left of it.
            await asyncio.sleep(0 if stop.is_set() else FAILURE_PAUSE)

    async def send(self, client: httpx.AsyncClient) -> bool:
        """Send one request and note how it ended; return whether its answer was good."""
        begun, clock = time.time(), time.perf_counter()
        self.opened, self.silent, release, reason, hung_up = False, False, None, "", False
        try:
            async with asyncio.timeout(self.limit):
                if self.stream is not None:
                    has_ended(self.stream)
                release = await self.exchange(client)
            self.ready.set()
        except TimeoutError:
            reason = f"timeout: no answer within {self.limit:g} s"
        except WrongAnswer as error:
            reason = str(error)
        except asyncio.CancelledError:
            reason = "unanswered when the load ended"
            raise
        except Exception as error:
            # Any other error: the request has no answer.
            reason = f"{describe(error)} ({'new' if self.opened else 'kept'} connection)"
            # httpcore tells an end by the former, and a reset is at the root of what it makes of it.
            ended = isinstance(error, httpx.RemoteProtocolError) or isinstance(root_of(error), ConnectionError)
            hung_up = self.silent and ended
        finally:
            self.report.add(begun, time.perf_counter() - clock, self.target.name, self.kind, release, reason, hung_up)
        if release is None:
            self.stream = None
        return release is not None

    async def exchange(self, client: httpx.AsyncClient) -> str:
        """Send the request; return the release that answered. WrongAnswer, or what httpx raises, when it failed."""
        message = self.message
        headers = {"Host": self.target.host} | ({"Connection": "close"} if message.close else {})
        method = "GET"
        if message.body:
            # The length goes ahead, or pieces would be sent as chunks.
            method, headers["Content-Length"] = "POST", str(len(message.body))
        url, extensions = f"http://{self.target.address}{message.path}", {"trace": self.trace}
        while True:
            body = pieces(message.body, message.takes) if message.body and message.takes else message.body
            with contextlib.suppress(ClosedBefore):
                response = await client.request(method, url, headers=headers, content=body, extensions=extensions)
                break
        if not response.is_success:
            raise WrongAnswer(f"status {response.status_code}: {response.text[:120]}")
        try:
            answer = response.json()
            release = answer["release"]
        except (ValueError, TypeError, KeyError):
            raise WrongAnswer(f"status {response.status_code}, wrong content: {response.text[:120]}") from None
        wrong = {name: answer.get(name) for name, value in message.expected.items() if answer.get(name) != value}
        if wrong or not isinstance(release, str):
            raise WrongAnswer(f"status {response.status_code}, wrong content: {wrong or release}")
        return release

    def listening(self, read: Callable[..., Awaitable[bytes]]) -> Callable[..., Awaitable[bytes]]:
        """Wrap the reading of a connection: httpcore's error does not tell a part of the answer's head from nothing."""

        async def listen(*arguments: Any, **more: Any) -> bytes:
            data = await read(*arguments, **more)
            if data:
                self.silent = False
            return data

        return listen

    async def trace(self, event: str, info: dict[str, Any]) -> None:
        """Follow a request through httpcore, which calls this at each step."""
        if event == "connection.connect_tcp.started":
            self.opened = True
        elif event == "connection.connect_tcp.complete":
            self.stream = info["return_value"]
            self.stream.read = self.listening(self.stream.read)
        elif event == "http11.send_request_headers.started" and not self.opened:
            if has_ended(self.stream):
                raise ClosedBefore
            self.silent = True
        elif event == "http11.send_request_headers.complete" and self.kind not in SHORT:
            # What matters is that one is in flight; the answer would take its time.
            self.ready.set()


async def drive(
    targets: Sequence[Target], options: Options, seconds: float, ready_seconds: float | None, with_stdin: bool
) -> Report:
    """Run all clients until SIGTERM, SIGINT, `seconds`, or the end of stdin if asked; return the report.

    Exits when `ready_seconds` were given and not enough for every client to get ready.
    """
    report, stop, loop = Report([target.name for target in targets]), asyncio.Event(), asyncio.get_running_loop()

    def end_of_stdin() -> None:
        loop.remove_reader(0)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.call_later(seconds, stop.set)
    if with_stdin:
        loop.add_reader(0, end_of_stdin)
    kinds = [kind for kind, number in options.kinds.items() for _ in range(number)]
    clients = [Client(target, kind, options, report) for target in targets for kind in kinds]

    async def say_ready() -> None:
        try:
            async with asyncio.timeout(ready_seconds):
                for client in clients:
                    await client.ready.wait()
        except TimeoutError:
            sys.exit(f"not every client had an answer within {ready_seconds:g} s: {report}")
        print("ready", flush=True)

    # A client that dies of a fault in this file ends the group and the process: no load must not look like a good one.
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(client.run(stop)) for client in clients]
        ready = group.create_task(say_ready())
        await stop.wait()
        ready.cancel()
        await asyncio.wait(tasks, timeout=options.drain)
        for task in tasks:
            task.cancel()
    return report


# --- for tests


class Load:
    """Load for the time of a `with` block: all clients are there when it begins, the `report` is after its end.

    When the block raises, the load is killed and there is no report.

    :param targets: the apps.
    :param options: how.
    :param seconds: a bound for the whole; a load that ended by itself is an error.
    :param ready_seconds: how long to wait for every client's first answer (kinds that take long: first request sent).
    :raises RuntimeError: when the load does not get ready, fails, or ends before it is stopped.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        options: Options | None = None,
        seconds: float = 1800,
        ready_seconds: float = 60,
    ) -> None:
        self._targets, self._options = targets, options or Options()
        self._seconds, self._ready_seconds = seconds, ready_seconds
        self._report: Report | None = None

    @property
    def report(self) -> Report:
        """The report; RuntimeError while the load runs."""
        if self._report is None:
            raise RuntimeError("the load has not been stopped")
        return self._report

    def __enter__(self) -> Load:
        with contextlib.ExitStack() as cleanup:
            directory = Path(cleanup.enter_context(tempfile.TemporaryDirectory()))
            self._file, self._errors = directory / "report.json", directory / "stderr"
            command = [sys.executable, __file__, "--with-stdin", f"--seconds={self._seconds}", f"--report={self._file}"]
            command += [f"--target={target.name}={target.address},{target.host}" for target in self._targets]
            command += [f"--options={json.dumps(asdict(self._options))}", f"--ready-seconds={self._ready_seconds}"]
            self._deadline = time.monotonic() + self._seconds
            # Its stdin ends with this process, however that ends: so the load does not outlive it.
            errors = cleanup.enter_context(self._errors.open("wb"))
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
            cleanup.enter_context(self.process)
            cleanup.callback(self.process.kill)
            assert self.process.stdout is not None
            if self.process.stdout.readline() != b"ready\n":
                raise self._error("did not start")
            self._cleanup = cleanup.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._cleanup:
            if kind is None:
                self.stop()

    def stop(self) -> Report:
        """Let requests in flight end, and return the report; a second call changes nothing."""
        if self._report is None:
            if self.process.poll() is not None or time.monotonic() > self._deadline:
                raise self._error("ended before it was stopped")
            self.process.terminate()
            if self.process.wait(self._options.drain + 20):
                raise self._error("failed")
            self._report = Report.read(self._file)
        return self._report

    def _error(self, what: str) -> RuntimeError:
        return RuntimeError(f"the load {what}: {self._errors.read_text(encoding='utf-8', errors='replace')}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Load apps and report every request that failed.")
    parser.add_argument("--target", type=Target.parse, action="append", required=True, metavar="NAME=ADDRESS,HOST")
    parser.add_argument("--seconds", type=float, required=True, help="end after that time, if not by SIGTERM before")
    parser.add_argument("--report", type=Path, required=True, help="file to write, as JSON")
    parser.add_argument("--options", type=json.loads, default={}, metavar="JSON", help='like {"pause": 0.1}')
    parser.add_argument("--ready-seconds", type=float, help="fail when not every client has an answer by then")
    parser.add_argument("--with-stdin", action="store_true", help="end when stdin does")
    given = parser.parse_args()
    options = Options(**given.options)
    report = asyncio.run(drive(given.target, options, given.seconds, given.ready_seconds, given.with_stdin))
    report.write(given.report)
    print(report)


if __name__ == "__main__":
    main()
