"""The scenario's apps, as its inventory has them, and asking them through nginx as a client does."""

import http.cookiejar
import os
import re
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml


@pytest.fixture(scope="session")
def entries():
    """Host and entry of every app, by name."""
    text = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"], "molecule/real_apps/molecule.yml").read_text(encoding="utf-8")
    hosts = yaml.safe_load(os.path.expandvars(text))["provisioner"]["inventory"]["host_vars"]
    return {app["name"]: (host, app) for host, variables in hosts.items() for app in variables["flask_apps"]}


@pytest.fixture(scope="session")
def host_of(entries, fleet):
    """The host on which an app runs, by the app's name."""
    return lambda name: next(host for host in fleet if host.backend.name.startswith(entries[name][0]))


class Answer:
    """A response, of any status."""

    def __init__(self, response):
        self.status, self.headers = response.status, response.headers
        self.text = response.read().decode("utf-8", "replace")


@pytest.fixture(scope="session")
def browser(host_of):
    """Make a client of an app that keeps cookies; it is called with a path."""

    def start(name):
        address = host_of(name).check_output("hostname -I").split()[0]
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))

        def ask(path, data=None, method=None, **headers):
            headers = {key.replace("_", "-"): value for key, value in headers.items()} | {"Host": f"{name}.test"}
            asked = urllib.request.Request(f"http://{address}{path}", data, headers, method=method)
            try:
                return Answer(opener.open(asked, timeout=30))
            except urllib.error.HTTPError as error:
                return Answer(error)

        return ask

    return start


@pytest.fixture
def form():
    """The value of a hidden field in a page."""
    return lambda page, name: re.search(rf'name="{name}" value="([^"]+)"', page)[1]


@pytest.fixture(scope="session")
def deploy(playbook, entries):
    """Deploy an app with other settings, on its host alone."""

    def run(name, changes, *arguments, play="deploy"):
        host, app = entries[name]
        named = ("-e", f"app={name}") if play == "deploy" else ()
        return playbook(play, *named, f"--limit={host}", *arguments, variables={"flask_apps": [app | changes]})

    return run
