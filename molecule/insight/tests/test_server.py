"""Prometheus asks all hosts; rules and dashboard fit what it is told."""

import json
import os
import re
import time
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml

PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
FILES = PROJECT / "roles/monitoring/files"
RULES = yaml.safe_load((FILES / "rules.yml").read_text())
DASHBOARD = json.loads((FILES / "dashboard.json").read_text())
TEST = PROJECT / "molecule/insight/tests/alerts.yml"
METRIC = re.compile(r"\b(?:emperor[_:]|nginx_|node_)[A-Za-z0-9_:]+")  # those of HAProxy: molecule/fleet
PATIENCE = 60  # seconds until rates have two values


@pytest.fixture(scope="module")
def server(fleet):
    (found,) = [host for host in fleet if host.backend.name.startswith("emperor-debian13")]
    return found


@pytest.fixture(scope="module")
def query(server, ask):
    def get(path):
        answer = json.loads(ask(server, f"/api/v1/{path}", "localhost", 9090)["body"])
        assert answer["status"] == "success", answer
        return answer["data"]

    return get


def alerts():
    return [rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule]


def expressions():
    """Every query of the dashboard, for all apps and hosts."""
    found = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    # The balancers' are asked in molecule/fleet, and alerts there need not be.
    found = [one for one in found if "haproxy_" not in one and not one.startswith("ALERTS")]
    found += [one["expr"] for one in DASHBOARD["annotations"]["list"]]
    return [one.replace("$app", ".*").replace("$instance", ".*") for one in found]


def test_all_hosts_and_exporters_are_scraped(query):
    wanted = {(job, f"emperor-debian{number}") for job in ("emperor", "nginx", "node") for number in (12, 13)}
    end = time.monotonic() + PATIENCE
    while True:
        targets = [(one["labels"], one["lastError"] or one["health"]) for one in query("targets")["activeTargets"]]
        found = {(labels["job"], labels["instance"]): told for labels, told in targets}
        if all(found.get(one) == "up" for one in wanted) or time.monotonic() > end:
            break
        time.sleep(1)
    assert {one: found.get(one) for one in wanted} == dict.fromkeys(wanted, "up")


def test_every_alert_fires_for_the_bad_host_and_none_for_the_good(server):
    server.check_output("mkdir -p /tmp/rules")
    for name, path in (("rules.yml", FILES / "rules.yml"), ("alerts.yml", TEST)):
        server.check_output("printf %%s %s > /tmp/rules/" + name, path.read_text())
    server.check_output("promtool check rules /tmp/rules/rules.yml")
    ended = server.run("cd /tmp/rules && promtool test rules alerts.yml")
    assert ended.rc == 0, ended.stdout + ended.stderr
    samples = yaml.safe_load(TEST.read_text())["tests"][0]["promql_expr_test"][0]["exp_samples"]
    expected = {re.search('alertname="([A-Za-z]+)"', one["labels"])[1] for one in samples}
    assert {rule["alert"] for rule in alerts()} == expected


def test_every_alert_says_what_and_what_to_do():
    for rule in alerts():
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
        assert set(rule["annotations"]) == {"summary", "cure"}, rule["alert"]


def test_every_metric_of_dashboard_and_alerts_exists(query, visited, fleet, ask):
    assert visited
    names = {name for text in expressions() + [rule["expr"] for group in RULES["groups"] for rule in group["rules"]]
             for name in METRIC.findall(text)}  # fmt: skip
    assert len(names) > 20
    end = time.monotonic() + PATIENCE
    while (missing := names - set(query("label/__name__/values"))) and time.monotonic() < end:
        for host in fleet:
            ask(host, "/fail")
        time.sleep(1)
    assert not missing


def test_every_query_of_the_dashboard_finds_something(query, visited, fleet, ask):
    assert visited

    def empty():
        return [one for one in expressions() if not query(f"query?query={quote(one)}")["result"]]

    end = time.monotonic() + PATIENCE
    while (found := empty()) and time.monotonic() < end:
        for host in fleet:
            ask(host, "/fail")
        time.sleep(1)
    assert not found


def test_prometheus_reads_the_rules_and_knows_the_alertmanager(query):
    names = {rule["name"] for group in query("rules")["groups"] for rule in group["rules"]}
    assert {rule.get("alert") or rule["record"] for group in RULES["groups"] for rule in group["rules"]} == names
    assert query("alertmanagers")["activeAlertmanagers"]


def test_hosts_that_prometheus_cannot_reach_are_refused_before_anything_changes(playbook):
    variables = {"monitoring_listen_address": "127.0.0.1"}
    run = playbook("monitoring", "--check", variables=variables)
    assert "as by monitoring_listen_address of emperor-debian12: set it to an address of that host" in run.error
