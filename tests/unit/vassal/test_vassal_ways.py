"""The ways of a switch: beside, in place, worker by worker."""

import json
import os
import signal
from pathlib import Path

import pytest
import vassal_host
from ansible_collections.flaskops.emperor.plugins.module_utils import (
    processes,
    uwsgi_client,
)
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal import (
    drain,
    health,
    states,
    switch,
    timing,
)
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.health import Unhealthy
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.modes import MODES
from vassal_host import Instance, complete, config, generation, loaded

RELOADS = ["zerg", "graceful", "upstream", "chain", "exclusive"]


def test_graceful_reload_happens_in_the_running_instance(host):
    host.deploy("1")
    host.commit()
    master = host.instance("blue").master
    assert host.deploy("2", reload="graceful") is True
    assert host.runs() == {"blue": complete(host, "2")}
    assert host.instance("blue").master == master
    assert host.commit() is False
    assert os.listdir(host.params["directory"]) == ["shop.blue.ini"]


@pytest.mark.parametrize("reload", ["graceful", "exclusive"])
@pytest.mark.parametrize("fault", ["broken", "silent", "dies", "ends"])
def test_failed_graceful_reload_restores_the_former_file(fault, reload, impatient, host):
    host.deploy("1")
    host.commit()
    with pytest.raises(Unhealthy, match=r"^did not start: (.|\n)*The earlier release serves again\.\n"):
        host.deploy(fault, reload=reload)
    assert host.runs() == {"blue": complete(host, "1")}
    assert os.listdir(host.params["directory"]) == ["shop.blue.ini"]
    assert host.answers(f"{host.sockets}/app.sock") == generation(host, "1")


@pytest.fixture
def beside(monkeypatch):
    """How many others ran when an instance was started, of each in turn."""
    counts: list[int] = []

    def counted(host, file):
        counts.append(len(host.instances))
        return Instance(host, file)

    monkeypatch.setattr(vassal_host, "Instance", counted)
    return counts


def test_exclusive_app_is_tried_only_where_nothing_runs(host, beside):
    host.deploy("1", reload="exclusive")
    host.commit(reload="exclusive")
    assert host.deploy("2", reload="exclusive") is True
    assert host.tried == [complete(host, "1")]
    assert host.runs() == {"blue": complete(host, "2")}
    assert beside == [0]


@pytest.mark.parametrize("fault", ["", "broken", "silent", "dies", "ends"])
def test_exclusive_app_that_cannot_reload_ends_before_the_next_instance_starts(fault, impatient, host, beside):
    host.deploy("1", reload="exclusive")
    host.commit(reload="exclusive")
    other = host.config(fault or "2", tasks="99")
    if not fault:
        assert host.deploy(content=other, reload="exclusive") is True
        assert host.runs() == {"green": other.render()}
    else:
        with pytest.raises(Unhealthy, match=r"^did not start: (.|\n)*The earlier release serves again\.\n"):
            host.deploy(content=other, reload="exclusive")
        assert host.runs() == {"blue": complete(host, "1")}
    serving = generation(host, "1") if fault else other.generation
    assert host.answers(f"{host.sockets}/app.sock") == serving
    assert set(beside) == {0}
    assert len(host.tried) == 1


def test_exclusive_app_that_fails_ends_before_the_earlier_one_starts_again(impatient, host, beside):
    host.put("green", host.config("1"))
    with pytest.raises(Unhealthy, match=r"^did not start: (.|\n)*The earlier release serves again\.\n"):
        host.deploy(content=host.config("broken", tasks="99"), reload="exclusive")
    assert host.runs() == {"green": complete(host, "1")}
    assert set(beside) == {0}


def test_exclusive_app_whose_run_was_killed_between_two_instances_returns_first(impatient, host, kill_at, beside):
    host.deploy("1", reload="exclusive")
    host.commit(reload="exclusive")
    kill_at("start", lambda: host.deploy(content=host.config("2", tasks="99"), reload="exclusive"))
    assert host.runs() == {}
    app = host.app(reload="exclusive")
    assert states.tried(app, host.config("broken")) == ""  # a trial start would end the run: nothing would serve
    with pytest.raises(Unhealthy, match=r"The earlier release serves again"):
        host.deploy("broken", reload="exclusive")
    assert host.runs() == {"blue": complete(host, "1")}
    assert set(beside) == {0}
    assert len(host.tried) == 1


def test_clients_wait_where_the_next_instance_of_an_exclusive_app_accepts(host, monkeypatch, reached):
    host.deploy(content=host.config("1", clients="slot"), reload="upstream")
    host.commit(reload="upstream")
    assert reached() == "blue.sock"
    seen, stop = [], drain.stop

    def noted(app, slot):
        seen.append(reached())
        stop(app, slot)

    monkeypatch.setattr(drain, "stop", noted)
    host.deploy("2", reload="exclusive")
    assert set(seen) == {"app.sock"}


