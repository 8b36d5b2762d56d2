"""A server that answers as the sample app does, or as a test says, and clients of it."""

import asyncio
import contextlib
import hashlib
import json
import select
import socket
import struct
import threading
from pathlib import Path

from load_client import Client, Options, Target  # type: ignore[import-not-found]  # see tests/conftest.py
from load_report import Report  # type: ignore[import-not-found]

SCRIPT = Path(__file__).parents[2] / "load_client.py"
KEEP = {"get_keep": 1}
HOST = "shop.example.com"


def good(request, release="r1"):
    """What the sample app answers."""
    content = {"release": release, "size": len(request.body), "sha256": hashlib.sha256(request.body).hexdigest()}
    if "ms=" in request.path:
        content["ms"] = int(request.path.rpartition("=")[2])
        select.select([request.connection], [], [], content["ms"] / 1000)  # or until the client has gone
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
        self.requests, self.connections, self.opened = [], 0, []
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
                self.opened.append(connection)
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
        # Closing alone would not wake up the threads in accept() and recv().
        for one in (self.listener, *self.opened):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def run(server, kinds=KEEP, requests=5, pause=0.01, **options):
    """Let clients send requests, in this process, until that many arrived; return the report."""
    report = Report(["shop"])

    async def send():
        stop = asyncio.Event()
        clients = [
            Client(server.target, kind, Options(pause=pause, **options), report)
            for kind in kinds
            for _ in range(kinds[kind])
        ]
        tasks = [asyncio.create_task(one.run(stop)) for one in clients]
        while len(server.requests) < requests:
            await asyncio.sleep(0.01)
        stop.set()
        await asyncio.gather(*tasks)

    asyncio.run(send())
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
