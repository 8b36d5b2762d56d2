"""The unit of an app's Emperor: its memory limit, and what the kernel killed at it."""

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import emperor_unit

GROUP = "system.slice/emperor-app@shop.service"


@pytest.fixture
def tree(tmp_path, monkeypatch, program):
    program("systemctl", f"echo Id=emperor-app@shop.service; echo ControlGroup=/{GROUP}")
    monkeypatch.setattr(emperor_unit, "TREE", tmp_path)
    return tmp_path


def test_no_limit_and_no_kill_where_the_kernel_tells_none(tree):
    assert emperor_unit.killed("shop") == {"limit": 0, "killed": 0}


@pytest.mark.parametrize(
    ("top", "most", "events"),
    [(".", "memory.max", "memory.events"), ("memory", "memory.limit_in_bytes", "memory.oom_control")],
)
def test_limit_and_kills_with_both_versions_of_control_groups(tree, top, most, events):
    group = tree / top / GROUP
    group.mkdir(parents=True)
    (group / most).write_text("1000\n")
    (group / events).write_text("oom 2\noom_kill 3\n")
    assert emperor_unit.killed("shop") == {"limit": 1000, "killed": 3}
    (group / most).write_text(f"{1 << 62}\n")
    assert emperor_unit.killed("shop")["limit"] == 0


def test_app_that_does_not_run_has_no_limit(tree, program):
    program("systemctl", "echo Id=emperor-app@shop.service; echo ControlGroup=")
    assert emperor_unit.killed("shop") == {"limit": 0, "killed": 0}


@pytest.fixture
def told(program, tmp_path, monkeypatch):
    """The calls of systemctl so far; for a host with a directory for units, ``units``."""
    (tmp_path / "units").mkdir()
    monkeypatch.setattr(emperor_unit, "UNITS", tmp_path / "units")
    program("systemctl", f'echo "$*" >> {tmp_path}/told')

    def calls():
        return (tmp_path / "told").read_text().splitlines()

    return calls


def test_network_is_told_to_systemd_once_and_forgotten_with_the_unit(told, tmp_path):
    file = tmp_path / "units/emperor-app@shop.service.d/app.conf"
    assert emperor_unit.confine("shop", "local 10.0.3.7")
    assert not emperor_unit.confine("shop", "local 10.0.3.7")
    assert told() == ["daemon-reload", "set-property emperor-app@shop.service MemorySwapMax=0"]
    limits = ["IPAddressDeny=any", "IPAddressAllow=localhost", "IPAddressAllow=10.0.3.7"]
    assert file.read_text().splitlines()[1:] == ["[Service]", "Slice=emperor-shop.slice", *limits]
    emperor_unit.stop("shop")
    assert not file.parent.exists()


def test_kernel_may_filter_addresses_with_control_groups_of_version_2(tree):
    assert not emperor_unit.may_filter_addresses()
    (tree / "cgroup.controllers").write_text("")
    assert emperor_unit.may_filter_addresses()


def test_filter_works_where_a_unit_cannot_send(program):
    """The fake systemd-run runs the command that it is given."""
    program("systemd-run", 'for last; do test "$1" = /usr/bin/python3 && exec "$@"; shift; done')
    assert not emperor_unit.filters_addresses()
    program("systemd-run", "exit 1")
    assert not emperor_unit.filters_addresses()
    program("systemd-run", f"exit {emperor_unit.KEPT_FROM}")
    assert emperor_unit.filters_addresses()


def test_limit_is_told_to_systemd_and_forgotten_with_the_unit(told):
    emperor_unit.limit("shop", "1000")
    emperor_unit.stop("shop")
    assert told() == ["set-property emperor-app@shop.service MemoryMax=1000 MemorySwapMax=0",
                    "stop emperor-app@shop.service emperor-shop.slice",
                    "revert emperor-app@shop.service emperor-shop.slice",
                    "daemon-reload", "reset-failed emperor-app@shop.service"]  # fmt: skip


def test_limit_is_what_systemd_has(program):
    program("systemctl", "echo Id=emperor-app@shop.service; echo MemoryMax=1000")
    assert emperor_unit.limited("shop") == "1000"
    program("systemctl", "exit 1")
    assert emperor_unit.limited("shop") == ""


def test_kernel_limits_memory_where_it_has_a_controller_for_it(tree):
    assert not emperor_unit.limits_memory()
    (tree / "memory").mkdir()
    assert emperor_unit.limits_memory()
    (tree / "cgroup.controllers").write_text("cpu pids\n")
    assert not emperor_unit.limits_memory()
    (tree / "cgroup.controllers").write_text("cpu memory pids\n")
    assert emperor_unit.limits_memory()
