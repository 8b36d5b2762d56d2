"""Reading the logs of apps since a moment."""

import gzip
import json
import os
import subprocess
import time
from datetime import UTC, datetime
from typing import Any

import pytest
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
    found = [text for _at, text in app_logs.requests(str(tmp_path / "shop"), now - 600, 100, {})]
    assert [one.rstrip('"}').split()[-1].rpartition('"')[2] for one in found] == ["one", "two", "three", "four"]


def test_only_the_newest_lines_are_returned(log, tmp_path):
    now = time.time()
    log("access.log", [line(now - 10 + number / 100, str(number)) for number in range(500)], now)
    found = [text.rsplit(maxsplit=1)[-1] for _at, text in app_logs.requests(str(tmp_path / "shop"), now - 60, 3, {})]
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
    assert list(app_logs.requests(str(tmp_path / "shop"), 0, 10, {})) == []


@pytest.fixture
def journal(monkeypatch):
    """A journal: pairs of an identifier and what it wrote; the moment of each is its number."""
    written: list[tuple[float, str, Any]] = []

    def program(command, **_more):
        choice = next(one for one in command if one.startswith(("--after-cursor=", "--since=", "--show-cursor")))
        if choice == "--show-cursor":
            told = f"-- cursor: {len(written) - 1}\n" if written else ""
            return subprocess.CompletedProcess(command, 0, told, "")
        begin = int(choice.partition("=")[2]) + 1 if choice.startswith("--after") else 0
        found = [
            {
                "__CURSOR": str(number),
                "__REALTIME_TIMESTAMP": f"{at * 1e6:.0f}",
                "SYSLOG_IDENTIFIER": who,
                "MESSAGE": text,
            }
            for number, (at, who, text) in enumerate(written)
            if number >= begin and f"--identifier={who}" in command
        ]
        return subprocess.CompletedProcess(command, 0, "\n".join(json.dumps(one) for one in found), "")

    monkeypatch.setattr(subprocess, "run", program)
    return written


def told(answer):
    """App, kind and text of all entries."""
    return [tuple(entry[1:]) for entry in answer["entries"]]


def test_entries_of_apps_are_in_the_order_of_time(log, tmp_path, run_module, journal):
    now = time.time()
    log("access.log", [line(now - 20, "GET /cart"), line(now - 5, "GET /pay")], now)
    journal += [(now - 10, "shop", "spawned uWSGI worker 1 (pid: 7, cores: 1)"), (now - 9, "shop", "ValueError: no"),
                (now - 8, "blog", "not asked for"), (now - 1, "shop", list(b"not \xff\ntext"))]  # fmt: skip
    answer = run_module(app_logs, apps=["shop"], since="1m", directory=str(tmp_path))
    assert told(answer) == [
        ("shop", "request", "- GET /cart"),
        ("shop", "journal", "ValueError: no"),
        ("shop", "request", "- GET /pay"),
        ("shop", "journal", "not \ufffd"),
        ("shop", "journal", "text"),
    ]
    assert not answer["changed"]


def test_next_look_has_each_new_line_once_also_those_in_a_rotated_file(log, tmp_path, run_module, journal):
    now, arguments = time.time(), {"apps": ["shop"], "directory": str(tmp_path)}
    current = log("access.log", [line(now - 20, "one")], now)
    journal.append((now - 19, "shop", "first"))
    answer = run_module(app_logs, **arguments)
    assert told(answer) == [("shop", "request", "- one"), ("shop", "journal", "first")]
    assert run_module(app_logs, position=answer["position"], **arguments)["entries"] == []

    with current.open("a") as file:
        file.write(line(now - 10, "two") + "\n")
    current.rename(current.with_name("access.log.1"))
    log("access.log", [line(now - 5, "three"), line(now - 4, "half")], now)
    current.write_text(current.read_text().removesuffix("\n"))
    journal += [(now - 3, "blog", "not asked for"), (now - 2, "shop", "second")]
    answer = run_module(app_logs, position=answer["position"], wait=9, **arguments)
    assert [text for _app, _kind, text in told(answer)] == ["- two", "- three", "second"]

    with current.open("a") as file:
        file.write("\n")
    current.with_name("access.log.1").unlink()
    assert told(run_module(app_logs, position=answer["position"], **arguments)) == [("shop", "request", "- half")]


def test_a_host_whose_journal_is_empty_is_followed_from_now(tmp_path, run_module, journal):
    now, arguments = time.time(), {"apps": ["shop"], "directory": str(tmp_path)}
    answer = run_module(app_logs, **arguments)
    assert answer["entries"] == []
    journal.append((now, "shop", "first"))
    assert told(run_module(app_logs, position=answer["position"], **arguments)) == [("shop", "journal", "first")]


def test_the_wait_for_lines_has_an_end(tmp_path, run_module, journal, monkeypatch):
    assert not journal
    monkeypatch.setattr(app_logs, "TICK", 0)
    answer = run_module(app_logs, apps=["shop"], directory=str(tmp_path), wait=1)
    assert answer["entries"] == []


def test_wrong_span_is_refused(run_module):
    answer = run_module(app_logs, apps=["shop"], since="10 minutes")
    assert answer["msg"] == "since is '10 minutes', but must be a time span like 30s, 10m, 2h or 3d."
