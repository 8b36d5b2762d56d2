"""The trial start: on a private socket, with everything as it will be."""

import os
import time

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal import watch
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.config import Config
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.health import Unhealthy
from vassal_host import (
    MIB,
    ended,
    left,
)


def test_healthy_app_passes_the_trial_start_and_leaves_nothing(tried_start, tmp_path, deeds):
    tried_start("1")
    assert left(tmp_path) == ["child", "content"]
    assert ended(int((tmp_path / "run/shop/child").read_text()))
    command = next(what[0] for what in deeds.of("run as") if "systemd-run" in what[0])
    assert {"--unit=emperor-trial-shop.service", "--property=User=shop", f"--gid={os.getgid()}",
            "--property=NoNewPrivileges=yes", "--property=CapabilityBoundingSet=",
            "--property=TasksMax=512"} <= set(command)  # fmt: skip


def test_master_of_the_trial_start_is_asked_until_it_has_ended(tried_start, tmp_path, monkeypatch):
    asked: list[str] = []
    monkeypatch.setattr(watch, "statistics", asked.append)
    tried_start("1")
    assert set(asked) == {str(tmp_path / "run/shop/trial.stats")}


def test_memory_of_the_trial_start_is_measured_while_it_runs(tried_start, tmp_path):
    used = tried_start("1")
    assert used
    assert MIB < used.private <= used.total < 200 * MIB
    assert used.private <= used.rss < 200 * MIB


def test_memory_that_the_kernel_hides_is_unknown(tried_start, program):
    program("cat", "exit 1")
    assert tried_start("1") is None


def test_trial_start_of_a_chain_uses_the_new_release(tried_start, params, tmp_path):
    environment = {"EMPEROR_SERVING": params["serving"], "VIRTUAL_ENV": params["serving"] + "/venv"}
    tried_start("1", environment, link=params["serving"], release="/releases/r2")
    found = Config.parse((tmp_path / "run/shop/content").read_text()).environment
    assert found == {"EMPEROR_SERVING": "/releases/r2", "VIRTUAL_ENV": "/releases/r2/venv"}


def test_without_a_chain_the_trial_start_has_the_file_as_it_is(tried_start, params, tmp_path):
    tried_start("1", {"A": params["serving"]}, link=params["serving"])
    assert Config.parse((tmp_path / "run/shop/content").read_text()).environment == {"A": params["serving"]}


def test_app_that_ends_is_not_awaited_and_its_last_lines_are_shown(tried_start, tmp_path):
    began = time.monotonic()
    with pytest.raises(Unhealthy) as failure:
        tried_start("gone")
    assert time.monotonic() - began < 15
    assert str(failure.value).startswith("it ends before it answers (exit code 22)\n")
    assert "Traceback: it has" in str(failure.value)
    assert "mode 0o400" in str(failure.value)  # of the file that has it
    assert "PATH" not in str(failure.value)  # the environment is the vassal file's, nothing of root's
    assert left(tmp_path) == []


def test_app_whose_workers_die_is_not_awaited(tried_start, tmp_path):
    began = time.monotonic()
    with pytest.raises(Unhealthy, match=r"^its workers die as soon as they start\nTraceback"):
        tried_start("dying")
    assert time.monotonic() - began < 15
    assert left(tmp_path) == []


def test_app_with_a_wrong_status_is_reported_and_ended(tried_start, tmp_path):
    with pytest.raises(Unhealthy, match="after 1 s it answers /healthz with status 500"):
        tried_start("broken", start_timeout=1)
    assert left(tmp_path) == ["child", "content"]
    assert ended(int((tmp_path / "run/shop/child").read_text()))


def test_app_that_ignores_sigterm_is_killed_with_its_children(tried_start, tmp_path, monkeypatch):
    monkeypatch.setenv("STOP_TRIES", "5")
    tried_start("stubborn")
    assert ended(int((tmp_path / "run/shop/child").read_text()))


def test_without_a_sandbox_nothing_is_started(tried_start, tmp_path):
    (tmp_path / "emperor.service").unlink()
    with pytest.raises(Unhealthy, match="so an app's code has no sandbox: run playbooks/site"):
        tried_start("1")
    assert left(tmp_path) == []
