"""What is told of side processes, from what systemd says."""

from pathlib import Path

import pytest
from role_program import load

FILE = Path(__file__).parents[2] / "roles/uwsgi/files/side_facts.py"


@pytest.fixture
def facts():
    return load(FILE)


@pytest.fixture
def units(tmp_path):
    """The directory of units, with these that start at boot."""
    for target, names in {
        "multi-user": ["emperor-side-a-b.worker@1f-1.service", "emperor-side-a-b.worker@1f-2.service", "nginx.service"],
        "timers": ["emperor-side-a-b.tick.timer", "flask_apps-logs.timer"],
    }.items():
        (tmp_path / f"{target}.target.wants").mkdir()
        for name in names:
            (tmp_path / f"{target}.target.wants" / name).touch()
    return str(tmp_path)


def test_host_without_side_processes_does_not_ask_systemd(facts, tmp_path, monkeypatch):
    monkeypatch.setattr(facts, "states", lambda: pytest.fail("asked"))
    assert facts.Sides().look(str(tmp_path)) == {}


def test_processes_that_run_and_their_restarts_are_counted(facts, units, monkeypatch):
    monkeypatch.setattr(facts, "states", lambda: {
        "emperor-side-a-b.worker@1f-1.service": {"SubState": "running", "NRestarts": "2"},
        "emperor-side-a-b.worker@1f-2.service": {"SubState": "auto-restart", "NRestarts": "5"},
        "emperor-side-a-b.worker@0e-1.service": {"SubState": "stop-sigterm", "NRestarts": "9"},
    })  # fmt: skip
    told = facts.Sides().look(units)["a-b"]["worker"]
    assert told == {"kind": "background", "wanted": 2, "running": 1, "restarts": 7}


def test_last_success_is_kept_while_a_job_runs_or_fails(facts, units, monkeypatch):
    sides = facts.Sides()
    # Moments of the first two minutes of 1970.
    monkeypatch.setattr(facts, "boot", lambda: 75)

    def look(timer, began, **job):
        found = {
            "emperor-side-a-b.tick.timer": {
                "ActiveState": timer,
                "LastTriggerUSec": began and f"Thu 1970-01-01 00:01:{began - 60} UTC",
            }
        }
        monkeypatch.setattr(facts, "states", lambda: found | ({"emperor-side-a-b.tick.service": job} if job else {}))
        told = sides.look(units)["a-b"]["tick"]
        return tuple(told[key] for key in ("active", "running", "failed", "began", "succeeded"))

    assert look("active", "") == (1, 0, 0, 0, 0)
    assert look("active", 70) == (1, 0, 0, 70, 0), "before the boot"
    assert look("active", 80) == (1, 0, 0, 80, 80)
    assert look("active", 90, ActiveState="activating") == (1, 1, 0, 90, 80)
    assert look("active", 90, ActiveState="failed") == (1, 0, 1, 90, 80)
    assert look("inactive", 99, ActiveState="inactive") == (0, 0, 0, 99, 99)


def test_moment_of_the_boot_is_read(facts, tmp_path):
    (tmp_path / "stat").write_text("cpu 1 2 3\nbtime 1700000000\nprocesses 5\n")
    assert facts.boot(str(tmp_path)) == 1700000000
