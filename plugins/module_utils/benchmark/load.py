"""A load on a Unix socket that speaks the uwsgi protocol: so many requests at a time, for so many seconds."""

from __future__ import annotations

import selectors
import socket
import time
from typing import NamedTuple

from ansible_collections.flaskops.emperor.plugins.module_utils.uwsgi_client import encode_request

BLOCK = 65536
MERCY = 10.0  # seconds after the end in which requests that run may still end


class Asked(NamedTuple):
    """What is asked, and what must be answered."""

    path: str
    host: str
    status: int


class Request:
    """A request on its way.

    :ivar status: the beginning of the response, up to its status.
    """

    def __init__(self, sock: str, asked: Asked) -> None:
        self.began, self.status = time.monotonic(), b""
        self.connection = socket.socket(socket.AF_UNIX)
        self.connection.settimeout(MERCY)  # for a queue that is full
        self.connection.connect(sock)
        self.connection.sendall(encode_request(asked.path, asked.host))
        self.connection.setblocking(False)

    def ended(self) -> bool:
        """Read what is there; whether that was all."""
        try:
            piece = self.connection.recv(BLOCK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        if len(self.status) < 12:
            self.status += piece[:12]
        return not piece

    def succeeded(self, status: int) -> bool:
        """Whether it got this status."""
        return self.status[8:12] == f" {status}".encode()


def rank(times: list[float], share: float) -> float:
    """The time within which this share of the requests ended, in ms."""
    return round(1000 * times[min(int(len(times) * share), len(times) - 1)], 2) if times else 0.0


class Processors:
    """How busy the processors of the host are, and how much of that is this process."""

    def __init__(self) -> None:
        self.before, self.own = self._look(), time.process_time()
        self.began = time.monotonic()

    @staticmethod
    def _look() -> tuple[int, int]:
        with open("/proc/stat", encoding="ascii") as file:
            fields = [int(word) for word in file.readline().split()[1:9]]
        return sum(fields), fields[3] + fields[4]

    def busy(self) -> float:
        """The share of the time in which they were."""
        (all_before, idle_before), (all_now, idle_now) = self.before, self._look()
        return round(1 - (idle_now - idle_before) / max(all_now - all_before, 1), 3)

    def client(self) -> float:
        """The share of one processor that this process took."""
        return round((time.process_time() - self.own) / max(time.monotonic() - self.began, 1e-6), 3)


def load(sock: str, asked: Asked, at_a_time: int, seconds: float) -> dict[str, float]:
    """Keep so many requests under way for so many seconds; what came of it.

    :returns: ``rate`` (responses per second), ``requests``, ``failed``, ``p50`` and ``p95`` (ms), and how ``busy`` the
        processors were, of which the ``client`` took a part.
    :raises OSError: when nothing listens.
    """
    times: list[float] = []
    failed, processors, began = 0, Processors(), time.monotonic()
    end = began + seconds
    with selectors.DefaultSelector() as selector:

        def send() -> None:
            one = Request(sock, asked)
            selector.register(one.connection, selectors.EVENT_READ, one)

        for _number in range(at_a_time):
            send()
        while selector.get_map() and (now := time.monotonic()) < end + MERCY:
            for key, _events in selector.select(0.2):
                one: Request = key.data
                if not one.ended():
                    continue
                selector.unregister(one.connection)
                one.connection.close()
                now = time.monotonic()
                if one.succeeded(asked.status):
                    times.append(now - one.began)
                else:
                    failed += 1
                if now < end:
                    send()
        late = [key.data.connection for key in selector.get_map().values()]
        for connection in late:
            selector.unregister(connection)
            connection.close()
    took = time.monotonic() - began
    times.sort()
    return {
        "rate": round(len(times) / took, 2),
        "requests": len(times),
        "failed": failed + len(late),
        "p50": rank(times, 0.5),
        "p95": rank(times, 0.95),
        "busy": processors.busy(),
        "client": processors.client(),
    }
