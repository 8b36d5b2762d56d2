"""The module `service_current`: a unit runs what is on disk, whoever changed it, and is left alone when it does."""

import os
import time
from datetime import datetime, timezone

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import system
from ansible_collections.flaskops.emperor.plugins.modules import service_current
from hypothesis import given
from hypothesis import strategies as st

RUNNING = {
    "Id": "nginx.service",
    "LoadState": "loaded",
    "ActiveState": "active",
    "UnitFileState": "enabled",
    "NeedDaemonReload": "no",
    "StateChangeTimestamp": "",
}


def stamp(moment):
    """A moment as systemd writes it."""
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%a %Y-%m-%d %H:%M:%S.%f UTC")


SYSTEMCTL = """
case "$1" in
  show) cat "{root}/properties" ;;
  *) echo "$*" >> "{root}/log"; test ! -e "{root}/fails" || {{ echo "Job for it failed." >&2; exit 1; }} ;;
esac
"""


class Unit:
    """A unit of a fake systemd: called, it gets another state."""

    def __init__(self, root):
        self.root = root

    def __call__(self, **changes):
        state = {**RUNNING, "StateChangeTimestamp": stamp(time.time()), **changes}
        (self.root / "properties").write_text("".join(f"{name}={value}\n" for name, value in state.items()))

    def fail(self):
        """Let everything fail that is done to it from now on."""
        (self.root / "fails").touch()

    def log(self):
        """What was done to it."""
        return (self.root / "log").read_text().splitlines() if (self.root / "log").exists() else []


@pytest.fixture
def unit(program, tmp_path):
    program("systemctl", SYSTEMCTL.format(root=tmp_path))
    program("journalctl", f'echo "$*" > {tmp_path}/asked; echo "its last words"')
    return Unit(tmp_path)


@pytest.fixture
def config(tmp_path):
    root = tmp_path / "etc"
    (root / "conf.d").mkdir(parents=True)
    (root / "main.conf").write_text("x")
    (root / "conf.d/site.conf").write_text("x")
    return root


@pytest.fixture
def current(run_module, config):
    def run(action="reload", **more):
        return run_module(service_current, name="nginx.service", files=[str(config)], action=action, **more)

    return run


def test_time_stamp_of_systemd_is_parsed():
    assert system.parse_time("Sun 2026-11-22 11:56:50.123456 UTC") == 1795348610.123456


@pytest.mark.parametrize("text", ["", "n/a", "0"])
def test_missing_time_stamp_is_before_everything(text):
    assert system.parse_time(text) == 0.0


@given(st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)))
def test_time_stamp_is_parsed_to_the_microsecond(naive):
    moment = naive.replace(tzinfo=timezone.utc)
    parsed = system.parse_time(moment.strftime("%a %Y-%m-%d %H:%M:%S.%f UTC"))
    assert datetime.fromtimestamp(parsed, timezone.utc) == moment


def after(path):
    """A moment after all that happened so far, by the clock of the file system."""
    probe = path / ".probe"
    probe.touch()
    moment = os.lstat(probe).st_ctime
    probe.unlink()
    moment = max([moment, *(os.lstat(one).st_ctime for one in [path, *path.rglob("*")])])
    time.sleep(0.02)  # the file system's clock is coarser than time.time()
    return moment + 0.005


CHANGES = {
    "content": lambda root: (root / "conf.d/site.conf").write_text("y"),
    "a new file": lambda root: (root / "conf.d/new.conf").touch(),
    "a removed file": lambda root: (root / "conf.d/site.conf").unlink(),
    "a removed directory": lambda root: ((root / "conf.d/site.conf").unlink(), (root / "conf.d").rmdir()),
    "a rename": lambda root: (root / "conf.d/site.conf").rename(root / "conf.d/a.conf"),
    "a link": lambda root: (root / "conf.d/default").symlink_to("gone"),
    "a mode": lambda root: (root / "main.conf").chmod(0o600),
    "a time set back": lambda root: os.utime(root / "main.conf", (1, 1)),
}


@pytest.mark.parametrize("what", CHANGES)
def test_every_kind_of_change_is_noticed(what, config):
    moment = after(config)
    assert system.changed_after(moment, [str(config)]) == ""
    CHANGES[what](config)
    assert system.changed_after(moment, [str(config)]).startswith(str(config))


def test_files_directories_and_globs_are_accepted(config):
    moment = after(config)
    (config / "conf.d/site.conf").write_text("y")
    for named in ("conf.d/site.conf", "conf.d", "conf.d/*.conf", "*"):
        assert system.changed_after(moment, [str(config / named)]) == str(config / "conf.d/site.conf")
    for named in ("main.conf", "*.conf", "nowhere", "nowhere/*"):
        assert system.changed_after(moment, [str(config / named)]) == ""
    assert system.changed_after(moment, [str(config / "main.conf"), str(config / "conf.d")])


def test_file_that_vanishes_while_it_is_read_is_no_error(config, monkeypatch):
    monkeypatch.setattr(system, "walk", lambda patterns: iter([str(config / "gone"), str(config)]))
    assert system.changed_after(0.0, [str(config)]) == str(config)


