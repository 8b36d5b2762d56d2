"""The action plugin `deploy_lock`: it waits for living runs, and takes over the lock of a dead one."""

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import time
from types import SimpleNamespace
from unittest import mock

import pytest
from ansible_collections.flaskops.emperor.plugins.action import deploy_lock as action
from ansible_collections.flaskops.emperor.plugins.module_utils import exclusive
from ansible_collections.flaskops.emperor.plugins.modules import deploy_lock as module
from other_run import OTHER


def test_run_is_identified_by_the_parent_of_its_workers():
    fork = multiprocessing.get_context("fork")
    answers = fork.Queue()
    worker = fork.Process(target=lambda: answers.put(action.this_run()))
    worker.start()
    found = answers.get(timeout=30)
    worker.join()
    assert found == action.this_run()
    assert found["pid"] == os.getpid()
    assert 0 < found["start"] / os.sysconf("SC_CLK_TCK") <= time.clock_gettime(time.CLOCK_BOOTTIME)


@pytest.fixture
def child():
    """A process, named as badly as a process can be, and its run."""
    name = "a) S 1 (b"
    process = subprocess.Popen(["sh", "-c", f"printf '%s' '{name}' > /proc/$$/comm; echo; sleep 60"],
                               stdout=subprocess.PIPE, start_new_session=True)  # fmt: skip
    assert process.stdout
    process.stdout.read(1)
    seen = action.look_at(process.pid)
    assert seen
    _state, start = seen
    yield SimpleNamespace(process=process, run={**action.this_run(), "pid": process.pid, "start": start})
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_a_living_run_is_not_gone(child):
    assert not action.gone(child.run, action.system())


def test_run_is_gone_when_its_process_has_ended(child):
    child.process.kill()
    os.waitid(os.P_PID, child.process.pid, os.WEXITED | os.WNOWAIT)  # dead, but nobody asked for its exit code
    assert action.gone(child.run, action.system())
    child.process.wait()
    assert action.gone(child.run, action.system())


def test_run_is_gone_when_another_process_has_its_pid(child):
    assert action.gone({**child.run, "start": child.run["start"] - 1}, action.system())


@pytest.mark.parametrize("here", ["", "another"])
def test_run_of_another_system_is_never_taken_for_gone(here, child):
    child.process.kill()
    child.process.wait()
    assert not action.gone(child.run, here)
    assert not action.gone({**child.run, "system": ""}, here)


@pytest.mark.parametrize(("error", "gone"), [(ProcessLookupError, True), (PermissionError, False), (None, False)])
def test_hidden_process_is_not_taken_for_gone(error, gone, me, monkeypatch):
    monkeypatch.setattr(action, "look_at", lambda pid: None)
    monkeypatch.setattr(os, "kill", mock.Mock(side_effect=error))
    assert action.gone(me, me["system"]) is gone


def test_a_system_without_proc_has_no_name(monkeypatch):
    monkeypatch.setattr(os, "readlink", mock.Mock(side_effect=FileNotFoundError))
    assert action.system() == ""


@pytest.fixture
def shown():
    """What the action plugin tells the person who waits."""
    return []


def shell(command):
    """Run a command as a host would."""
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    return {"rc": done.returncode, "stdout": done.stdout, "stderr": done.stderr}


@pytest.fixture
def play(path, run_module, shown, monkeypatch):
    """Run the action plugin as a task would, with short pauses."""
    monkeypatch.setattr(action, "POLL", 0.02)

    def run(state, check=False, **arguments):
        task = mock.Mock(args={"state": state, "path": str(path), **arguments}, check_mode=check, async_val=0)
        plugin = action.ActionModule(task, mock.Mock(), mock.Mock(), mock.Mock(), mock.Mock(), mock.Mock())
        monkeypatch.setattr(plugin, "_execute_module", lambda _name, given, **_more: run_module(module, **given))
        monkeypatch.setattr(plugin, "_low_level_execute_command", shell)
        plugin._display = mock.Mock(display=shown.append)
        return plugin.run(task_vars={"inventory_hostname": "web1"})

    return run


def test_run_takes_and_frees_the_lock_and_reports_no_change(play, path, me):
    answer = play("held")
    assert (answer["held"], answer["changed"]) == (True, False)
    assert json.loads(path.read_text()).items() >= me.items()
    assert play("free") == {"changed": False, "held": False}
    assert not path.exists()
    assert play("free") == {"changed": False, "held": False}


