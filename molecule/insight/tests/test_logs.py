"""Access logs and the journal tell what happened to every request."""

import re
from collections import Counter
from datetime import datetime

TIME = re.compile(r"2\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d")


def test_each_request_under_load_is_logged_once_with_its_release(host, visited, logged):
    clients = visited[host.backend.name]["clients"]
    assert len(clients) == 2, "the deploy did not happen under load"
    assert clients.total() >= 1000
    began = visited[host.backend.name]["began"]
    lines = [one for one in logged(host, "shop") if "httpx" in one["agent"] and one["time"] >= began]
    assert Counter(one["release"] for one in lines) == clients
    assert len({one["id"] for one in lines}) == len(lines)


def test_log_was_rotated_under_load_and_the_timer_runs(host, visited):
    assert visited
    files = host.check_output("ls /var/log/flask_apps/shop").split()
    assert {"access.log", "access.log.1", "access.log.2.gz", "access.log.3.gz"} <= set(files)
    assert host.service("flask_apps-logs.timer").is_running
    host.check_output("systemctl start flask_apps-logs.service")
    assert host.file("/var/log/flask_apps/shop").mode == 0o750


def test_line_says_when_who_what_and_how_long(host, visited, logged):
    assert visited
    line = [one for one in logged(host, "shop") if one["path"] == "/slow" and one["method"] == "GET"][-1]
    assert TIME.fullmatch(line["time"])
    assert re.fullmatch(r"\d{10,}\.\d{3}", str(line["at"]).ljust(14, "0"))
    assert 0 <= float(line["at"]) - datetime.fromisoformat(line["time"]).timestamp() < 1
    assert (line["status"], line["host"]) == (200, "shop.test")
    assert 0.1 <= float(line["app_seconds"]) <= float(line["seconds"]) + 0.01
    assert 0 <= float(line["queue"]) < float(line["app_seconds"])
    assert int(line["bytes"]) > 50
    # One host keeps all of it, one the network only.
    assert line["address"].endswith(".0") is host.backend.name.startswith("emperor-debian12"), line["address"]


def test_query_is_not_logged_and_static_file_has_no_release(host, ask, logged):
    answer = ask(host, "/static/shop.css?password=secret", "shop.test", 80)
    line = logged(host, "shop", answer)
    assert (line["path"], line["release"]) == ("/static/shop.css", "-")
    assert line["queue"] in (None, "-")


def test_clients_are_not_told_what_is_for_the_log(host, ask):
    assert not {"x-emperor-release", "x-emperor-queue"} & set(ask(host, "/")["headers"])


def test_exception_is_in_the_journal_with_request_id_and_release(host, ask, logged):
    answer = ask(host, "/fail?password=secret")
    assert answer["status"] == 500
    line = logged(host, "desk", answer)
    journal = host.check_output("journalctl --no-pager --output=cat --identifier=desk")
    told = f"request {line['id']} GET /fail (release {line['release']}) got 500"
    assert told in journal
    assert "ValueError: the drawer is stuck" in journal.partition(told)[2]
    assert "secret" not in journal


def test_slow_request_tells_what_it_does(host, ask):
    answer = ask(host, "/slow?seconds=2.2")
    journal = host.check_output("journalctl --no-pager --output=cat --identifier=desk")
    told = journal.partition(f"request {answer['headers']['x-request-id']} GET /slow")[2]
    assert "takes more than 1 s. What it does:" in told
    assert re.search(r'desk\.py", line \d+, in slow\n\s+time\.sleep\(seconds\)', told)


def test_wrong_settings_are_refused_with_a_sentence(playbooks):
    wrong = {
        ("-e", "app=dusk"): "dusk is not in flask_apps: choose from shop, desk.",
        ("-e", "since='10 minutes'"): "since is '10 minutes', but must be a time span like 30s",
        ("-e", "follow=1", "--forks", "1"): "2 hosts cannot be followed with 1 forks: add `--forks 2`",
    }
    for run, said in zip(playbooks(*((("logs", *one), None) for one in wrong)), wrong.values(), strict=True):
        assert said in run.error
