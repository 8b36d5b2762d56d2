"""Where the control group of an app is, and what it tells."""

import subprocess

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import control_group


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A host of version 2 on which the Emperor runs, and one app."""
    tmp_path.joinpath("cgroup.controllers").write_text("cpu memory")
    group = tmp_path / "system.slice/emperor.service/app-shop"
    group.mkdir(parents=True)
    group.joinpath("memory.max").write_text("max\n")
    group.joinpath("memory.events").write_text("low 0\nmax 7\noom 2\noom_kill 3\noom_group_kill 0\n")
    monkeypatch.setattr(control_group, "TREE", tmp_path)
    systemd(monkeypatch, "/system.slice/emperor.service\n")
    return tmp_path


def systemd(monkeypatch, answer):
    monkeypatch.setattr(subprocess, "run", lambda command, **_more: subprocess.CompletedProcess(command, 0, answer))


def test_running_app_has_a_group_with_its_kills(tree):
    group = control_group.of_app("shop")
    assert group
    assert group == tree / "system.slice/emperor.service/app-shop"
    assert control_group.killed(group) == 3


def test_an_app_that_does_not_run_has_none(tree):
    assert control_group.of_app("api") is None


def test_no_app_has_a_group_while_the_emperor_is_stopped(tree, monkeypatch):
    systemd(monkeypatch, "\n")
    tree.joinpath("app-shop").mkdir()
    tree.joinpath("app-shop/memory.max").write_text("max\n")
    assert control_group.of_app("shop") is None


def test_no_app_has_a_group_where_groups_do_not_limit_memory(tree):
    tree.joinpath("system.slice/emperor.service/app-shop/memory.max").unlink()
    assert control_group.of_app("shop") is None


def test_host_with_control_groups_version_1_runs_no_command(tree, monkeypatch):
    tree.joinpath("cgroup.controllers").unlink()
    monkeypatch.setattr(subprocess, "run", None)
    assert control_group.of_app("shop") is None
