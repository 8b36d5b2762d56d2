"""What is told of side processes, from what systemd says."""

import importlib.util
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "roles/uwsgi/files/side_facts.py"


@pytest.fixture
def facts():
    specification = importlib.util.spec_from_file_location("side_facts", FILE)
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


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
    seen: dict[str, dict[str, str]] = {}
    monkeypatch.setattr(facts, "states", lambda: seen)

    def look(timer, **job):
        seen.update({"emperor-side-a-b.tick.timer": {"ActiveState": timer}, "emperor-side-a-b.tick.service": job})
        told = sides.look(units)["a-b"]["tick"]
        return tuple(told[key] for key in ("active", "running", "failed", "ended", "succeeded"))

    assert look("active", Result="success", ExecMainExitTimestamp="", ActiveState="inactive") == (1, 0, 0, 0, 0)
    assert look("active", Result="success", ExecMainExitTimestamp="@70", ActiveState="inactive") == (1, 0, 0, 70, 70)
    assert look("active", Result="success", ExecMainExitTimestamp="", ActiveState="activating") == (1, 1, 0, 0, 70)
    assert look("active", Result="exit-code", ExecMainExitTimestamp="@90", ActiveState="failed") == (1, 0, 1, 90, 70)
    assert look("inactive", Result="success", ExecMainExitTimestamp="@99", ActiveState="inactive") == (0, 0, 0, 99, 99)
