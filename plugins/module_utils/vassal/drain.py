"""Ending what runs without a lost request: drain, stop, and kill what never ends."""

from __future__ import annotations

import contextlib
import os
import pwd
import select
import signal
import socket
import time

from ansible_collections.flaskops.emperor.plugins.module_utils import host, processes
from ansible_collections.flaskops.emperor.plugins.module_utils.processes import Process
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal import timing, watch
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.config import Config
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.slots import Slot, held
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.store import App


def stop(app: App, slot: Slot) -> None:
    """End the instance of a slot after its running requests; what does not end is killed."""
    instance, seconds = slot.instance(), app.params["drain_timeout"]
    family = processes.with_descendants(instance)
    config = slot.config or Config()
    if instance and slot.clients(config) != f"{held(slot.run)}/app.sock":
        # No client comes here any more, but requests may wait in its queue, which no other instance serves.
        wait_idle(slot, seconds)
    host.remove(slot.file)
    slot.wake_emperor()
    bury(app, family, instance[1:], seconds + timing.EMPEROR, slot.stats)
    turn_away(slot, config)
    # Version 1.0 had all sockets in one directory.
    former = [config.socket, config.launch.get("holder", "")] if os.path.dirname(config.socket) == slot.run else []
    # The statistics last: they tell the next run that this one was killed meanwhile.
    for leftover in (*former, slot.socket, slot.stats):
        host.remove(leftover)


def turn_away(slot: Slot, config: Config) -> None:
    """Let nginx send elsewhere what still waits on the socket of a slot, whose instance has ended.

    Its listening socket stays open: without this, the clients would wait for the next instance there.
    """
    if slot.clients(config) != f"{held(slot.run)}/{slot.slot}.sock":
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timing.PATIENCE)
        connection.connect(f"{held(slot.run)}/{slot.slot}.holder")
        _answer, descriptors, _flags, _address = socket.recv_fds(connection, 64, 2)
        for listener in [socket.socket(fileno=one) for one in descriptors]:
            with listener:
                # Not by a listener that does not block: how it is, it is for all who share it.
                while listener.getsockname() == slot.clients(config) and select.select([listener], [], [], 0)[0]:
                    listener.accept()[0].close()


def bury(app: App, family: list[Process], takers: list[Process], seconds: float, stats: str = "") -> None:
    """Wait until processes that were told to stop have ended, and kill those that never will.

    :param takers: the workers among them.
    :param seconds: how long their requests may take.
    :param stats: the statistics socket, if their master is among them.
    """
    user, run = pwd.getpwnam(app.name), app.params["run"]
    told = began = time.monotonic()
    rests = None  # since when no look has seen a request
    while any(processes.alive(process) for process in family):
        now = time.monotonic()
        if processes.connections(takers, user.pw_uid, user.pw_gid, (run + "/", held(run) + "/")) != 0:
            rests = None
        elif rests is None:
            rests = now
        if now > began + seconds or (rests is not None and now - rests > timing.HANGS):
            processes.kill(family)
        elif now - told > timing.AGAIN:
            # uWSGI loses the signal in a worker that is just starting (its own handler is not there yet), and its
            # master then waits for ever.
            processes.kill(takers, signal.SIGHUP)
            told = now
        if stats and not any(processes.alive(worker) for worker in takers):
            # A master looks once a second whether its workers have ended; a question wakes it.
            watch.statistics(stats)
        timing.pause(began)


def wait_idle(slot: Slot, seconds: float) -> None:
    """Wait until an instance had no request at three looks in a row, or the time is over."""
    deadline, looks = time.monotonic() + seconds, 0
    while looks < 3 and time.monotonic() < deadline:
        looks = looks + 1 if watch.idle(slot) else 0
        time.sleep(timing.PAUSE)
