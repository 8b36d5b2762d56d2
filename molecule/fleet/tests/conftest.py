"""The three web hosts, what each of them serves, and releases that fail where a test wants it."""

import json
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
from load_client import Load, Options, Target
from load_report import KINDS

BALANCERS = ("emperor-balancer", "emperor-balancer2")
# Beside Molecule's own inventory: the host that is added, a group that a host has left, weights for tests to choose,
# and a setting for which the Emperors start anew.
MORE = {
    "webservers": {
        "children": {"newcomers": {}},
        "vars": {
            "load_balancer_weight": "{{ (weights | default({}))[inventory_hostname] | default(100) }}",
            "uwsgi_scan_seconds": 2,
        },
    },
    "stayed": {"hosts": dict.fromkeys(("emperor-web1", "emperor-web2"))},
}
VISITORS = dict.fromkeys(KINDS, 1) | {"get_keep": 2, "slow": 2}
WEB = ("emperor-web1", "emperor-web2", "emperor-web3")


@pytest.fixture(scope="session")
def start_playbook(start_playbook, tmp_path_factory):
    """Start a playbook on all hosts."""
    inventory = tmp_path_factory.mktemp("inventory") / "more.json"
    inventory.write_text(json.dumps(MORE))
    return lambda name, *arguments, **more: start_playbook(name, "-i", str(inventory), *arguments, **more)


@pytest.fixture(scope="session")
def hosts(fleet):
    """The hosts by the names of the inventory."""
    return {host.backend.name.rpartition("-")[0]: host for host in fleet}


@pytest.fixture(scope="session")
def shop(apps):
    """The scenario's one app."""
    return apps["shop"]


@pytest.fixture(scope="session")
def served(hosts):
    """The release that each web host serves, asked directly."""

    def ask(names=WEB):
        found = {}
        for name in names:
            address = hosts[name].check_output("hostname -I").split()[0]
            request = urllib.request.Request(f"http://{address}/version", headers={"Host": "shop.test"})
            with urllib.request.urlopen(request, timeout=30) as answer:
                found[name] = json.load(answer)["release"]
        return found

    return ask


@pytest.fixture(scope="session")
def deploy(playbook):
    """Deploy some apps."""

    def do(*apps, options=(), **variables):
        names = ",".join(app["name"] for app in apps)
        return playbook("deploy", "-e", f"app={names}", *options, variables={"flask_apps": apps} | variables)

    return do


@pytest.fixture
def release(shop, variant):
    """Another release of the app: with a mark, and lines that run while it is imported."""

    def make(mark, lines="", healthz=""):
        with open(f"{shop['source']['path']}/shop/pages.py", encoding="utf-8") as file:
            pages = file.read()
        text = f"import socket\nMARK = {mark!r}\nHOST = socket.gethostname()\n{lines}\n"
        head = "from __future__ import annotations\n"
        pages = pages.replace(head, f"{head}{text}")
        answer = '    return jsonify(status="ok")'
        assert answer in pages
        return variant(shop, {"shop/pages.py": pages.replace(answer, f"{healthz}\n{answer}")})

    return make


@pytest.fixture(scope="session")
def balancer(hosts):
    """What every web host is at a balancer, by name: its status, or another field of the statistics."""

    def ask(field="status", where="emperor-balancer"):
        script = "import csv, socket, sys; s = socket.socket(socket.AF_UNIX); s.connect('/run/haproxy/admin.sock')\n"
        script += "s.sendall(b'show stat\\n'); text = b''.join(iter(lambda: s.recv(65536), b'')).decode()\n"
        script += "rows = [r for r in csv.DictReader(text[2:].splitlines()) if r['pxname'] == 'app_shop']\n"
        script += f"print(*[r['svname'] + '=' + r['{field}'] for r in rows], sep='\\n')"
        lines = hosts[where].check_output("python3 -c %s", script).splitlines()
        found = dict(line.split("=", 1) for line in lines)
        return {name: found[name] for name in WEB if name in found}

    return ask


@pytest.fixture(scope="session")
def wait_for(balancer):
    """Wait until a web host has a status at the balancer; return how long that took, in seconds."""

    def wait(name, status, seconds=30):
        begin = time.monotonic()
        while not (found := balancer()[name]).startswith(status):
            assert time.monotonic() - begin < seconds, f"{name} is {found}"
            time.sleep(0.1)
        return time.monotonic() - begin

    return wait


@pytest.fixture
def clients(hosts):
    """Clients of the first balancer, or of another address, for use with `with`."""
    first = hosts["emperor-balancer"].check_output("hostname -I").split()[0]
    kinds, gentle = VISITORS, {"pause": 0.3, "long": 6, "timeout": 10}
    return lambda address=first, **more: Load(
        [Target("shop", f"{address}:80", "shop.test")], Options(kinds=kinds, **{**gentle, **more})
    )


class Machines:
    """The hosts as machines, to be stopped, killed and started.

    :param hosts: by name.
    """

    def __init__(self, hosts):
        self._hosts = hosts
        self._containers = {name: host.backend.name for name, host in hosts.items()}

    def network(self, name, *command):
        """Change the network of a host by a command of this machine."""
        pid = Path(f"/run/emperor-hosts/{self._containers[name]}.pid").read_text(encoding="ascii").strip()
        subprocess.run(["nsenter", f"--target={pid}", "--net", *command], check=True)

    def podman(self, *arguments):
        """Let podman do something with the container of the host named last."""
        command = ["podman", *arguments[:-1], self._containers[arguments[-1]]]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def runs(self, name):
        """Whether a host is there."""
        return self.podman("container", "inspect", "--format={{.State.Running}}", name) == "true"

    def start(self, name):
        """Start a host. podman gives it other addresses, of both kinds; a machine keeps them."""
        alive = [one for one in BALANCERS if one != name]
        address = self._hosts[alive[0]].check_output("getent ahostsv4 %s", name).split()[0]
        gateway = self._hosts[alive[0]].check_output("ip route show default").split()[2]
        self.podman("start", name)
        self.network(name, "ip", "address", "flush", "dev", "eth0", "scope", "global")
        self.network(name, "ip", "address", "add", f"{address}/16", "dev", "eth0")
        self.network(name, "ip", "route", "replace", "default", "via", gateway)
        for one in alive:
            self.network(one, "ip", "neighbour", "flush", "dev", "eth0")
        self._hosts[name].run("systemctl is-system-running --wait")


@pytest.fixture(scope="session")
def machines(hosts):
    return Machines(hosts)
