"""Clients of the apps, and clients who write all the time."""

import http.client
import json
import re
import threading
import urllib.parse

import pytest


class Client:
    """A browser, on a host, for a domain: with cookies, which follows no redirects."""

    def __init__(self, address, domain):
        self.address, self.domain, self.cookies = address, domain, {}

    def ask(self, method, path, body=None):
        """Return the status and the text."""
        connection = http.client.HTTPConnection(self.address, timeout=40)
        headers = {"Host": self.domain, "Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        if isinstance(body, dict):
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            body = urllib.parse.urlencode(body)
        connection.request(method, path, body=body, headers=headers)
        response = connection.getresponse()
        for cookie in response.headers.get_all("Set-Cookie") or []:
            name, value = re.match("([^=]+)=([^;]*)", cookie).groups()
            self.cookies[name] = value
        text = response.read().decode()
        connection.close()
        return response.status, text

    def json(self, path, body=None):
        """What the app says as data."""
        status, text = self.ask("GET" if body is None else "POST", path, body)
        assert status == 200, (path, status, text)
        return json.loads(text)


@pytest.fixture(scope="session")
def client(addresses):
    """A new client of an app, on the first host or on another one."""
    hosts = list(addresses.values())
    return lambda app, number=0: Client(hosts[number], f"{app}.test")


class Writer:
    """A client who writes notes without a pause, and knows which of them were taken."""

    def __init__(self, client):
        self.client, self.taken, self.failures, self.stop = client, [], [], threading.Event()
        self.thread = threading.Thread(target=self.write)

    def write(self):
        number = 0
        while not self.stop.wait(0.02) and number < 20000:
            number += 1
            try:
                self.client.json("/notes", f"note {number}")
                self.taken.append(f"note {number}")
            except Exception as error:
                self.failures.append(repr(error))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_exception):
        self.stop.set()
        self.thread.join()


@pytest.fixture
def writer(client):
    """For use with `with`."""
    return lambda: Writer(client("notes"))
