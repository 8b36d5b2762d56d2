"""From what runs to another config: an app runs as its config says, or as it did before."""

import json
import os
import time
from pathlib import Path

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import emperor_unit
from ansible_collections.flaskops.emperor.plugins.module_utils import host as host_files
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal import (
    health,
    store,
    timing,
    trial,
)
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.health import Unhealthy
from vassal_host import (
    complete,
    generation,
    later,
)


def test_the_first_deploy_starts_the_app(host):
    assert host.deploy("1") is True
    assert host.runs() == {"blue": complete(host, "1")}
    assert host.tried == [complete(host, "1")]
    assert b"/healthz" in host.asked[-1]
    assert b"shop.example.com" in host.asked[-1]
    assert host.answers(f"{host.sockets}/app.sock") == generation(host, "1")


def test_an_app_that_runs_as_it_should_is_not_touched(host):
    host.deploy("1")
    host.commit()
    before = os.stat(host.app().slots[0].file)
    assert host.deploy("1") is False
    assert os.stat(host.app().slots[0].file) == before
    assert len(host.tried) == 1
    assert host.signals == []


def test_changed_app_starts_beside_the_old_one_which_ends_at_the_commit(host):
    host.deploy("1")
    assert host.commit() is False
    assert host.deploy("2") is True
    assert host.runs() == {"blue": complete(host, "1"), "green": complete(host, "2")}
    assert host.answers(host.path("blue.sock")) == generation(host, "1")
    assert host.answers(host.path("green.sock")) == generation(host, "2")
    assert host.commit() is True
    assert host.runs() == {"green": complete(host, "2")}
    assert sorted(os.listdir(host.params["directory"])) == ["shop.green.ini"]
    assert sorted(os.listdir(host.run)) == ["shop.green.sock", "shop.green.stats"]


def test_the_slots_take_turns(host):
    for version in ("1", "2", "3"):
        host.deploy(version)
        host.commit()
    assert host.runs() == {"blue": complete(host, "3")}
    assert host.answers(f"{host.sockets}/app.sock") == generation(host, "3")


def test_vassal_file_belongs_to_the_apps_user_and_the_note_to_root(host, deeds):
    host.deploy("1")
    memory = f"{host.params['directory']}/shop.before.new"
    unit = f"{emperor_unit.UNITS}/emperor-app@shop.service.d/app.conf.new"
    assert deeds.of("own") == [
        [memory, 0, 0],
        [unit, 0, 0],
        [host.app().slots[0].file + ".new", os.getuid(), os.getgid()],
    ]
    assert not host.app().note.endswith(".ini")


def test_former_instance_is_noted_before_anything_changes(host, monkeypatch):
    host.deploy("1")
    host.commit()
    written = []
    real = host_files.write

    def write(path, content, *owner, **more):
        written.append((os.path.basename(path), content))
        real(path, content, *owner, **more)

    monkeypatch.setattr(host_files, "write", write)
    host.deploy("2")
    (memory, kept), (file, content) = written
    assert (memory, file) == ("shop.before", "shop.green.ini")
    assert json.loads(kept) == {"slot": "blue", "content": complete(host, "1"), "release": "", "limit": ""}
    assert content == complete(host, "2")


def test_a_failed_trial_start_touches_nothing(host, monkeypatch):
    host.deploy("1")
    host.commit()
    before = os.stat(host.app().slots[0].file)

    def refuse(*_arguments):
        raise Unhealthy("no module named shop")

    monkeypatch.setattr(trial, "start", refuse)
    with pytest.raises(Unhealthy, match=r"^was not changed, because 2:app would not start: no module named shop$"):
        host.deploy("2")
    assert os.stat(host.app().slots[0].file) == before
    assert os.listdir(host.params["directory"]) == ["shop.blue.ini"]


@pytest.mark.parametrize("fault", ["broken", "silent", "dies", "ends"])
def test_failed_start_keeps_the_old_instance_and_leaves_nothing(fault, impatient, host):
    host.deploy("1")
    host.commit()
    with pytest.raises(Unhealthy) as failure:
        host.deploy(fault)
    assert str(failure.value).startswith("did not start: ")
    assert ". The earlier release serves again.\nthe log of --no-pager" in str(failure.value)
    assert "--identifier=shop" in str(failure.value)
    assert host.runs() == {"blue": complete(host, "1")}
    assert os.listdir(host.params["directory"]) == ["shop.blue.ini"]
    host.until(lambda: len(host.instances) == 1)
    assert host.answers(f"{host.sockets}/app.sock") == generation(host, "1")


def test_workers_that_die_at_start_are_not_awaited(host):
    host.deploy("1")
    host.commit()
    began = time.monotonic()
    with pytest.raises(Unhealthy, match="did not start: its workers die as soon as they start"):
        host.deploy("dies", start_timeout=30)
    assert time.monotonic() - began < 20


def test_an_app_that_never_worked_is_stopped_again(impatient, host):
    with pytest.raises(Unhealthy, match="It was stopped, for there is no earlier release to return to"):
        host.deploy("broken")
    assert host.runs() == {}
    assert os.listdir(host.params["directory"]) == []
    assert host.alive == set()


def test_failure_names_the_status_of_the_response(impatient, host):
    with pytest.raises(Unhealthy, match="it answers /healthz with status 500 instead of 200: what happened"):
        host.deploy("broken")


def test_another_status_may_be_the_healthy_one(host):
    assert host.deploy("broken", health_status=500) is True