def test_exclusive_app_whose_python_is_new_does_not_reload_unproved(running, host):
    for reload, way in (("exclusive", "after"), ("graceful", "in_place")):
        app = host.app(reload=reload, anew=True, start_timeout=0.2)
        assert switch.way(app, host.config("chain")) == way


def test_release_that_cannot_be_tried_counts_as_large_as_the_current_one(host, tmp_path):
    size, current = tmp_path / "home/releases/r2/size.json", tmp_path / "home/current/size.json"
    for file in (size, current):
        file.parent.mkdir(parents=True)
    current.write_text('{"digest": "abc", "size": {"total": 9, "private": 2, "rss": 8}}')
    host.put("blue", host.config("1"))
    app = host.app(reload="exclusive", size=str(size))
    assert states.tried(app, host.config("2")) == ""
    assert app.trial == {"digest": "", "size": {"total": 9, "private": 2, "rss": 8}}
    assert host.tried == []


def test_cause_of_an_exclusive_app_is_found_above_the_end_of_its_log(impatient, host, program):
    frames = "".join(f'  File "/srv/app{number}.py", line 1, in <module>\n    import app\n' for number in range(12))
    program("journalctl", f"cat <<'END'\nTraceback (most recent call last):\n{frames}"
            "ModuleNotFoundError: No module named 'yaml'\nEND\n")  # fmt: skip
    host.deploy("1", reload="exclusive")
    host.commit(reload="exclusive")
    with pytest.raises(Unhealthy, match=r"^did not start: the module yaml is missing: add PyYAML"):
        host.deploy("ends", reload="exclusive")
    with pytest.raises(Unhealthy, match=r"^did not start: it answers|^did not start: after"):
        host.deploy("broken", reload="exclusive")


def test_graceful_reload_waits_for_running_requests_besides_the_start(host, monkeypatch):
    host.deploy("1")
    host.commit()
    waited = []
    monkeypatch.setattr(health, "wait", lambda app, sock, generation, seconds, hopeless=None: waited.append(seconds))
    host.deploy("2", reload="graceful", start_timeout=20, drain_timeout=300)
    assert waited[-1] == 20 + 300 + timing.EMPEROR


def test_the_first_deploy_of_a_chain_makes_the_link_and_starts_the_app(go, host, releases):
    assert go("r1") is True
    assert host.leads_to == releases("r1")
    assert loaded(host.instance("blue")) == ["r1", "r1"]


def test_chain_moves_one_worker_at_a_time_to_the_new_release(go, host, releases):
    go("r1")
    host.commit()
    instance, begin = host.instance("blue"), os.stat(host.app().slots[0].file)
    old = [worker.process for worker in instance.workers]
    assert go("r2") is True
    assert host.leads_to == releases("r2")
    assert loaded(instance) == ["r2", "r2"]
    assert os.stat(host.app().slots[0].file) == begin  # or the Emperor would reload all at once
    assert list(dict.fromkeys(host.signals)) == [(signal.SIGHUP, worker) for worker in old]
    assert instance.master in host.alive
    assert host.commit() is False


def test_finished_chain_is_not_repeated(go, host):
    go("r1")
    go("r2")
    host.commit()
    host.signals.clear()
    assert go("r2") is False
    assert host.signals == []


@pytest.mark.parametrize(
    ("release", "reason"),
    [
        ("dies", "worker 1 dies as soon as it starts"),
        ("broken", "it answers /healthz with status 500 instead of 200"),
        ("silent", "it answers /healthz with status none instead of 200"),
    ],
)
def test_chain_stops_at_the_first_unhealthy_worker_and_rolls_back(release, reason, go, host, releases, monkeypatch):
    go("r1")
    host.commit()
    second = host.instance("blue").workers[1]
    process, seen = second.process, []
    real = processes.kill

    def kill(those, number=signal.SIGKILL):
        seen.append((os.path.basename(host.leads_to), those[0]))
        real(those, number)

    monkeypatch.setattr(processes, "kill", kill)
    host.prefer = release
    with pytest.raises(Unhealthy) as failure:
        go(release)
    assert str(failure.value).startswith(f"did not start: {reason}")
    assert "The earlier release serves again" in str(failure.value)
    assert (release, process) not in seen  # the second one was never asked to take that release
    assert host.leads_to == releases("r1")
    assert loaded(host.instance("blue")) == ["r1", "r1"]
    assert os.listdir(host.params["directory"]) == ["shop.blue.ini"]


def test_rollback_of_a_chain_renews_every_worker_with_the_new_release(go, host, monkeypatch):
    go("r1")
    host.commit()
    real, looks = health.check, []

    def look(app, sock, generation, *rest):
        looks.append(loaded(host.instance("blue")))
        if looks[-1] == ["r2", "r2"]:
            raise Unhealthy("no more")
        real(app, sock, generation, *rest)

    monkeypatch.setattr(health, "check", look)
    with pytest.raises(Unhealthy, match="The earlier release serves again"):
        go("r2")
    assert looks.count(["r2", "r1"]) == 3  # so often each worker's release is asked
    assert loaded(host.instance("blue")) == ["r1", "r1"]


