"""Clients of the scenario's apps, from outside of the hosts."""

import contextlib
import http.client
import socket
import ssl
import threading
import time

import pytest

ANY = ssl.create_default_context()
ANY.check_hostname = False
ANY.verify_mode = ssl.CERT_NONE


def connect(address, name, context=ANY, port=443):
    """A TLS connection by a name, which may be None."""
    connection = socket.create_connection((address, port), 10)
    try:
        return context.wrap_socket(connection, server_hostname=name)
    except BaseException:
        connection.close()
        raise


def ask(address, name, path="/", method="GET", *, tls=True, body=None, context=ANY):
    """Send a request; returns the response and its body."""
    connection = http.client.HTTPConnection(address, 80, timeout=30)
    if tls:
        connection.sock = connect(address, name, context)
    with contextlib.closing(connection):
        connection.request(method, path, body=body, headers={"Host": name})
        answer = connection.getresponse()
        return answer, answer.read()


class Traffic:
    """Clients that each send one request after the other, on a new connection each, for the time of a `with` block.

    :param targets: for each client an address and a name.
    :param tls: whether they come by HTTPS. By HTTP, a redirect is an answer, too.
    :ivar failures: what went wrong, a line each.
    :ivar sent: how many requests.
    """

    def __init__(self, targets, *, tls=True):
        self.tls, self.right = tls, (200,) if tls else (200, 308)
        self.failures, self.sent, self._stop = [], 0, threading.Event()
        self._threads = [threading.Thread(target=self._run, args=one) for one in targets]

    def _run(self, address, name):
        while not self._stop.is_set():
            try:
                answer, _body = ask(address, name, tls=self.tls)
                if answer.status not in self.right:
                    self.failures.append(f"{name} at {address}: status {answer.status}")
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(f"{name} at {address}: {error!r}")
            self.sent += 1
            time.sleep(0.05)

    def __enter__(self):
        for one in self._threads:
            one.start()
        return self

    def __exit__(self, *_exception):
        self._stop.set()
        for one in self._threads:
            one.join()


@pytest.fixture(scope="module")
def address(host, addresses):
    return addresses[host.backend.name]


def certificate(address, name):
    """The certificate that clients see, in its binary form."""
    with contextlib.closing(connect(address, name)) as connection:
        return connection.getpeercert(binary_form=True)


FETCH = """
import ssl, urllib.request
context = ssl._create_unverified_context()
print(urllib.request.urlopen("https://127.0.0.1:15000/roots/0", context=context).read().decode())
"""


def root_of(host):
    """The root of the host's CA, which has another one after each start."""
    return host.check_output("python3 -c %s", FETCH)
