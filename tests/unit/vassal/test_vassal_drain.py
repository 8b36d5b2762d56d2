"""Ending an instance: after its requests, without a lost one, and in any case."""

import os
import signal
import socket
import struct
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import (
    processes,
)
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal import (
    drain,
    health,
    states,
    timing,
    watch,
)
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.health import Unhealthy
from vassal_host import (
    Killed,
    complete,
    config,
    later,
)


def test_instance_ends_without_a_signal(ending, host):
    ending.end()
    assert host.signals == []
    assert host.alive == set()
    assert os.listdir(host.run) == []
    assert host.runs() == {}


def test_running_request_finishes(ending, host):
    ending.instance.connections = 1
    later(0.4, ending.instance, "connections", 0)
    began = time.monotonic()
    ending.end(drain_timeout=30)
    assert time.monotonic() - began > 0.39
    assert host.signals == []


def test_an_instance_without_a_connection_that_does_not_end_is_killed_soon(ending, host, monkeypatch):
    monkeypatch.setattr(timing, "HANGS", 0.2)
    ending.instance.hangs = True
    began = time.monotonic()
    ending.end(drain_timeout=60)
    assert 0.2 < time.monotonic() - began < 30
    assert {process for number, process in host.signals if number == signal.SIGKILL} == set(ending.instance.family)


def test_hang_timeout_starts_after_the_last_request(ending, host, monkeypatch):
    monkeypatch.setattr(timing, "HANGS", 0.3)
    ending.instance.hangs = True
    ending.instance.connections = 1
    later(0.25, ending.instance, "connections", 0)
    began = time.monotonic()
    ending.end(drain_timeout=60)
    assert 0.5 < time.monotonic() - began < 10


def test_master_is_asked_once_its_workers_have_ended(ending, host, monkeypatch):
    # It looks only once a second by itself. This one does not look at all.
    asked = []

    def statistics(sock):
        asked.append(sock)
        host.alive.discard(ending.instance.master)

    monkeypatch.setattr(watch, "statistics", statistics)
    with host.lock:
        ending.instance.hangs = ending.instance.stopping = True
        host.alive -= set(ending.instance.workers_at_first)
    ending.end()
    assert (asked, host.signals) == ([host.path("blue.stats")], [])


