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
    """A client who sends one thing after the other, and knows which of them were taken.

    :param send: sends the thing of this number, and returns its name.
    :param pause: seconds between two.
    """

    def __init__(self, send, pause):
        self.send, self.pause, self.taken, self.failures = send, pause, [], []
        self.stop, self.thread = threading.Event(), threading.Thread(target=self.write)

    def write(self):
        number = 0
        while not self.stop.wait(self.pause) and number < 20000:
            number += 1
            try:
                self.taken.append(self.send(number))
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
    """Writes notes; for use with `with`."""
    notes = client("notes")

    def write(number):
        notes.json("/notes", f"note {number}")
        return f"note {number}"

    return lambda: Writer(write, pause=0.1)


@pytest.fixture
def giver(client):
    """Gives jobs to the app; for use with `with`."""
    jobs = client("jobs")

    def give(number):
        status, text = jobs.ask("GET", f"/?job={number}")
        assert status == 200, text
        return number

    return lambda: Writer(give, pause=1.5)
