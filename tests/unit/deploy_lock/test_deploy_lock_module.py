"""The module `deploy_lock`: one run at a time holds the lock, and it lapses."""

import json
import multiprocessing
import os
import stat
import time

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import exclusive
from ansible_collections.flaskops.emperor.plugins.modules import deploy_lock as module
from other_run import OTHER


@pytest.fixture
def ask(run_module, path):
    """Call the module as the action plugin does."""
    return lambda state, owner, **more: run_module(module, state=state, path=str(path), owner=owner, wait=0, **more)


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
