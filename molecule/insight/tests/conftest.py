"""Clients of the shop during a deploy while its log is rotated; and what the hosts tell of them."""

import json
import shutil
import time
from collections import Counter

import pytest
from load_client import Load, Options, Target
from load_report import NO_RELEASE

ROTATE = "logrotate --force --state /var/lib/logrotate/flask_apps.status /etc/flask_apps/logrotate.conf"
FLUSH = 2.5  # seconds after which nginx, which does it once a second, has written what it was asked to its logs
WAIT = 20  # seconds for the Emperor or systemd to do something
GET = """
import http.client, json, ssl, sys
port, host, path = int(sys.argv[1]), sys.argv[2], sys.argv[3]
connection = http.client.HTTPConnection("127.0.0.1", port, timeout=40)
connection.connect()
if port == 443:
    connection.sock = ssl._create_unverified_context().wrap_socket(connection.sock, server_hostname=host)
connection.request("GET", path, headers={"Host": host})
answer = connection.getresponse()
body = answer.read().decode()
print(json.dumps({"status": answer.status, "body": body, "headers": {k.lower(): v for k, v in answer.getheaders()}}))
"""


def until(check):
    """Wait for something to be true; returns what it is."""
    end = time.monotonic() + WAIT
    while not (found := check()) and time.monotonic() < end:
        time.sleep(0.5)
    return found


@pytest.fixture(scope="session")
def ask():
    """Ask a host for a page of itself."""

    def get(host, path, name="desk.test", port=443):
        return json.loads(host.check_output("python3 -c %s %s %s %s", GET, str(port), name, path))

    return get


@pytest.fixture(scope="session")
def metrics(ask):
    """All metrics of a host's exporter: by name, then by labels as text."""

    def read(host):
        found = {}
        for line in ask(host, "/metrics", "localhost", 9745)["body"].splitlines():
            if not line.startswith("#"):
                series, _space, value = line.rpartition(" ")
                name, _brace, labels = series.partition("{")
                found.setdefault(name, {})[labels.rstrip("}")] = float(value)
        return found

    return read


@pytest.fixture(scope="session")
def logged():
    """The lines of an app's access log, rotated ones too, as dicts in the order of time; or the one of an answer."""

    def lines(host, app):
        text = host.check_output(f"zcat --force /var/log/flask_apps/{app}/access.log*")
        return sorted((parse(line) for line in text.splitlines()), key=lambda line: float(line["at"]))

    def read(host, app, answer=None):
        if answer is None:
            time.sleep(FLUSH)
            return lines(host, app)
        number = answer["headers"]["x-request-id"]
        (line,) = until(lambda: [one for one in lines(host, app) if one["id"] == number])
        return line

    return read


def parse(line):
    """A line, in either format."""
    if line.startswith("{"):
        return json.loads(line)
    words = line.split(" ")
    found = dict(zip(("time", "address", "method", "path", "status"), words, strict=False))
    pairs = [word.partition("=") for word in words[5:]]
    found |= {name: value for name, sign, value in pairs if sign and name != "agent"}
    return found | {"status": int(words[4]), "agent": line.rpartition("agent=")[2].strip('"')}


@pytest.fixture(scope="session")
def visited(fleet, addresses, playbook, apps, metrics, logged, tmp_path_factory):
    """A deploy of the shop under load, its log rotated before, while and after the releases change.

    Returns, of each host, what clients got by release, and the difference of its metrics and of its log.
    """
    source = tmp_path_factory.mktemp("second") / "shop"
    shutil.copytree(apps["shop"]["source"]["path"], source)
    (source / "second.txt").write_text(f"another release, {time.time()}\n")
    changed = [app | ({"source": {"path": str(source)}} if app["name"] == "shop" else {}) for app in apps.values()]

    def counted(host):
        """Its metrics, and how many lines its log has; in the same state."""
        lines = len(logged(host, "shop"))
        return metrics(host), lines

    before = {host: counted(host) for host in fleet}
    began = fleet[0].check_output("date +%Y-%m-%dT%H:%M:%S --utc")
    targets = [Target(name, f"{address}:80", "shop.test") for name, address in addresses.items()]
    with Load(targets, Options({"get_keep": 2, "get_close": 1, "post": 1, "slow": 1, "order": 1})) as load:
        for host in fleet:
            host.check_output(ROTATE)
        run = playbook("deploy", "-e", "app=shop", variables={"flask_apps": changed})
        assert not run.failed, run.output
        for _time in range(2):
            time.sleep(5)  # the exporter reads each file: Prometheus asks every 2 s
            for host in fleet:
                host.check_output(ROTATE)
    report, found = load.report, {}
    assert not report.failures, report
    for host in fleet:
        name = host.backend.name
        clients = Counter(
            report.releases[release]
            for to, release in zip(report.target, report.release, strict=True)
            if report.targets[to] == name and release != NO_RELEASE
        )
        found[name] = {
            "began": began,
            "clients": clients,
            "before": before[host],
            "after": counted(host),
        }
    return found
