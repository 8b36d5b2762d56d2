"""What emperor-status shows of the apps of a host."""

import re
import sys
from pathlib import Path

import pytest
from role_program import load

FILES = Path(__file__).parents[2] / "roles/uwsgi/files"


@pytest.fixture(scope="module")
def status():
    sys.path.insert(0, str(FILES))
    module = load(FILES / "emperor_status.py")
    sys.path.remove(str(FILES))
    return module


APP = {"release": "1a2b", "label": "v1.2", "activated": 1_700_000_000, "switching": 0, "up": 1, "workers": 2,
       "threads": 16, "threads_busy": 3, "queue": 1, "oldest_request_seconds": 4.4, "memory_bytes": 50 << 20,
       "memory_limit_bytes": 300 << 20, "certificate": 0}  # fmt: skip


def columns(status, **changed):
    rows = status.table({"shop": APP | changed}).splitlines()
    return dict(zip(*(re.split(r" {2,}", row) for row in rows), strict=False))


def test_running_app_shows_its_release_and_work(status):
    shown = columns(status)
    assert (shown["app"], shown["release"], shown["workers"]) == ("shop", "1a2b (v1.2)", "2")
    assert (shown["busy threads"], shown["queue"], shown["oldest request"]) == ("3 of 16", "1", "4 s")
    assert shown["memory"] == "50 of 300 MiB"


def test_app_without_workers_is_down(status):
    assert columns(status, up=0, workers=0)["workers"] == "DOWN"


BACKGROUND = {"kind": "background", "wanted": 2, "running": 2, "restarts": 0}
SCHEDULE = {"kind": "schedule", "active": 1, "running": 0, "failed": 0, "began": 0, "succeeded": 0}


@pytest.mark.parametrize(
    ("told", "phrase"),
    [
        (BACKGROUND, "work 2 of 2 run"),
        (BACKGROUND | {"running": 1, "restarts": 3}, "! work 1 of 2 run, started again 3 times"),
        (SCHEDULE, "work waits, last success not seen yet"),
        (SCHEDULE | {"failed": 1}, "! work FAILED when it last ran, last success not seen yet"),
        (SCHEDULE | {"active": 0}, "! work IS NOT SCHEDULED, last success not seen yet"),
    ],
)
def test_side_process_that_does_not_do_what_it_should_is_marked(status, told, phrase):
    assert status.side("work", told) == phrase
    assert status.sides({"shop": APP | {"sides": {"work": told}}}) == [f"side processes of shop: {phrase}"]


def test_switch_under_way_and_missing_limit_are_told(status):
    shown = columns(status, switching=1, memory_limit_bytes=None)
    assert shown["live since"].endswith("a switch is under way")
    assert shown["memory"] == "50 MiB"


def test_root_of_the_apps_is_read_from_a_vassal_file(status, tmp_path):
    assert status.root_of_apps(str(tmp_path)) == "/srv/flask_apps"
    (tmp_path / "shop.blue.ini").write_text(
        'environment = {"A": "x", "VIRTUAL_ENV": "/data/apps/shop/releases/1a2b/venv"}\n'
    )
    assert status.root_of_apps(str(tmp_path)) == "/data/apps"
