"""Runs that were killed at any step are healed by the next one."""

import os
from pathlib import Path

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal import (
    states,
    switch,
)
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.health import Unhealthy
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.observe import observe
from vassal_host import (
    Killed,
    complete,
    generation,
    loaded,
)

STEPS = [
    ("not started yet", "zerg"),
    ("started", "zerg"),
    ("not settled", "zerg"),
    ("not started yet", "graceful"),
    ("written", "graceful"),
    ("not settled", "graceful"),
]


@pytest.mark.parametrize(("step", "reload"), STEPS)
@pytest.mark.parametrize("version", ["1", "2", "3"])
def test_next_run_completes_after_a_killed_run(step, reload, version, killed, host):
    killed(step, reload=reload)
    host.deploy(version, reload=reload)
    host.commit()
    assert list(host.runs().values()) == [complete(host, version)]
    assert len(os.listdir(host.params["directory"])) == 1
    host.until(lambda: len(host.instances) == 1)
    assert host.answers(f"{host.sockets}/app.sock") == generation(host, version)


@pytest.mark.parametrize(("step", "reload"), STEPS[1:2] + STEPS[4:5])
@pytest.mark.parametrize("version", ["broken", "broken too"])
def test_failure_after_a_killed_run_rolls_back_to_the_last_good_release(step, reload, version, impatient, killed, host):
    # Not to the file on disk, which never worked.
    killed(step, "broken", reload)
    with pytest.raises(Unhealthy, match="The earlier release serves again"):
        host.deploy(version, reload=reload)
    assert list(host.runs().values()) == [complete(host, "1")]
    assert host.answers(f"{host.sockets}/app.sock") == generation(host, "1")


@pytest.mark.parametrize(("step", "reload"), STEPS)
def test_a_killed_run_can_be_rolled_back(step, reload, killed, host):
    killed(step, reload=reload)
    assert states.roll_back(host.app()) == "The earlier release serves again"
    assert host.runs() == {"blue": complete(host, "1")}
    assert not os.path.exists(host.app().note)
    assert host.answers(f"{host.sockets}/app.sock") == generation(host, "1")


def test_returning_to_the_old_release_after_a_kill_needs_no_start(killed, host):
    killed("not settled")
    host.tried.clear()
    assert host.deploy("1") is True
    assert host.tried == []
    assert host.runs() == {"blue": complete(host, "1")}


def test_instance_that_was_told_to_end_tells_that_a_switch_is_not_finished(killed, host):
    def unfinished():
        return observe({**host.params, "patience": 1})["unfinished"]

    killed("not settled")
    assert unfinished()
    (older,) = host.app().others
    os.unlink(host.app().note)
    os.unlink(older.file)
    Path(older.stats).touch()  # the run was killed while the instance ended its requests
    assert unfinished()
    host.commit()
    assert not unfinished()


def test_uncommitted_switch_is_not_repeated(killed, host):
    killed("not settled")
    assert host.deploy("2") is False
    assert len(host.runs()) == 2  # until it is settled, it can be taken back
    assert states.roll_back(host.app()) == "The earlier release serves again"
    assert host.runs() == {"blue": complete(host, "1")}


def test_a_first_run_that_was_killed_is_finished_by_the_next(kill_at, host):
    kill_at("watch", lambda: host.deploy("1"))
    assert host.deploy("1") is True  # clients come to it
    assert host.deploy("1") is False
    host.commit()
    assert host.runs() == {"blue": complete(host, "1")}


def test_a_first_run_that_was_killed_is_no_release_to_return_to(impatient, kill_at, host):
    kill_at("watch", lambda: host.deploy("broken"))
    with pytest.raises(Unhealthy, match="was stopped, for there is no earlier release to return to"):
        host.deploy("broken")
    assert host.runs() == {}


def test_without_a_note_the_older_of_two_instances_is_the_former_one(host):
    host.put("green", host.config("1"), age=60)
    host.put("blue", host.config("2"))
    before = host.app().before
    assert before
    assert (before.slot, before.content) == ("green", complete(host, "1"))
    assert host.deploy("2") is True  # clients come to it
    assert host.deploy("2") is False
    assert host.commit() is True
    assert host.runs() == {"blue": complete(host, "2")}


@pytest.mark.parametrize("version", ["1", "3"])
def test_two_instances_without_a_note_become_one_with_any_content(version, host):
    host.put("green", host.config("1"), age=60)
    host.put("blue", host.config("2"))
    host.deploy(version)
    host.commit()
    assert list(host.runs().values()) == [complete(host, version)]


def test_single_instance_without_a_note_is_not_rolled_back(host):
    host.put("green", host.config("1"))
    assert host.app().before is None
    assert states.roll_back(host.app()) == "Nothing was to be taken back"
    assert host.runs() == {"green": complete(host, "1")}


def test_a_run_killed_while_it_ended_the_old_instance_is_healed(host, killed, kill_at):
    killed("not settled")
    kill_at("bury", host.commit)  # the file is gone already
    assert list(host.runs()) == ["green"]
    host.deploy("3")
    host.commit()
    assert list(host.runs().values()) == [complete(host, "3")]


@pytest.mark.parametrize("step", ["renew", "in the middle"])
@pytest.mark.parametrize("release", ["r1", "r2", "r3"])
def test_a_chain_that_was_killed_is_healed_by_the_next_run(step, release, go, host, releases, kill_at, monkeypatch):
    go("r1")
    host.commit()
    instance = host.instance("blue")
    if step == "renew":
        kill_at("renew", lambda: go("r2"))  # the link was moved
    else:
        real = switch.renew

        def renew(app, slot, worker):
            if worker["id"] == 2:
                raise Killed
            real(app, slot, worker)

        monkeypatch.setattr(switch, "renew", renew)
        with pytest.raises(Killed):
            go("r2")
        monkeypatch.setattr(switch, "renew", real)
        assert loaded(instance) == ["r2", "r1"]
    assert host.leads_to == releases("r2")
    assert go(release) is True
    host.commit()
    assert host.leads_to == releases(release)
    assert loaded(instance) == [release, release]
    assert os.listdir(host.params["directory"]) == ["shop.blue.ini"]


def test_chain_killed_before_its_commit_runs_again(go, host, releases):
    # It looks new, but nobody knows whether every worker is.
    go("r1")
    host.commit()
    go("r2")
    host.signals.clear()
    assert go("r2") is True
    assert len(host.signals) >= 4
    assert loaded(host.instance("blue")) == ["r2", "r2"]


def test_another_mode_completes_a_killed_chain(go, host, kill_at):
    go("r1")
    host.commit()
    kill_at("renew", lambda: go("r2"))
    assert host.deploy("3") is True
    host.commit()
    assert list(host.runs().values()) == [complete(host, "3")]


def test_leftover_link_of_a_chain_renews_no_worker_in_another_mode(host, releases):
    Path(host.params["serving"]).symlink_to(releases("r1"))
    host.deploy("1")
    host.commit()
    family = host.instance("blue").family
    host.deploy("2")
    assert states.roll_back(host.app(link=host.params["serving"])) == "The earlier release serves again"
    assert host.instance("blue").family == family
