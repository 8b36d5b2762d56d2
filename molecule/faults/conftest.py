"""The app at work, clients who notice everything, and what must run on a host in good order."""

import time

import pytest
from load_client import Load, Options, Target
from load_report import KINDS

VISITORS = dict.fromkeys(KINDS, 1) | {"get_keep": 2, "get_close": 2, "slow": 2}
ASK = """
import http.client, sys
connection = http.client.HTTPConnection("127.0.0.1", timeout=5)
connection.request("GET", "/version", headers={"Host": sys.argv[1]})
print(connection.getresponse().status)
"""


@pytest.fixture
def clients(addresses):
    """Clients on every host, for use with `with`."""
    return lambda: Load([Target(host, f"{address}:80", "shop.test") for host, address in addresses.items()],
                        Options(kinds=VISITORS))  # fmt: skip


@pytest.fixture(scope="session")
def process():
    """The number of a process on a host, by what it is."""

    def find(host, what):
        if what in ("emperor", "emperor@shop"):
            name = {"emperor": "emperor-app@shop"}.get(what, what)
            return [int(host.check_output(f"systemctl show --property=MainPID --value {name}.service"))]
        if what == "nginx":
            return [int(pid) for pid in host.check_output("pgrep --full 'nginx: worker'").split()]
        emperor = host.check_output("systemctl show --property=MainPID --value emperor-app@shop.service")
        masters = host.check_output(f"pgrep --parent {emperor} --euid shop").split()
        if what == "master":
            return [int(pid) for pid in masters]
        return [int(pid) for pid in host.check_output(f"pgrep --parent {','.join(masters)} --full uwsgi").split()]

    return find


@pytest.fixture(scope="session")
def in_order(process):
    """Wait until a host is what the roles made it: everything runs, once, and nothing else does."""

    def complaints(host):
        if host.run("python3 -c %s shop.test", ASK).stdout.strip() != "200":
            return "no answer"
        units = "nginx emperor emperor-app@shop emperor@shop.socket emperor@shop.service"
        if set(host.run(f"systemctl is-active {units}").stdout.split()) != {"active"}:
            return host.run(f"systemctl status {units}").stdout
        place = host.run("cd /etc/emperor/vassals && ls -I '*.limit' | grep ^shop.").stdout.split()
        if len(place) != 1:
            return f"vassal files: {place}"
        masters, workers = process(host, "master"), process(host, "worker")
        if (len(masters), len(workers)) != (1, 3):
            return f"{masters} {workers}"
        mine = host.run("pgrep --euid shop --full 'uwsgi --ini /etc/emperor/vassals'").stdout.split()
        if sorted(map(int, mine)) != sorted([*masters, *workers]):
            return f"orphans: {mine} beside {masters} {workers}"
        place = place[0].removesuffix(".ini")
        sockets = host.run("ls /run/emperor/shop").stdout.split()
        return "" if sockets == [f"{place}.sock", f"{place}.stats"] else f"sockets: {sockets}"

    def wait(host, seconds=15):
        end = time.monotonic() + seconds
        while found := attempt(host):
            assert time.monotonic() < end, (host.backend.name, found)
            time.sleep(0.3)

    def attempt(host):
        try:
            return complaints(host)
        except AssertionError as error:  # of check_output, when a process is not there yet
            return str(error)

    return wait
