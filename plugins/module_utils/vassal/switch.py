"""The ways in which an app goes over from what runs to another config or release."""

from __future__ import annotations

import glob
import os
import re
import signal
import time
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils import host, processes
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal import drain, health, timing, watch
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.config import Config
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.health import Unhealthy
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.modes import MODES
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.slots import Slot
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.store import App


def beside(app: App, config: Config) -> None:
    """Start a second instance, and leave the first as it is.

    :raises Unhealthy: when it does not become healthy.
    """
    start(app, config, unused(app))


def unused(app: App) -> Slot:
    """A slot in which nothing runs."""
    return next(slot for slot in app.slots if slot not in app.taken)


def start(app: App, config: Config, slot: Slot) -> None:
    """Start an instance in a slot.

    :raises Unhealthy: when it does not become healthy.
    """
    drain.stop(app, slot)  # what a run that was killed left to end by itself, and its sockets
    app.lead(app.params["release"])
    app.write(slot, config.render())
    seconds = app.params["start_timeout"] + timing.EMPEROR
    health.wait(app, slot.socket, config.generation, seconds, watch.watch(slot))


def after(app: App, config: Config) -> None:
    """End what runs, and start another instance then. Meanwhile requests wait on the listening socket.

    In another slot: if it fails, the former instance starts anew, and takes over nothing that it could not.

    :raises Unhealthy: when it does not become healthy.
    """
    free = unused(app)
    app.receive(free.clients(config))  # where the next instance accepts, too; until it ends, the old one does
    for slot in app.taken:
        drain.stop(app, slot)
    start(app, config, free)


def in_place(app: App, config: Config) -> None:
    """Let the running instance reload itself, with the sockets it has.

    :raises Unhealthy: when it does not become healthy.
    """
    (slot,) = app.taken
    hopeless = watch.watch(slot)
    app.write(slot, config.render())
    seconds = app.params["start_timeout"] + app.params["drain_timeout"] + timing.EMPEROR
    health.wait(app, slot.socket, config.generation, seconds, hopeless)


def chain(app: App, config: Config) -> None:
    """Let the workers load the release to which the link leads, one at a time.

    uWSGI's own chain reload would go on to the next worker when one died, and tell nothing. Each worker gets the signal
    it would get from that: it ends after its requests, and its master starts another one.

    :raises Unhealthy: when one does not come up, or does not pass the health check.
    """
    (slot,) = app.taken
    app.lead(app.params["release"])
    stats = watch.statistics(slot.stats)
    if stats is None:
        raise Unhealthy("its statistics cannot be read")
    for worker in watch.workers(stats):
        renew(app, slot, worker)
        for _check in range(3):
            health.check(app, slot.socket, config.generation)


def renew(app: App, slot: Slot, worker: dict[str, Any]) -> None:
    """Let one worker be replaced after its requests; when it does not end in time it is killed.

    :raises Unhealthy: when its successor does not come up.
    """
    # The number comes from a socket of the app: root signals nothing but processes of this very instance.
    old = [process for process in slot.instance() if process.pid == worker["pid"]]
    if old:
        processes.kill(old, signal.SIGHUP)
        drain.bury(app, old, old, app.params["drain_timeout"])
    deadline = time.monotonic() + app.params["start_timeout"]
    while True:
        stats = watch.statistics(slot.stats)
        found = next((one for one in watch.workers(stats or {"workers": []}) if one["id"] == worker["id"]), None)
        if found and found["accepting"] and found["pid"] != worker["pid"]:
            return
        if found and found["respawn_count"] - worker["respawn_count"] > timing.DEATHS:
            raise Unhealthy(f"worker {worker['id']} dies as soon as it starts")
        if time.monotonic() > deadline:
            raise Unhealthy(f"worker {worker['id']} did not start within {app.params['start_timeout']} s")
        time.sleep(timing.PAUSE)


def chainable(app: App) -> bool:
    """Whether workers of the running master can load the new release: the same Python and the same uWSGI."""

    def made_of(release: str) -> list[str]:
        venv = f"{release}/venv"
        packages = glob.glob(f"{venv}/lib/python3*/site-packages/pyuwsgi-*.dist-info")
        told = re.findall(r"^(?:home|version) = .*$", host.read(f"{venv}/pyvenv.cfg") or "", re.MULTILINE)
        return [*told, *sorted(os.path.relpath(package, venv) for package in packages)]

    return bool(app.leads_to) and made_of(app.leads_to) == made_of(app.params["release"])


WAYS = {"beside": beside, "in_place": in_place, "chain": chain, "after": after}


def way(app: App, config: Config) -> str:
    """How to go over from what runs to this config, as the reload mode wants it and as far as that is possible."""
    mode = MODES[app.params["reload"]]
    wanted, otherwise = mode.way, "beside" if mode.trial or not app.taken else "after"
    # While it reloads with the file it had, the old instance answers the health check: only a trial start would tell.
    unproved = app.params.get("anew") and not mode.trial
    if len(app.taken) != 1 or unproved or not health.healthy(app, app.taken[0]):
        return otherwise
    running = app.taken[0]
    if wanted == "chain":
        return "chain" if running.text == config.render() and chainable(app) else "beside"
    if wanted == "in_place":
        # What uWSGI takes over from itself when it reloads: sockets, to all of which clients come, and a limit that it
        # cannot raise.
        kept = ("socket", "clients", "tasks")
        before = (running.config or Config()).launch
        return "in_place" if all(before.get(key) == config.launch.get(key) for key in kept) else otherwise
    return "beside"