def test_switch_waits_until_the_emperor_notices_a_file(host, monkeypatch):
    monkeypatch.setattr(timing, "EMPEROR", 20)
    host.awake = False
    later(0.6, host, "awake", True)
    assert host.deploy("1", start_timeout=0.2) is True


def test_response_of_another_generation_does_not_count(host, monkeypatch):
    host.put("blue", host.config("1"))
    with pytest.raises(Unhealthy, match="after 0 s an instance of another generation answers"):
        health.wait(host.app(), host.path("blue.sock"), "0" * 12, 0)


def test_health_check_timeout_grows_while_the_app_accepts(params, timeouts):
    with pytest.raises(Unhealthy, match="it does not answer"):
        health.wait(store.App({**params, "start_timeout": 7}), "/s", "0", 0.1, lambda: True)
    assert timeouts[:5] == [2, 4, 4, 7, 7]


def test_health_check_timeout_is_short_while_no_worker_accepts(params, timeouts):
    # In the queue of an instance that does not accept, a request only keeps us from seeing that it ended.
    accepting = iter([True, True, True, False])
    with pytest.raises(Unhealthy, match="it does not answer"):
        health.wait(store.App({**params, "start_timeout": 7}), "/s", "0", 0.1, lambda: next(accepting, False))
    assert timeouts[:3] == [2, 4, 4]
    assert set(timeouts[4:]) == {2}


def test_health_check_of_a_running_app_has_the_full_timeout(params, timeouts):
    with pytest.raises(Unhealthy, match="it does not answer"):
        health.wait(store.App({**params, "start_timeout": 7}), "/s", "0", 0.05)
    assert set(timeouts) == {7}


# An instance that is there and not well


def test_unhealthy_app_with_the_same_content_is_started_beside(host):
    ill = host.put("blue", host.config("1"), age=60)
    ill.ill = True
    assert host.deploy("1", start_timeout=0.2) is True
    assert host.runs() == {"blue": complete(host, "1"), "green": complete(host, "1")}
    assert host.commit() is True
    assert host.runs() == {"green": complete(host, "1")}
    assert host.answers(f"{host.sockets}/app.sock") == generation(host, "1")


@pytest.mark.parametrize("reload", ["graceful", "zerg"])
def test_new_release_of_an_unhealthy_app_is_started_beside(reload, host):
    host.put("blue", host.config("broken"), age=60)
    assert host.deploy("2", reload=reload) is True
    assert host.runs() == {"blue": complete(host, "broken"), "green": complete(host, "2")}


def test_failed_replacement_names_the_fault_of_the_running_app(impatient, host, monkeypatch):
    host.put("blue", host.config("broken"))

    def refuse(*_arguments):
        raise Unhealthy("no database")

    monkeypatch.setattr(trial, "start", refuse)
    with pytest.raises(Unhealthy) as failure:
        host.deploy("broken")
    assert str(failure.value).startswith("runs as configured, but after 1 s it answers /healthz with status 500")
    assert ", and was not changed, because broken:app would not start: no database" in str(failure.value)


def test_failed_rollback_is_reported(impatient, host):
    host.put("blue", host.config("broken"), age=60)
    with pytest.raises(Unhealthy) as failure:
        host.deploy("broken too")
    assert "The earlier vassal file was put back, but after 1 s it answers /healthz with status 500" in str(
        failure.value
    )
    assert host.runs() == {"blue": complete(host, "broken")}


def test_healthy_app_behind_a_wrong_socket_is_replaced(host, monkeypatch):
    # The unit of the held socket was restarted: the instance listens on one that no client reaches.
    deaf = host.put("blue", host.config("1"), age=60)
    deaf.content = deaf.content.replace("socket = ", "; it was: ")
    began = time.monotonic()
    assert host.deploy("1", start_timeout=0.2) is True
    assert time.monotonic() - began > 0.2
    assert host.runs() == {"blue": complete(host, "1"), "green": complete(host, "1")}
    host.commit()
    assert host.answers(f"{host.sockets}/app.sock") == generation(host, "1")


def test_instance_that_clients_do_not_reach_is_unhealthy(host):
    deaf = host.put("blue", host.config("1"))
    slot = host.app().slots[0]
    assert health.healthy(host.app(), slot)
    deaf.content = deaf.content.replace("socket = ", "; it was: ")
    assert not health.healthy(host.app(start_timeout=0.1), slot)


def test_file_broken_by_hand_is_replaced(host, params):
    Path(params["directory"], "shop.blue.ini").write_text("master\n[launch\nenvironment = 5")
    assert host.deploy("1") is True
    assert host.commit() is True
    assert host.runs() == {"green": complete(host, "1")}


def test_two_writes_within_a_second_have_different_times(host):
    app, ages = host.app(), []
    for version in "1234":
        app.write(app.slots[0], version)
        ages.append(os.stat(app.slots[0].file).st_mtime)
    assert all(int(later) - int(earlier) >= 1 for earlier, later in zip(ages, ages[1:], strict=False))
    assert ages[-1] < time.time() + 5


def test_file_written_last_is_newer_after_the_clock_was_set_back(host):
    host.put("green", host.config("1"), age=-3600)  # from the future
    host.deploy("2")
    assert [slot.slot for slot in host.app().taken] == ["green", "blue"]
    host.commit()
    assert host.runs() == {"blue": complete(host, "2")}


def test_file_has_the_current_time_in_the_usual_case(host):
    app = host.app()
    app.write(app.slots[0], "1")
    assert abs(os.stat(app.slots[0].file).st_mtime - time.time()) < 30
