"""`deploy_lock`: one run at a time changes a host, and a run that is dead holds up nobody who can know."""

import contextlib
import json
import multiprocessing
import os
import signal
import stat
import subprocess
import time
from types import SimpleNamespace
from unittest import mock

import pytest
from ansible_collections.flaskops.emperor.plugins.action import deploy_lock as action
from ansible_collections.flaskops.emperor.plugins.module_utils import exclusive
from ansible_collections.flaskops.emperor.plugins.modules import deploy_lock as module

OTHER = {"controller": "laptop", "system": "boot-2 pid:[2]", "user": "alice", "pid": 4711, "start": 99}
SINCE = 1_764_000_000.0  # 2025-11-24 16:00:00 UTC


@pytest.fixture
def path(tmp_path, lock_file):
    """The file, on a host where no module was at work for long."""
    lock_file.touch()
    os.utime(lock_file, (1, 1))
    return tmp_path / "flask_apps.json"


@pytest.fixture
def me():
    """This very process as a run."""
    return action.this_run()


@pytest.fixture
def held_by(path):
    """Let a run hold the lock, which it last touched so many seconds ago; return its token."""

    def write(owner, idle=0.0, token="t0ken"):
        module.write(str(path), {**owner, "token": token, "since": SINCE})
        moment = time.time() - idle
        os.utime(path, (moment, moment))
        return token

    return write


@pytest.fixture
def holder(path):
    """Who holds the lock."""
    return lambda: module.read(str(path))


@pytest.fixture
def ask(run_module, path):
    """Call the module as the action plugin does."""
    return lambda state, owner, **more: run_module(module, state=state, path=str(path), owner=owner, wait=0, **more)


# --- the module


def test_nobody_holds_it_so_it_is_taken(ask, me, path, holder):
    answer = ask("held", me)
    assert (answer["held"], answer["changed"]) == (True, False)
    assert holder().items() >= me.items()
    assert abs(holder()["since"] - time.time()) < 5
    assert len(holder()["token"]) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent).count("flask_apps.json.new") == 0


def test_the_same_run_may_take_it_again_which_refreshes_it(ask, me, path):
    ask("held", me)
    before = path.read_text()
    os.utime(path, (1, 1))
    answer = ask("held", me)
    assert (answer["held"], answer["changed"]) == (True, False)
    assert path.read_text() == before
    assert abs(path.stat().st_mtime - time.time()) < 5


@pytest.mark.parametrize("change", [{"pid": 1}, {"start": 1}, {"system": "x"}, {"controller": "x"}])
def test_another_run_does_not_get_it(change, ask, me, holder):
    ask("held", {**me, **change})
    before = holder()
    answer = ask("held", me)
    assert (answer["held"], answer["failed"], answer["changed"]) == (False, False, False)
    assert answer["holder"] == before == holder()


def test_it_is_given_back(ask, me, path):
    ask("held", me)
    assert not ask("free", me)["changed"]
    assert not path.exists()
    assert ask("held", OTHER)["held"]


def test_giving_back_what_is_gone_or_not_ours_changes_nothing(ask, me, held_by, holder):
    answer = ask("free", me)
    assert (answer["failed"], answer["changed"]) == (False, False)
    token = held_by(OTHER)
    assert not ask("free", me)["failed"]
    assert holder()["token"] == token


def test_a_lock_without_a_token_is_no_easier_to_take(ask, me, held_by):
    held_by(OTHER, token="")
    assert not ask("held", me)["held"]


def test_the_lock_of_one_run_is_replaced_by_its_token_and_no_other(ask, me, held_by, holder):
    held_by(OTHER, token="old")
    assert not ask("held", me, replace="older")["held"]
    assert ask("held", me, replace="old")["held"]
    assert holder().items() >= me.items()
    # A third run that judged the same dead one comes too late.
    assert not ask("held", {**me, "pid": 2}, replace="old")["held"]


@pytest.mark.parametrize(("idle", "held"), [(module.LAPSE - 30, False), (module.LAPSE + 30, True)])
def test_it_lapses_when_untouched(idle, held, ask, me, held_by):
    held_by(OTHER, idle)
    assert ask("held", me)["held"] is held


