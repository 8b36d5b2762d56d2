"""The exporter tells what happened, and costs next to nothing."""

import json
import os
import re
import time
from pathlib import Path

from conftest import FLUSH, GET, until

PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])


def requests_of(found, app):
    """How many requests an app had, by release."""
    totals = {}
    for labels, value in found.get("emperor_app_requests_total", {}).items():
        told = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        if told["app"] == app:
            totals[told["release"]] = totals.get(told["release"], 0) + value
    return totals


def test_requests_are_counted_through_a_switch_and_rotations(host, visited):
    of = visited[host.backend.name]
    (before, lines), (after, more) = of["before"], of["after"]
    counted = sum(requests_of(after, "shop").values()) - sum(requests_of(before, "shop").values())
    assert counted == more - lines
    for release, count in of["clients"].items():
        assert requests_of(after, "shop")[release] >= count
    for kind in ("request", "queue"):
        assert after[f"emperor_app_{kind}_seconds_count"]['app="shop"'] >= of["clients"].total()


def test_release_and_state_of_each_app_are_told(host, visited, metrics):
    assert visited
    found = metrics(host)
    release = host.check_output("readlink /srv/flask_apps/shop/current").rpartition("/")[2]
    assert f'app="shop",label="",release="{release}"' in found["emperor_release_info"]
    assert time.time() - found["emperor_release_activated_timestamp_seconds"][f'app="shop",release="{release}"'] < 900
    for name, value in (("up", 1), ("instances", 1), ("workers", 2), ("threads", 16), ("switching", 0)):
        assert found[f"emperor_app_{name}"]['app="shop"'] == value, name
    assert 5e6 < found["emperor_app_memory_bytes"]['app="shop"'] < found["emperor_app_memory_limit_bytes"]['app="shop"']
    days = (found["emperor_certificate_expiry_timestamp_seconds"]['app="desk"'] - time.time()) / 86400
    assert 80 < days < 900
    assert found["emperor_exporter_errors_total"][""] == 0


def test_busy_threads_and_slow_requests_show_while_they_happen(host, metrics):
    before = metrics(host)["emperor_app_events_total"]['app="desk",event="slow"']
    host.run("python3 -c %s 443 desk.test '/slow?seconds=4' >/dev/null 2>&1 &", GET)
    found = until(lambda: (told := metrics(host))["emperor_app_oldest_request_seconds"]['app="desk"'] >= 2 and told)
    assert found["emperor_app_threads_busy"]['app="desk"'] == 1
    assert until(lambda: metrics(host)["emperor_app_events_total"]['app="desk",event="slow"'] == before + 1)


def test_killed_worker_is_an_event_and_a_start(host, metrics):
    before = metrics(host)
    worker = host.check_output("pgrep -u desk -f desk.*ini | tail -1")
    host.check_output("kill -9 %s", worker)
    event, labels = 'app="desk",event="killed"', 'app="desk"'
    until(lambda: metrics(host)["emperor_app_events_total"][event] > before["emperor_app_events_total"][event])
    after = until(lambda: (told := metrics(host))["emperor_app_workers"][labels] == 2 and told)
    assert after["emperor_app_events_total"][event] == before["emperor_app_events_total"][event] + 1
    starts = [told["emperor_app_worker_starts_total"][labels] for told in (before, after)]
    assert starts[1] == starts[0] + 1


def test_exporter_starts_again_after_it_ends(host, ask, metrics):
    time.sleep(FLUSH)
    host.check_output("systemctl kill --signal=KILL emperor-exporter.service")
    until(lambda: host.run("python3 -c %s 9745 localhost /metrics", GET).rc == 0)
    assert sum(requests_of(metrics(host), "shop").values()) == 0, "what was counted already is counted again"
    ask(host, "/healthz", "shop.test", 80)
    assert until(lambda: sum(requests_of(metrics(host), "shop").values())) == 1


def test_exporter_is_sandboxed_and_unprivileged(host):
    line = host.check_output("systemd-analyze security --no-pager emperor-exporter.service").splitlines()[-1]
    assert float(line.split(":")[1].split()[0]) <= 2, line
    pid = host.check_output("systemctl show --property=MainPID --value emperor-exporter.service")
    status = host.file(f"/proc/{pid}/status").content_string
    assert "CapEff:\t0000000000000000" in status
    assert not re.search(r"^Uid:\s+0\b", status, re.MULTILINE)


def test_number_of_series_is_bounded(host, visited, metrics):
    assert visited
    found = metrics(host)
    count = sum(len(series) for series in found.values())
    # Per app: 11 values, 2 histograms of 16, 8 events, and the requests by 12 releases and 5 kinds of status at most.
    assert count < 2 * (11 + 32 + 8 + 60) + 10, count


def test_scrape_needs_little_cpu_time(host, ask):
    def cpu():
        """Seconds of the exporter and of the programs it ran."""
        pid = host.check_output("systemctl show --property=MainPID --value emperor-exporter.service")
        fields = host.check_output(f"cat /proc/{pid}/stat").rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / 100

    ask(host, "/metrics", "localhost", 9745)
    before, times = cpu(), 20
    for _time in range(times):
        ask(host, "/metrics", "localhost", 9745)
    # Prometheus asks every 15 s; this host has 2 apps, and other work slows it.
    assert (cpu() - before) / times < 0.15


def test_status_on_the_host_shows_each_app(host):
    host.run("python3 -c %s 443 desk.test '/slow?seconds=5' >/dev/null 2>&1 &", GET)
    told = until(lambda: (seen := host.check_output("emperor-status")).count("1 of 4") and seen)
    rows = {line.split()[0]: line for line in told.splitlines()[1:3]}
    assert set(rows) == {"shop", "desk"}
    release = host.check_output("readlink /srv/flask_apps/shop/current").rpartition("/")[2]
    assert release in rows["shop"]
    assert "days" in rows["desk"]
    answer = json.loads(host.check_output("emperor-status --json"))
    assert answer["shop"]["release"] == release
    assert answer["shop"]["workers"] == 2
