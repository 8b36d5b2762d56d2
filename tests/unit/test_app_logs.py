"""Reading the logs of apps since a moment."""

import gzip
import os
import time
from datetime import UTC, datetime

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils.checkup import logs
from ansible_collections.flaskops.emperor.plugins.modules import app_logs


def line(at, text="GET /", json=False):
    stamp = datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
    return f'{{"time":"{stamp}","at":{at:.3f},"path":"{text}"}}' if json else f"{stamp} - at={at:.3f} {text}"


@pytest.fixture
def log(tmp_path):
    """Write log files of the shop, each with the time of its last line."""

    def write(name, lines, at):
        path = tmp_path / "shop" / name
        path.parent.mkdir(exist_ok=True)
        content = "".join(f"{one}\n" for one in lines).encode()
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        os.utime(path, (at, at))
        return path

    return write


@pytest.mark.parametrize(("text", "span"), [("30", 30), ("30s", 30), ("10m", 600), ("2h", 7200), ("3d", 259200)])
def test_span_with_a_unit_is_seconds(text, span):
    assert app_logs.seconds(text) == span


@pytest.mark.parametrize("text", ["", "m", "10 m", "-1m", "1.5h", "1w", "yesterday"])
def test_invalid_time_span_is_rejected(text):
    assert app_logs.seconds(text) is None


@pytest.mark.parametrize("json", [False, True])
def test_lines_since_a_moment_come_from_all_files_oldest_first(log, tmp_path, json):
    now = time.time()
    log("access.log.3.gz", [line(now - 9000, "too old", json)], now - 9000)
    log("access.log.2.gz", [line(now - 800, "old", json), line(now - 500, "one", json)], now - 500)
    log("access.log.1", [line(now - 400, "two", json)], now - 400)
    log("access.log", [line(now - 300, "three", json), "broken", line(now, "four", json)], now)
    found = [text for _at, text in app_logs.requests(str(tmp_path / "shop"), now - 600, 100)]
    assert [one.rstrip('"}').split()[-1].rpartition('"')[2] for one in found] == ["one", "two", "three", "four"]


def test_only_the_newest_lines_are_returned(log, tmp_path):
    now = time.time()
    log("access.log", [line(now - 10 + number / 100, str(number)) for number in range(500)], now)
    found = [text.rsplit(maxsplit=1)[-1] for _at, text in app_logs.requests(str(tmp_path / "shop"), now - 60, 3)]
    assert found == ["497", "498", "499"]


def test_a_large_log_is_not_read_from_its_beginning(log):
    now = time.time()
    path = log("access.log", [line(now - 3000 + number, "x" * 500) for number in range(3000)], now)
    with app_logs.opened(str(path), now - 50) as file:
        begin = file.tell()
        first = app_logs.moment(file.readline().decode())
    assert begin > path.stat().st_size * 0.9
    assert now - 250 < first < now - 50


def test_an_app_without_a_log_has_no_lines(tmp_path):
    assert list(app_logs.requests(str(tmp_path / "shop"), 0, 10)) == []


def test_entries_of_apps_are_in_the_order_of_time(log, tmp_path, run_module, monkeypatch):
    now = time.time()
    log("access.log", [line(now - 20, "GET /cart"), line(now - 5, "GET /pay")], now)
    journal = [(now - 10, "spawned uWSGI worker 1 (pid: 7, cores: 1)"), (now - 9, "ValueError: no")]
    monkeypatch.setattr(logs, "journal", lambda *_arguments: journal)
    answer = run_module(app_logs, apps=["shop"], since="1m", directory=str(tmp_path))
    told = [(app, kind, text) for _at, app, kind, text in answer["entries"]]
    assert told == [
        ("shop", "request", "- GET /cart"),
        ("shop", "journal", "ValueError: no"),
        ("shop", "request", "- GET /pay"),
    ]
    assert not answer["changed"]


def test_wrong_span_is_refused(run_module):
    answer = run_module(app_logs, apps=["shop"], since="10 minutes")
    assert answer["msg"] == "since is '10 minutes', but must be a time span like 30s, 10m, 2h or 3d."