def test_it_does_not_lapse_while_modules_are_at_work(ask, me, held_by):
    held_by(OTHER, module.LAPSE + 30)
    with exclusive.exclusive():
        pass  # one that took long, and ended this moment
    assert not ask("held", me)["held"]


def test_looking_does_not_keep_it_from_lapsing(ask, me, held_by, lock_file):
    held_by(OTHER)
    with exclusive.exclusive():
        pass
    os.utime(lock_file, (1, 1))
    assert not ask("held", me)["held"]
    assert exclusive.last_used() == 1


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '"x"', "\udcff", json.dumps({**OTHER, "token": "", "since": "x"})]
)
def test_a_file_of_another_hand_counts_as_a_run_nobody_knows(text, ask, me, path):
    path.write_text(text, errors="surrogateescape")
    assert ask("held", me)["holder"] == {}
    assert not ask("free", me)["failed"]
    assert path.exists()
    os.utime(path, (1, 1))
    assert ask("held", me)["held"]


def test_what_a_killed_module_left_is_no_obstacle(ask, me, path):
    (path.parent / "flask_apps.json.new").write_text("{")
    assert ask("held", me)["held"]


@pytest.mark.parametrize("state", ["held", "free"])
def test_check_mode_does_nothing(state, ask, me, path, held_by):
    assert not ask(state, me, check=True)["changed"]
    assert not path.exists()
    held_by(me)
    assert not ask(state, me, check=True)["changed"]
    assert path.exists()


@pytest.mark.parametrize("owner", [None, {}, {**OTHER, "pid": "4711"}])
def test_without_its_action_plugin_it_refuses(owner, ask, path):
    assert "owner is missing" in ask("held", owner)["msg"]
    assert not path.exists()


@pytest.mark.parametrize("state", ["held", "free"])
def test_nothing_is_decided_while_another_module_is_at_work(state, ask, me, held_by, path):
    held_by(OTHER, module.LAPSE + 30)
    before = path.read_text()
    with exclusive.exclusive():
        answer = ask(state, me)
    assert not answer["held"]
    assert answer["holder"].items() >= OTHER.items()
    assert answer["busy"].startswith("Another module of a run is still at work on this host")
    assert path.read_text() == before