@pytest.mark.parametrize("text", [None, "", "{", json.dumps({**OTHER, "token": "t0ken"})])
def test_lock_of_nobody_or_of_another_run_is_not_given_back(text, play, path):
    if text is not None:
        path.write_text(text)
    assert play("free") == {"changed": False, "held": False}
    assert path.exists() is (text is not None)


def test_lock_that_cannot_be_given_back_is_told_and_fails_nothing(play, path):
    play("held")
    with exclusive.exclusive():
        (warning,) = play("free", wait=0)["warnings"]
    assert "another module still runs" in warning
    assert path.exists()
    assert play("free") == {"changed": False, "held": False}
    assert not path.exists()


def test_interpreter_of_one_host_is_not_passed_to_other_hosts(monkeypatch):
    # Ansible takes what a task that runs once says of its host for facts of every host.
    told = {"ansible_facts": {"discovered_interpreter_python": "/usr/bin/python3.11"}}
    task = mock.Mock(args={"state": "held"}, check_mode=False, async_val=0)
    plugin = action.ActionModule(task, mock.Mock(), mock.Mock(), mock.Mock(), mock.Mock(), mock.Mock())
    monkeypatch.setattr(plugin, "_execute_module", lambda *_arguments, **_more: {"held": True, **told})
    assert plugin.run(task_vars={"inventory_hostname": "web1"}) == {"held": True, "host": "web1"}


def test_the_lock_of_a_dead_run_of_this_system_is_taken_over_at_once(play, shown, held_by, me, child, path):
    child.process.kill()
    child.process.wait()
    held_by(child.run)
    assert play("held", wait=0)["held"]
    assert json.loads(path.read_text()).items() >= me.items()
    assert shown == []


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_the_lock_of_a_living_run_is_never_taken_over(where, play, held_by, holder, child):
    token = held_by(child.run if where == "here" else OTHER)
    begin = time.monotonic()
    answer = play("held", wait=1)
    assert time.monotonic() - begin >= 1
    assert (answer["failed"], answer["changed"]) == (True, False)
    assert holder()["token"] == token


def test_refusal_names_user_machine_time_and_cure(play, held_by, path):
    held_by(OTHER)
    assert play("held", wait=0)["msg"] == (
        "This host is locked by the run of alice on laptop (process 4711), since 2025-11-24 16:00:00 UTC: wait until "
        "that run has ended or raise flask_apps_lock_wait_seconds (it is 0), and only if that run is dead remove "
        f"{path} on the host."
    )


def test_lock_file_that_no_run_wrote_is_waited_for_and_named(play, path):
    path.write_text("by hand")
    answer = play("held", wait=0)
    assert answer["msg"].startswith("This host is locked by a file that no run wrote: wait until")
    assert path.read_text() == "by hand"


def test_waiting_run_says_so_once_and_gets_the_lock_when_it_is_free(play, shown, held_by, path, monkeypatch):
    held_by(OTHER)
    pauses = []

    def sleep(seconds):
        pauses.append(seconds)
        if len(pauses) == 4:
            path.unlink()

    monkeypatch.setattr(time, "sleep", sleep)
    assert play("held", wait=300)["held"]
    assert pauses == [0.02] * 4
    since = "2025-11-24 16:00:00 UTC"
    assert shown == [
        f"web1 is locked by the run of alice on laptop (process 4711), since {since}: waiting up to 300 s."
    ]


def test_dead_run_whose_module_still_runs_is_waited_for(play, held_by, child, holder):
    child.process.kill()
    child.process.wait()
    held_by(child.run)
    with exclusive.exclusive():
        assert play("held", wait=0)["msg"].startswith("Another module of a run is still running on this host")
    assert play("held", wait=0)["held"]


def test_a_worker_whose_run_was_killed_stops_waiting(play, held_by, child, holder, monkeypatch):
    held_by(OTHER)
    child.process.kill()
    child.process.wait()
    monkeypatch.setattr(action, "this_run", lambda: child.run)
    assert play("held", wait=300)["msg"] == "This run has ended."


@pytest.mark.parametrize("state", ["held", "free"])
def test_check_mode_takes_and_frees_no_lock(state, play, path, me, held_by):
    held_by(me)
    assert play(state, check=True) == {"changed": False, "held": False}
    assert path.exists()