def test_a_unit_that_runs_what_is_on_disk_is_left_alone(unit, config, current):
    unit(StateChangeTimestamp=stamp(after(config) + 1))
    answer = current(test=["true"])
    assert (answer["changed"], answer["done"], answer["newer"]) == (False, [], "")
    assert unit.log() == []


@pytest.mark.parametrize("action", ["reload", "restart"])
def test_unit_is_reloaded_when_a_file_is_newer(action, unit, config, current):
    unit(StateChangeTimestamp=stamp(after(config)))
    (config / "main.conf").write_text("y")
    answer = current(action)
    assert answer["changed"]
    assert answer["newer"] == str(config / "main.conf")
    assert answer["done"] == [action]
    assert unit.log() == [f"{action} nginx.service"]


def test_unit_is_reloaded_by_the_next_run_after_a_lost_notification(unit, config, current):
    unit(StateChangeTimestamp=stamp(after(config)))
    (config / "conf.d/site.conf").unlink()
    unit.fail()
    assert current()["failed"]
    assert unit.log() == ["reload nginx.service"]
    assert current()["failed"]  # still not reloaded: tried again
    assert unit.log() == ["reload nginx.service"] * 2


@pytest.mark.parametrize("state", ["inactive", "failed", "deactivating", "activating"])
def test_stopped_unit_is_started_without_a_reload(state, unit, current):
    unit(ActiveState=state, StateChangeTimestamp="")
    assert current()["done"] == ["start"]
    assert unit.log() == ["start nginx.service"]


def test_reloading_unit_counts_as_running(unit, config, current):
    unit(ActiveState="reloading", StateChangeTimestamp=stamp(after(config) + 1))
    assert not current()["changed"]


def test_a_new_unit_is_enabled_and_started(unit, current):
    unit(ActiveState="inactive", UnitFileState="disabled", NeedDaemonReload="yes")
    assert current("restart")["done"] == ["daemon-reload", "enable", "start"]
    assert unit.log() == ["daemon-reload", "enable nginx.service", "start nginx.service"]


@pytest.mark.parametrize(("action", "done"), [("restart", ["daemon-reload", "restart"]), ("reload", ["daemon-reload"])])
def test_changed_unit_file_restarts_a_unit_with_action_restart(action, done, unit, config, current):
    unit(NeedDaemonReload="yes", StateChangeTimestamp=stamp(after(config) + 1))
    assert current(action)["done"] == done


def test_faulty_files_leave_the_unit_alone(unit, config, current, program):
    unit(StateChangeTimestamp=stamp(0), ActiveState="inactive")
    program("nginx", 'echo "emerg: unknown directive" >&2; exit 1')
    answer = current(test=["nginx", "-t"])
    assert answer["msg"] == ("nginx.service was left as it is: its files on disk are faulty. emerg: unknown directive")
    assert unit.log() == []


def test_the_test_runs_even_when_nothing_changed(unit, config, current):
    # What an earlier run or a person left on disk would break at the next reboot.
    unit(StateChangeTimestamp=stamp(after(config) + 1))
    assert current(test=["false"])["failed"]


def test_a_failed_action_shows_the_log_of_the_unit(unit, config, current, tmp_path):
    unit(ActiveState="failed")
    unit.fail()
    answer = current()
    assert answer["msg"].startswith("`systemctl start nginx.service` failed: Job for it failed.")
    assert answer["msg"].endswith("its last words")
    assert "--unit=nginx.service" in (tmp_path / "asked").read_text()


def test_later_steps_are_left_out_after_a_failed_step(unit, current):
    unit(ActiveState="inactive", UnitFileState="disabled")
    unit.fail()
    assert "systemctl enable" in current()["msg"]
    assert unit.log() == ["enable nginx.service"]


def test_a_unit_that_does_not_exist_is_refused(unit, current):
    unit(LoadState="not-found", ActiveState="inactive")
    assert current(test=["false"])["msg"] == "The unit nginx.service does not exist: install it first."


def test_check_mode_changes_nothing_and_reports_the_steps(unit, config, current):
    unit(ActiveState="inactive", UnitFileState="disabled", NeedDaemonReload="yes")
    answer = current("restart", check=True, diff=True)
    assert answer["changed"]
    assert answer["done"] == ["daemon-reload", "enable", "start"]
    assert unit.log() == []


def test_check_mode_warns_of_faulty_files_as_the_run_may_correct_them(unit, current, program, capsys):
    unit(ActiveState="inactive")
    program("nginx", 'echo "emerg: unknown directive" >&2; exit 1')
    assert current(check=True, test=["nginx", "-t"])["done"] == ["start"]
    told = capsys.readouterr().err
    assert "nginx.service on disk are faulty now. The run fails unless it corrects them. emerg" in told
    assert unit.log() == []


def test_check_mode_on_a_bare_host_works(unit, current):
    unit(LoadState="not-found", ActiveState="inactive")
    answer = current(check=True, test=["false"])
    assert answer["changed"]
    assert answer["done"] == ["enable", "start"]