def test_a_worker_that_does_not_end_is_killed_and_its_successor_awaited(go, host):
    go("r1")
    host.commit()
    instance = host.instance("blue")
    instance.hangs = True
    old = [worker.process for worker in instance.workers]
    assert go("r2") is True
    assert loaded(instance) == ["r2", "r2"]
    assert [one for one in host.signals if one[0] == signal.SIGKILL] == [(signal.SIGKILL, one) for one in old]


def test_only_processes_of_the_instance_get_a_signal(go, host):
    # The statistics come from a socket of the app, which may name any process.
    go("r1")
    host.commit()
    foreign = host.process()
    worker = {**host.instance("blue").statistics()["workers"][0], "pid": foreign.pid}
    switch.renew(host.app(), host.app().slots[0], worker)
    assert host.signals == []
    assert foreign in host.alive


def test_a_worker_that_does_not_come_back_is_named(go, host, monkeypatch):
    go("r1")
    host.commit()
    monkeypatch.setattr(Instance, "spawn", lambda self, worker: None)
    with pytest.raises(Unhealthy, match=r"worker 1 did not start within 0\.1 s"):
        switch.renew(host.app(start_timeout=0.1), host.app().slots[0], host.instance("blue").statistics()["workers"][0])


def test_chain_without_statistics_is_given_up(go, host, monkeypatch, releases):
    go("r1")
    host.commit()
    monkeypatch.setattr(uwsgi_client, "statistics", lambda *_a, **_m: json.loads("no"))
    with pytest.raises(Unhealthy, match="did not start: its statistics cannot be read"):
        go("r2")
    assert host.leads_to == releases("r1")


def test_chain_that_cannot_continue_starts_beside_and_rolls_back(impatient, go, host, releases):
    go("r1")
    host.commit()
    releases("broken", python="3.14.0")
    with pytest.raises(Unhealthy, match="The earlier release serves again"):
        go("broken")
    assert host.leads_to == releases("r1")
    assert list(host.runs()) == ["blue"]
    assert loaded(host.instance("blue")) == ["r1", "r1"]


def test_the_link_is_moved_in_one_step(host, releases, monkeypatch):
    app = host.app(link=host.params["serving"])
    app.lead(releases("r1"))
    Path(host.params["serving"] + ".new").symlink_to("left by a run that was killed")
    real, seen = os.replace, []

    def replace(*paths):
        seen.append(app.leads_to)
        real(*paths)

    monkeypatch.setattr(os, "replace", replace)
    app.lead(releases("r2"))
    assert seen == [releases("r1")]
    assert app.leads_to == releases("r2")
    app.lead(releases("r2"))
    app.lead("")
    assert len(seen) == 1


# Which way


@pytest.mark.parametrize("reload", RELOADS)
def test_healthy_instance_switches_by_its_own_mode(reload, way, running, host):
    assert way(reload, host.config("chain")) == MODES[reload].way


@pytest.mark.parametrize("reload", RELOADS)
def test_app_that_does_not_run_is_started_in_every_mode(reload, way, host):
    assert way(reload, host.config("chain")) == "beside"


@pytest.mark.parametrize("reload", RELOADS)
def test_unhealthy_instance_is_started_beside_in_every_mode_that_may(reload, way, running, host):
    running.ill = True
    assert way(reload, host.config("chain")) == ("beside" if MODES[reload].trial else "after")


def test_change_of_the_listening_socket_is_started_beside(way, running, host):
    assert way("graceful", host.config("2")) == "in_place"
    assert way("graceful", config("2")) == "beside"
    assert way("graceful", config("2", held="/elsewhere")) == "beside"


def test_a_chain_changes_nothing_but_the_release(way, running, host):
    # Workers get everything else from their master.
    assert way("chain", host.config("chain", {"A": "changed"})) == "beside"
    assert way("chain", host.config("chain", None, "harakiri = 5")) == "beside"


def test_a_chain_cannot_change_the_python(way, running, host, releases):
    releases("newer", python="3.14.0")
    assert way("chain", host.config("chain"), "newer") == "beside"


def test_a_chain_cannot_change_the_uwsgi(way, running, host, releases):
    releases("newer", uwsgi="2.0.31")
    assert way("chain", host.config("chain"), "newer") == "beside"


def test_a_chain_needs_a_link_to_start_from(way, running, host):
    os.unlink(host.params["serving"])
    assert way("chain", host.config("chain")) == "beside"
    assert not switch.chainable(host.app(link=host.params["serving"], release="/of which nothing is known"))
