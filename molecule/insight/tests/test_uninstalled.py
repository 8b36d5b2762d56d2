"""What is left of observation when an app is removed, and when all is. The last of the tests: it leaves empty hosts."""

import json
from urllib.parse import quote

from conftest import GET, until

PATHS = ("/etc/prometheus", "/var/lib/prometheus", "/etc/default/prometheus*", "/etc/nginx/conf.d/monitoring.conf",
         "/usr/local/lib/emperor*", "/usr/local/libexec/emperor*", "/etc/systemd/system/emperor*",
         "/var/log/flask_apps", "/etc/flask_apps")  # fmt: skip
PORTS = (9745, 9746, 9100, 9113, 9090, 9093)


def test_app_that_is_removed_ends_in_metrics_and_alerts(fleet, playbook, apps, metrics, ask):
    run = playbook("remove", "-e", "app=desk", "-e", "confirm=yes", variables={"flask_apps": [apps["shop"]]})
    assert not run.failed, run.output
    (server,) = [one for one in fleet if one.backend.name.startswith("emperor-debian13")]

    def asked(path):
        return json.loads(ask(server, f"/api/v1/{path}", "localhost", 9090)["body"])["data"]

    def alerts():
        return [one for one in asked("alerts")["alerts"] if one["labels"].get("app") == "desk"
                and one["labels"]["alertname"] in ("AppDown", "SideProcessDown", "ScheduleStopped")]  # fmt: skip

    for host in fleet:
        told = metrics(host)
        assert not [labels for series in told.values() for labels in series if "desk" in labels]
        assert told["emperor_exporter_errors_total"][""] == 0
    # Rates of its last minutes are still known, by the names of the rules that record them.
    of_desk = "query?query=" + quote('{__name__=~"emperor_.+",app="desk"}')
    assert until(lambda: not asked(of_desk)["result"]), asked(of_desk)["result"]
    assert {one["health"] for one in asked("targets")["activeTargets"]} == {"up"}
    # One that was seen while it ended is forgotten when the rules are looked at next.
    assert until(lambda: not alerts()), alerts()


def test_hosts_that_are_removed_keep_nothing_of_observation(fleet, playbook):
    run = playbook("remove", "-e", "confirm=yes")
    assert not run.failed, run.output
    for host in fleet:
        assert not host.run(f"ls -d {' '.join(PATHS)}").stdout
        assert not host.check_output(
            "dpkg-query --show --showformat='${Package} ${Status}\n' 'prometheus*' | grep -v unknown || true"
        )
        assert "emperor-metrics" not in host.file("/etc/passwd").content_string
        for port in PORTS:
            assert host.run("python3 -c %s %s localhost /", GET, str(port)).rc != 0, port
