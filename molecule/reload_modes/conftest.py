"""The four apps, one per reload mode, and clients who ask all of them all the time."""

import json

import pytest
from load_client import Load, Options, Target
from load_report import KINDS
from modes import MODES

# On eight targets: much more would leave the deploys themselves no processor.
ONE_OF_EACH = dict.fromkeys(KINDS, 1)

ASK = """
import http.client, sys
connection = http.client.HTTPConnection("127.0.0.1", timeout=40)
connection.request("GET", "/version", headers={"Host": sys.argv[1]})
print(connection.getresponse().read().decode())
"""


@pytest.fixture(scope="session")
def release_of():
    """The release that answers for an app on a host."""

    def ask(host, mode):
        return json.loads(host.check_output("python3 -c %s %s", ASK, f"{mode}.test"))["release"]

    return ask


@pytest.fixture
def clients(addresses):
    """Clients of some apps on every host, for use with `with`; the targets are named HOST MODE."""

    def make(modes=MODES, kinds=ONE_OF_EACH, pause=0.5, seconds=1800):
        targets = [Target(f"{host} {mode}", f"{address}:80", f"{mode}.test")
                   for host, address in addresses.items() for mode in modes]  # fmt: skip
        return Load(targets, Options(kinds=kinds, pause=pause), seconds)

    return make


@pytest.fixture(scope="session")
def instances():
    """The instances of an app on a host: the processes of each vassal by its file, and the files there are."""

    def ask(host, mode):
        files = host.run(f"ls -I '*.limit' /etc/emperor/vassals/ | grep '^{mode}[.]'").stdout.split()
        running = host.run(f"ps -u {mode} -o args | grep -o '/etc/emperor/vassals/[^ *]*[.]ini'").stdout.split()
        return {file: running.count(f"/etc/emperor/vassals/{file}") for file in {*files, *map(base, running)}}

    return ask


def base(path):
    return path.rpartition("/")[2]
