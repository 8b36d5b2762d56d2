"""The module `deploy_lock`: one run at a time holds the lock, and it lapses."""

import json
import multiprocessing
import os
import stat
import time

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import exclusive, lock
from ansible_collections.flaskops.emperor.plugins.modules import deploy_lock as module
from other_run import OTHER


@pytest.fixture
def ask(run_module, path):
    """Call the module as the action plugin does."""
    return lambda owner, **more: run_module(module, path=str(path), owner=owner, wait=0, **more)


def test_free_lock_is_taken(ask, me, path, holder):
    answer = ask(me)
    assert (answer["held"], answer["changed"]) == (True, False)
    assert holder().items() >= me.items()
    assert abs(holder()["since"] - time.time()) < 5
    assert len(holder()["token"]) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent).count("flask_apps.json.new") == 0


def test_same_run_takes_the_lock_again_and_refreshes_it(ask, me, path):
    ask(me)
    before = path.read_text()
    os.utime(path, (1, 1))
    answer = ask(me)
    assert (answer["held"], answer["changed"]) == (True, False)
    assert path.read_text() == before
    assert abs(path.stat().st_mtime - time.time()) < 5


@pytest.mark.parametrize("change", [{"pid": 1}, {"start": 1}, {"system": "x"}, {"controller": "x"}])
def test_lock_of_another_run_is_not_taken(change, ask, me, holder):
    ask({**me, **change})
    before = holder()
    answer = ask(me)
    assert (answer["held"], answer["failed"], answer["changed"]) == (False, False, False)
    assert answer["holder"] == before == holder()


def test_lock_without_a_token_is_not_taken(ask, me, held_by):
    held_by(OTHER, token="")
    assert not ask(me)["held"]


def test_lock_is_replaced_only_with_the_token_of_its_run(ask, me, held_by, holder):
    held_by(OTHER, token="old")
    assert not ask(me, replace="older")["held"]
    assert ask(me, replace="old")["held"]
    assert holder().items() >= me.items()
    # A third run that judged the same dead one comes too late.
    assert not ask({**me, "pid": 2}, replace="old")["held"]


@pytest.mark.parametrize(("idle", "held"), [(lock.LAPSE - 30, False), (lock.LAPSE + 30, True)])
def test_untouched_lock_lapses(idle, held, ask, me, held_by):
    held_by(OTHER, idle)
    assert ask(me)["held"] is held


def test_lock_does_not_lapse_while_modules_run(ask, me, held_by):
    held_by(OTHER, lock.LAPSE + 30)
    with exclusive.exclusive():
        pass  # one that took long, and ended this moment
    assert not ask(me)["held"]


def test_looking_at_the_lock_does_not_refresh_it(ask, me, held_by, lock_file):
    held_by(OTHER)
    with exclusive.exclusive():
        pass
    os.utime(lock_file, (1, 1))
    assert not ask(me)["held"]
    assert exclusive.last_used() == 1


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '"x"', "\udcff", json.dumps({**OTHER, "token": "", "since": "x"})]
)
def test_lock_file_that_no_run_wrote_counts_as_an_unknown_run(text, ask, me, path):
    path.write_text(text, errors="surrogateescape")
    assert ask(me)["holder"] == {}
    os.utime(path, (1, 1))
    assert ask(me)["held"]


def test_leftover_file_of_a_killed_module_is_no_obstacle(ask, me, path):
    (path.parent / "flask_apps.json.new").write_text("{")
    assert ask(me)["held"]


def test_check_mode_does_nothing(ask, me, path):
    assert not ask(me, check=True)["changed"]
    assert not path.exists()


@pytest.mark.parametrize("owner", [None, {}, {**OTHER, "pid": "4711"}])
def test_module_without_its_action_plugin_is_refused(owner, ask, path):
    assert "owner is missing" in ask(owner)["msg"]
    assert not path.exists()


def test_lock_stays_as_it_is_while_another_module_runs(ask, me, held_by, path):
    held_by(OTHER, lock.LAPSE + 30)
    before = path.read_text()
    with exclusive.exclusive():
        answer = ask(me)
    assert not answer["held"]
    assert answer["holder"].items() >= OTHER.items()
    assert answer["busy"].startswith("Another module of a run is still running on this host")
    assert path.read_text() == before


def test_user_other_than_root_is_refused_with_the_cure(ask, me, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(13, "Permission denied", "/run/flask_apps.flock")

    monkeypatch.setattr(os, "open", refuse)
    assert ask(me)["msg"] == (
        "Only root may change this host ([Errno 13] Permission denied: '/run/flask_apps.flock'): set `become: true`."
    )


@pytest.mark.parametrize("dead", [False, True])
def test_one_of_many_simultaneous_runs_gets_the_lock(dead, me, path, held_by, monkeypatch):
    runs = 6
    if dead:
        held_by(OTHER, token="dead")
    write = lock.write

    def slow(*arguments):
        time.sleep(0.05)
        write(*arguments)

    monkeypatch.setattr(lock, "write", slow)
    fork = multiprocessing.get_context("fork")
    gate, answers = fork.Barrier(runs), fork.Queue()

    def run(number):
        gate.wait()
        with exclusive.exclusive(mark=False):
            answers.put(lock.take(str(path), {**me, "pid": number}, "dead"))

    processes = [fork.Process(target=run, args=(number,)) for number in range(runs)]
    for process in processes:
        process.start()
    found = [answers.get(timeout=30) for process in processes]
    for process in processes:
        process.join()
    assert found.count(None) == 1
    assert {answer["token"] for answer in found if answer} == {json.loads(path.read_text())["token"]}
