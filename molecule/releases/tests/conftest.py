"""Releases of the sample app to deploy, and clients who notice when something goes wrong."""

import http.client
import json
import threading
import time
from collections import Counter

import pytest


@pytest.fixture(scope="session")
def app(apps):
    """The scenario's one app."""
    return apps["shop"]


@pytest.fixture(scope="session")
def release_of(addresses):
    """The release that answers on each host."""

    def ask():
        answers = {}
        for name, address in addresses.items():
            connection = http.client.HTTPConnection(address, timeout=40)
            connection.request("GET", "/version")
            answers[name] = json.loads(connection.getresponse().read())["release"]
        return answers

    return ask


@pytest.fixture(scope="session")
def processes(fleet):
    """The processes of nginx' master, the Emperor and every app on each host, with their start times."""

    def ask():
        # nginx' workers change with every reload and are left out; so is what a worker starts for itself.
        command = "ps -eo pid,lstart,user,args | grep -E '[e]mperor|nginx: [m]aster' | grep -v resource_tracker"
        return {host.backend.name: sorted(host.check_output(command).splitlines()) for host in fleet}

    return ask


class Clients:
    """Some clients per host, who ask without a pause, each on a connection that is kept, until told to stop."""

    PATHS = ("/version", "/healthz", "/slow?ms=100")

    def __init__(self, addresses, number=3):
        self.answers = Counter()
        self.failures = []
        self.stop = threading.Event()
        self.threads = [
            threading.Thread(target=self.visit, args=(address, path))
            for address in addresses.values()
            for path in self.PATHS[:number]
        ]

    def visit(self, address, path):
        connection = http.client.HTTPConnection(address, timeout=40)
        # Bounded, should a test forget to stop: 20 minutes.
        end = time.monotonic() + 1200
        while not self.stop.is_set() and time.monotonic() < end:
            kept, response = connection.sock is not None, None
            try:
                connection.request("GET", path)
                response = connection.getresponse()
                response.read()
                self.answers[response.status] += 1
                if response.status != 200:
                    self.failures.append(f"{address}{path}: status {response.status}")
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                # nginx closes a kept connection when it reloads; a browser asks again on a new one, once.
                if kept and response is None and isinstance(error, ConnectionResetError):  # RemoteDisconnected, too
                    continue
                self.failures.append(f"{address}{path}: {error!r}")
            time.sleep(0.02)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_exception):
        self.stop.set()
        for thread in self.threads:
            thread.join()


@pytest.fixture
def clients(addresses):
    """Clients on every host, for use with `with`."""
    return lambda: Clients(addresses)
