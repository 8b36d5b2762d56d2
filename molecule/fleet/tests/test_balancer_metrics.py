"""Prometheus asks HAProxy, and finds all that alerts and dashboard ask it for."""

import json
import os
import re
import time
from pathlib import Path

import yaml

FILES = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"], "roles/monitoring/files")
PATIENCE = 120  # seconds, on a busy machine
GET = "import sys, urllib.request as u; print(u.urlopen('http://127.0.0.1:9090/api/v1/' + sys.argv[1]).read().decode())"


def test_prometheus_finds_every_metric_of_the_balancer_that_alerts_and_dashboard_name(hosts, playbook):
    balancer = hosts["emperor-balancer"]
    reachable = {"monitoring_listen_address": "0.0.0.0", "load_balancer_metrics": "0.0.0.0:8404"}
    fast = {"monitoring_scrape_seconds": 2}
    run = playbook("monitoring", "--limit=emperor-balancer", variables=reachable | fast)
    assert not run.failed, run.output

    def ask(path):
        end = time.monotonic() + PATIENCE
        while (answer := balancer.run("python3 -c %s %s", GET, path)).rc and time.monotonic() < end:
            time.sleep(1)  # Prometheus is starting
        return json.loads(answer.stdout)["data"]

    def health():
        return {one["labels"]["job"]: one["health"] for one in ask("targets")["activeTargets"]
                if one["labels"]["instance"] == "emperor-balancer"}  # fmt: skip

    texts = [panel["targets"][0]["expr"] for panel in json.loads((FILES / "dashboard.json").read_text())["panels"]]
    rules = yaml.safe_load((FILES / "rules.yml").read_text())["groups"]
    texts += [rule["expr"] for group in rules for rule in group["rules"]]
    wanted = {name for text in texts for name in re.findall(r"haproxy_[a-z_]+", text)}
    assert len(wanted) >= 4
    end = time.monotonic() + PATIENCE
    while (missing := wanted - set(ask("label/__name__/values"))) and time.monotonic() < end:
        time.sleep(1)
    assert not missing
    # On a busy machine a look at the node takes longer than the second that it may.
    while (up := health()) != {"haproxy": "up", "node": "up"} and time.monotonic() < end + PATIENCE:
        time.sleep(1)
    assert up == {"haproxy": "up", "node": "up"}
    backends = {one["metric"]["proxy"] for one in ask("query?query=haproxy_backend_active_servers")["result"]}
    assert {"app_shop", "app_echo"} <= backends