def test_instance_is_not_killed_because_the_host_stood_still(ending, host, monkeypatch):
    host.awake = False
    ending.instance.connections = 1
    clock = SimpleNamespace(now=0.0)

    def pause(_began):
        if ending.instance.connections:
            ending.instance.connections = 0
            clock.now += 10
        else:
            host.awake = True
        time.sleep(0.01)

    monkeypatch.setattr(drain, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(timing, "pause", pause)
    monkeypatch.setattr(timing, "HANGS", 5)
    ending.end(drain_timeout=30)
    assert host.signals == []


@pytest.mark.parametrize("connections", [1, None])
def test_an_instance_that_has_a_connection_is_killed_at_the_deadline_and_not_before(
    connections, ending, host, monkeypatch
):
    monkeypatch.setattr(timing, "EMPEROR", 0.3)
    ending.instance.connections = connections  # None: the kernel does not tell, there may be one
    ending.instance.hangs = True
    began = time.monotonic()
    ending.end(drain_timeout=0.2)
    assert 0.5 < time.monotonic() - began < 8
    assert (signal.SIGKILL, ending.instance.master) in host.signals


def test_signals_are_repeated_to_workers_and_never_to_the_master(ending, host, monkeypatch):
    # A worker that was just starting may have lost the signal; to the master it would mean a reload.
    monkeypatch.setattr(timing, "EMPEROR", 1)
    monkeypatch.setattr(timing, "AGAIN", 0.05)
    ending.instance.connections = 1
    ending.end(drain_timeout=0)
    told = [process for number, process in host.signals if number == signal.SIGHUP]
    assert set(told) == set(ending.instance.workers_at_first)


def test_signals_are_repeated_only_after_a_while(ending, host, monkeypatch):
    times, real = [time.monotonic()], processes.kill

    def kill(those, number=signal.SIGKILL):
        if those:  # there is no Emperor to be woken
            times.append(time.monotonic())
        real(those, number)

    monkeypatch.setattr(processes, "kill", kill)
    monkeypatch.setattr(timing, "AGAIN", 0.15)
    monkeypatch.setattr(timing, "EMPEROR", 2)  # also on a busy machine enough for two times
    ending.instance.connections = 1
    ending.end(drain_timeout=0)
    assert len(times) > 3
    assert times[1] - times[0] >= 0.14
    assert times[2] - times[1] >= 0.14


def test_children_of_an_instance_end_with_it(ending, host, monkeypatch):
    helper = host.process()
    monkeypatch.setattr(processes, "with_descendants", lambda those: [*those, helper] if those else [])
    real = processes.kill

    def kill(those, number=signal.SIGKILL):
        real(those, number)
        if those:  # there is no Emperor to be woken
            host.alive.discard(helper)

    monkeypatch.setattr(processes, "kill", kill)
    monkeypatch.setattr(timing, "HANGS", 0.2)
    ending.end()
    assert (signal.SIGKILL, helper) in host.signals


def test_processes_to_end_are_collected_before_the_vassal_is_removed(ending, host, monkeypatch):
    # Later a helper whose master has ended would belong to nobody.
    seen = []

    def with_descendants(those):
        seen.append(list(host.runs()))
        return list(those)

    monkeypatch.setattr(processes, "with_descendants", with_descendants)
    ending.end()
    assert seen[0] == ["blue"]


# With a socket for each slot (mode upstream)


def test_clients_reach_the_instance_started_last(host, reached):
    host.deploy("1")
    assert reached() == "app.sock"
    assert host.deploy("1") is False
    for version, sock in {"2": "green.sock", "3": "blue.sock"}.items():
        host.commit()
        assert host.deploy(content=host.config(version, clients="slot")) is True
        assert reached() == sock
        assert host.answers(host.params["upstream"]) == host.config(version, clients="slot").generation
    host.commit()
    host.deploy("4")
    assert reached() == "app.sock"


def test_clients_reach_a_release_only_after_its_health_check(host, monkeypatch, reached):
    host.deploy(content=host.config("1", clients="slot"))
    host.commit()
    seen = []
    real = health.wait

    def wait(app, sock, *arguments):
        seen.append((os.path.basename(sock), reached()))
        real(app, sock, *arguments)

    monkeypatch.setattr(health, "wait", wait)
    host.deploy(content=host.config("2", clients="slot"))
    assert set(seen) == {("shop.blue.sock", "blue.sock"), ("blue.sock", "blue.sock"), ("shop.green.sock", "blue.sock")}
    with pytest.raises(Unhealthy):
        host.deploy(content=host.config("broken", clients="slot"), start_timeout=0.2)
    assert reached() == "blue.sock"


def test_the_sockets_of_a_slot_go_with_its_instance(two, host):
    assert host.commit() is True
    assert sorted(os.listdir(host.run)) == ["shop.green.sock", "shop.green.stats"]


def test_change_from_the_slots_socket_to_the_shared_one_is_started_beside(host, reached):
    """It would drop the socket when it reloads, while clients still come there."""
    own = host.config("1", clients="slot")
    host.deploy(content=own)
    assert reached() == "blue.sock"
    host.commit()
    assert host.deploy("1", reload="graceful") is True
    assert list(host.runs()) == ["blue", "green"]
    assert reached() == "app.sock"


@pytest.mark.parametrize("led", ["nowhere", None])
def test_a_link_that_was_changed_by_hand_is_mended(led, module, host, reached):
    module("1")
    module(state="committed")
    os.unlink(host.params["upstream"])
    if led:
        os.symlink(led, host.params["upstream"])
    assert module("1", check=True)["changed"]
    assert reached() == (led or "")
    assert module("1")["changed"]
    assert reached() == "app.sock"
    assert not module("1", check=True)["changed"]
    assert not module("1")["changed"]


def test_link_is_moved_after_a_run_killed_before_moving_it(host, kill_at, reached):
    host.deploy(content=host.config("1", clients="slot"))
    host.commit()
    kill_at("link", lambda: host.deploy(content=host.config("2", clients="slot")))
    assert reached() == "blue.sock"
    assert host.deploy(content=host.config("2", clients="slot")) is True
    assert reached() == "green.sock"
    assert host.commit() is True
    assert host.deploy(content=host.config("2", clients="slot")) is False


def test_instance_is_stopped_after_a_moment_without_requests(two, host, monkeypatch):
    looks = []
    real = watch.idle

    def idle(slot):
        looks.append(os.path.exists(slot.file))
        two.old.in_request = int(len(looks) in (1, 2, 5))  # idle at the looks 3, 4 and, in a row, 6, 7, 8
        host.until(
            lambda: (watch.statistics(slot.stats) or {})["workers"][0]["cores"][1]["in_request"] == two.old.in_request
        )
        return real(slot)

    monkeypatch.setattr(watch, "idle", idle)
    host.commit(drain_timeout=30)
    assert looks == [True] * 8


def test_instance_that_is_never_idle_is_stopped_at_the_deadline(two, host):
    two.old.in_request = 1
    began = time.monotonic()
    host.commit(drain_timeout=0.4)
    assert 0.4 < time.monotonic() - began < 10
    assert list(host.runs()) == ["green"]


def test_instance_without_statistics_does_not_count_as_idle(host):
    assert not watch.idle(host.app().slots[0])


def test_instance_on_a_shared_socket_is_stopped_without_waiting_for_idle(host, monkeypatch):
    host.put("blue", host.config("1"), age=60).in_request = 1
    host.put("green", host.config("2"))
    monkeypatch.setattr(drain, "wait_idle", None)
    host.commit()
    assert not os.path.lexists(host.path("blue.sock"))


def test_connections_waiting_on_the_socket_of_a_slot_are_closed(two, host):
    """Where the holder is asked: here, as it would answer."""
    sockets = {name: one for one, name in host.held.items()}

    def hold(holder):
        with holder.accept()[0] as connection:
            given = [sockets[name].fileno() for name in ("app", "blue")]
            socket.send_fds(connection, [b"uwsgi-zerg" + struct.pack("@i", 2)], given)

    two.old.accepting = False  # too busy to take another one
    with socket.socket(socket.AF_UNIX) as holder, socket.socket(socket.AF_UNIX) as client:
        holder.bind(f"{host.sockets}/blue.holder")
        holder.listen()
        threading.Thread(target=hold, args=(holder,), daemon=True).start()
        client.settimeout(20)
        client.connect(f"{host.sockets}/blue.sock")
        host.commit(drain_timeout=0.2)
        assert client.recv(1) == b""
    assert host.answers(f"{host.sockets}/green.sock"), "those of the other slot are not"
    assert host.answers(f"{host.sockets}/app.sock")


def test_sockets_of_version_1_0_go_with_its_instance(host, reached):
    """It had them all in the directory of the app."""
    former = [f"{host.run}/app.sock", f"{host.run}/holder.sock"]
    for path in former:
        Path(path).touch()
    host.put("blue", config("1", held=host.run, clients="own"), age=60)
    host.app().receive(former[0])
    assert host.deploy("2") is True
    assert reached() == "app.sock"
    assert host.commit() is True
    assert sorted(os.listdir(host.run)) == ["shop.green.sock", "shop.green.stats"]


def test_rollback_moves_clients_before_the_new_instance_ends(two, host, monkeypatch, reached):
    host.deploy(content=host.config("2", clients="slot"))
    assert reached() == "green.sock"
    seen, real = [], drain.stop

    def stop(app, slot):
        seen.append((slot.slot, reached()))
        real(app, slot)

    monkeypatch.setattr(drain, "stop", stop)
    states.roll_back(host.app())
    assert seen == [("green", "blue.sock")]
    assert host.runs() == {"blue": host.config("1", clients="slot").render()}
    assert host.answers(host.params["upstream"]) == host.config("1", clients="slot").generation


def test_rollback_returns_to_an_instance_that_a_killed_run_was_ending(two, host, kill_at, reached):
    host.app().remember(host.app().slots[0])
    kill_at("wait_idle", host.commit)
    assert states.roll_back(host.app()) == "The earlier release serves again"
    assert reached() == "blue.sock"
    assert host.answers(two.blue) == host.config("1", clients="slot").generation


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("buried", [True, False])
def test_run_killed_while_ending_an_instance_leaves_no_sockets(buried, own, host, monkeypatch):
    host.put("blue", config("1") if own else host.config("1"), age=60)
    host.put("green", config("2") if own else host.config("2"))
    bury = drain.bury

    def killed(*arguments):
        if buried:
            bury(*arguments)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(drain, "bury", killed)
        with pytest.raises(Killed):
            host.commit()
    assert list(host.runs()) == ["green"]
    assert os.path.exists(host.path("blue.stats"))
    assert host.commit() is True
    assert host.commit() is False
    assert not os.path.exists(host.path("blue.stats"))
    assert not os.path.lexists(host.path("blue.sock"))


def test_slot_is_used_again_only_when_it_is_empty(host, monkeypatch):
    # A run was killed after it had told the old instance to stop.
    leaving = host.put("green", host.config("0"))
    leaving.connections = 1
    host.put("blue", host.config("1"))
    os.unlink(leaving.file)
    later(0.5, leaving, "connections", 0)
    assert host.deploy("2", start_timeout=0.2, drain_timeout=10) is True
    assert leaving.master not in host.alive
    host.commit()
    assert host.runs() == {"green": complete(host, "2")}