def test_who_is_not_root_is_told_so(ask, me, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(13, "Permission denied", "/run/flask_apps.flock")

    monkeypatch.setattr(os, "open", refuse)
    assert ask("held", me)["msg"] == (
        "Only root may change this host ([Errno 13] Permission denied: '/run/flask_apps.flock'): set `become: true`."
    )


@pytest.mark.parametrize("dead", [False, True])
def test_of_many_runs_at_once_one_gets_it(dead, me, path, held_by, monkeypatch):
    runs = 6
    if dead:
        held_by(OTHER, token="dead")
    write = module.write

    def slow(*arguments):
        time.sleep(0.05)
        write(*arguments)

    monkeypatch.setattr(module, "write", slow)
    fork = multiprocessing.get_context("fork")
    gate, answers = fork.Barrier(runs), fork.Queue()

    def run(number):
        gate.wait()
        with exclusive.exclusive(mark=False):
            answers.put(module.take(str(path), {**me, "pid": number}, "dead"))

    processes = [fork.Process(target=run, args=(number,)) for number in range(runs)]
    for process in processes:
        process.start()
    found = [answers.get(timeout=30) for process in processes]
    for process in processes:
        process.join()
    assert found.count(None) == 1
    assert {answer["token"] for answer in found if answer} == {json.loads(path.read_text())["token"]}


# --- processes


def test_this_run_is_the_parent_of_its_workers():
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


def test_a_run_is_gone_when_its_process_is(child):
    child.process.kill()
    os.waitid(os.P_PID, child.process.pid, os.WEXITED | os.WNOWAIT)  # dead, but nobody asked for its exit code
    assert action.gone(child.run, action.system())
    child.process.wait()
    assert action.gone(child.run, action.system())


def test_a_run_is_gone_when_its_number_is_another_process(child):
    assert action.gone({**child.run, "start": child.run["start"] - 1}, action.system())


@pytest.mark.parametrize("here", ["", "another"])
def test_a_run_of_another_system_cannot_be_looked_at(here, child):
    child.process.kill()
    child.process.wait()
    assert not action.gone(child.run, here)
    assert not action.gone({**child.run, "system": ""}, here)


@pytest.mark.parametrize(("error", "gone"), [(ProcessLookupError, True), (PermissionError, False), (None, False)])
def test_a_process_that_is_hidden_is_not_taken_for_gone(error, gone, me, monkeypatch):
    monkeypatch.setattr(action, "look_at", lambda pid: None)
    monkeypatch.setattr(os, "kill", mock.Mock(side_effect=error))
    assert action.gone(me, me["system"]) is gone


def test_a_system_without_proc_has_no_name(monkeypatch):
    monkeypatch.setattr(os, "readlink", mock.Mock(side_effect=FileNotFoundError))
    assert action.system() == ""


# --- the action plugin


@pytest.fixture
def shown():
    """What the action plugin tells the person who waits."""
    return []


@pytest.fixture
def play(path, run_module, shown, monkeypatch):
    """Run the action plugin as a task would, with short pauses."""
    monkeypatch.setattr(action, "POLL", 0.02)

    def run(state, check=False, **arguments):
        task = mock.Mock(args={"state": state, "path": str(path), **arguments}, check_mode=check, async_val=0)
        plugin = action.ActionModule(task, mock.Mock(), mock.Mock(), mock.Mock(), mock.Mock(), mock.Mock())
        plugin._execute_module = lambda name, module_args, task_vars: run_module(module, **module_args)
        plugin._display = mock.Mock(display=shown.append)
        return plugin.run(task_vars={"inventory_hostname": "web1"})

    return run


def test_a_run_takes_and_frees_it_and_reports_no_change(play, path, me):
    answer = play("held")
    assert (answer["held"], answer["changed"]) == (True, False)
    assert json.loads(path.read_text()).items() >= me.items()
    assert not play("free")["changed"]
    assert not path.exists()
    assert not play("free")["failed"]


def test_interpreter_of_this_host_is_not_told_to_others():
    # Ansible takes what a task that runs once says of its host for facts of every host.
    told = {"ansible_facts": {"discovered_interpreter_python": "/usr/bin/python3.11"}}
    task = mock.Mock(args={"state": "held"}, check_mode=False, async_val=0)
    plugin = action.ActionModule(task, mock.Mock(), mock.Mock(), mock.Mock(), mock.Mock(), mock.Mock())
    plugin._execute_module = lambda *_arguments, **_more: {"held": True, **told}
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


def test_the_refusal_says_who_from_where_since_when_and_the_cure(play, held_by, path):
    held_by(OTHER)
    assert play("held", wait=0)["msg"] == (
        "This host is locked by the run of alice on laptop (process 4711), since 2025-11-24 16:00:00 UTC: wait until "
        "that run has ended or raise flask_apps_lock_wait_seconds (it is 0), and only if that run is dead remove "
        f"{path} on the host."
    )


def test_a_file_of_another_hand_is_waited_for_and_named(play, path):
    path.write_text("by hand")
    answer = play("held", wait=0)
    assert answer["msg"].startswith("This host is locked by a file that no run wrote: wait until")
    assert path.read_text() == "by hand"


def test_who_waits_says_so_once_and_gets_it_when_it_is_free(play, shown, held_by, path, monkeypatch):
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


def test_a_dead_run_whose_module_is_still_at_work_is_waited_for(play, held_by, child, holder):
    child.process.kill()
    child.process.wait()
    held_by(child.run)
    with exclusive.exclusive():
        assert play("held", wait=0)["msg"].startswith("Another module of a run is still at work on this host")
    assert play("held", wait=0)["held"]


def test_a_worker_whose_run_was_killed_stops_waiting(play, held_by, child, holder, monkeypatch):
    held_by(OTHER)
    child.process.kill()
    child.process.wait()
    monkeypatch.setattr(action, "this_run", lambda: child.run)
    assert play("held", wait=300)["msg"] == "This run has ended."


@pytest.mark.parametrize("state", ["held", "free"])
def test_the_action_plugin_asks_nothing_in_check_mode(state, play, path, me, held_by):
    held_by(me)
    assert play(state, check=True) == {"changed": False, "held": False}
    assert path.exists()
