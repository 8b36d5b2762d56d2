"""The states into which an app is brought: switched, committed, rolled back, absent. And its trial alone."""

from __future__ import annotations

import contextlib
import json
import pwd
import time

from ansible_collections.flaskops.emperor.plugins.module_utils import causes, emperor_unit, host, processes
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal import (
    drain,
    health,
    journal,
    switch,
    tasks,
    timing,
    trial,
    watch,
)
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.config import Config
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.health import Stop, Unhealthy
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.modes import MODES
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.slots import Slot
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.store import App

LAZILY = (
    "connections that it opens while it is imported and keeps open ({}) cannot be shared by workers, so each of them "
    "loads the app itself, which takes more memory. To decide that yourself set workers.lazy_apps to true or false."
)
UNFILTERED = (
    "was not changed, because systemd can keep no unit of this host from addresses, as in a container that may not "
    "give the kernel a filter: leave network and allowed_addresses out, or let the container do that."
)
KILLS = 20  # times that all processes of a removed app are killed, while new ones keep appearing


def runs(app: App, config: Config) -> bool:
    """Whether the config is what was started last, with the release that is wanted."""
    return app.released and bool(app.taken) and app.taken[-1].text == config.render()


def serves(app: App, config: Config) -> bool:
    """Whether the config is what runs, or, of two, what was started last.

    :raises Unhealthy: when it is, but does not pass its health check, or clients do not reach it.
    """
    if not runs(app, config):
        return False
    for sock in app.taken[-1].sockets(config):
        health.wait(app, sock, config.generation, app.params["start_timeout"])
    return True


def would_not_start(config: Config, reason: Unhealthy) -> str:
    """Why nothing was changed."""
    return f"was not changed, because {config.launch.get('app', 'it')} would not start: {reason}"


def switched(app: App, config: Config) -> bool:
    """Let the app run as the config says. Returns whether anything changed.

    :raises Unhealthy: when it cannot; the app then runs as it did before, or, the first time, does not run.
    """
    began, complaint = time.time(), ""
    try:
        # In a chain that was broken off some workers have the old release, though everything looks new.
        kept = not app.params.get("anew") and not (app.before and app.params["reload"] == "chain")
        if kept and serves(app, config):
            return app.receive(app.clients)
    except Unhealthy as reason:
        complaint = f"runs as configured, but {reason}, and "
    if app.before:
        roll_back(app)  # a run was killed in its switch
        with contextlib.suppress(Unhealthy):
            if serves(app, config):
                return True
    try:
        used = trial.once(app, config) if app.tries else None
        way = switch.way(app, config)
        if way == "beside" and app.taken:
            trial.check_memory(app, config, used)
    except Unhealthy as reason:
        raise Unhealthy(f"{complaint}{would_not_start(config, reason)}") from reason

    app.remember(app.taken[0] if app.taken else None)
    if int(host.read(app.limit) or 0) < int(app.wanted or 0):
        app.hold(app.wanted)
    emperor_unit.confine(app.name, app.network(config))  # what ran before keeps what it needs until it has ended
    try:
        switch.WAYS[way](app, config)
        app.receive(app.clients)
    except Unhealthy as reason:
        log = journal.journal(f"--identifier={app.name}", began)
        why = tasks.refused(app.name, config, log) or str(reason)
        if isinstance(reason, Stop) and not MODES[app.params["reload"]].trial:
            why = causes.of_start(log) or why  # no trial start has told it
        raise Unhealthy(f"{complaint}did not start: {why}. {roll_back(app)}.\n{journal.excerpt(log)}") from reason
    return True


def tried(app: App, config: Config) -> str:
    """See that the config would run, and keep what it uses. Returns what was tried, empty when nothing had to be.

    When workers would share connections, it is one with which each of them loads the app itself.

    :raises Unhealthy: when it would not run.
    """
    if app.tried(config):
        return ""
    if config.network != "full" and not emperor_unit.filters_addresses():
        raise Unhealthy(UNFILTERED)
    if not app.tries:
        app.inherit()
        return ""
    try:
        used = trial.start(app, config)
        shared = journal.shared_connections(app.warnings)
        if shared and app.lazily and used:  # without a size the plan would not know of it
            config, app.warnings = app.lazily, [LAZILY.format(shared)]
            used = trial.start(app, config)
    except Unhealthy as reason:
        raise Unhealthy(would_not_start(config, reason)) from reason
    size = {**used._asdict(), "lazy": config is app.lazily} if used else None
    digest = app.digest(config)
    host.write(app.params["size"], json.dumps({"digest": digest, "size": size}), 0, 0)
    return digest


def roll_back(app: App) -> str:
    """Go back to what ran before. Returns what was done, as the beginning of a sentence."""
    before = app.before
    if before is None:
        return "Nothing was to be taken back"
    old = app.slot(before.slot) if before.slot else None
    moved = before.release not in ("", app.leads_to)
    app.lead(before.release)
    said = "It was stopped, for there is no earlier release to return to"
    if not MODES[app.params["reload"]].trial:
        end_others(app, old)  # the earlier one could not start beside it
    if old:
        said = "The earlier release serves again"
        config = Config.parse(before.content)
        emperor_unit.confine(app.name, app.network(config))
        rewritten = old.text != before.content
        if rewritten:
            stats = watch.statistics(old.stats)
            # A master whose workers die does not listen to the Emperor, which starts it anew when it is gone.
            dying = [] if stats and watch.serves_any(stats) else old.instance()
            app.write(old, before.content)
            processes.kill(dying)
        try:
            if moved and not rewritten:
                for worker in watch.workers(watch.statistics(old.stats) or {"workers": []}):
                    switch.renew(app, old, worker)
            seconds = app.params["start_timeout"] + app.params["drain_timeout"] + timing.EMPEROR
            health.wait(app, old.socket, config.named, seconds)
        except Unhealthy as reason:
            said = f"The earlier vassal file was put back, but {reason}"
        app.receive(old.clients(config))
    end_others(app, old)
    if not old and app.params["upstream"]:
        host.remove(app.params["upstream"])
    if before.limit:
        app.hold(before.limit)
    else:
        host.remove(app.limit)
    emperor_unit.confine(app.name, app.network())
    host.remove(app.note)
    return said


def end_others(app: App, kept: Slot | None) -> None:
    """End the instances of all slots but one."""
    for slot in app.taken:
        if slot != kept:
            drain.stop(app, slot)


def committed(app: App) -> bool:
    """End what ran before the last switch, and hold the app to its limits. Returns whether that changed anything."""
    others, leftovers = app.others, app.leftovers
    for slot in others:
        drain.stop(app, slot)
    for file in (app.note, *leftovers):
        host.remove(file)
    limited = app.hold(app.wanted)
    confined = emperor_unit.confine(app.name, app.network())
    return bool(others or leftovers) or limited or confined


def absent(app: App) -> bool:
    """Let the app end after its running requests. Returns whether it ran."""
    existed = bool(app.taken)
    try:
        uid = pwd.getpwnam(app.name).pw_uid
    except KeyError:
        uid = None
    for slot in app.taken:
        if uid is None:
            host.remove(slot.file)
        else:
            drain.stop(app, slot)
    host.remove(app.note)
    emperor_unit.stop(app.name)
    killed = uid is not None and kill_all(uid)
    host.remove(app.limit)
    return existed or killed


def kill_all(uid: int) -> bool:
    """Kill every process of a user, which was made for one app alone, also one that keeps forking.

    :returns: whether there was any. An account with processes cannot be removed.
    """
    killed = False
    for _round in range(KILLS):
        rest = processes.of_user(uid)
        if not rest:
            break
        killed = True
        processes.kill_user(uid)
        processes.wait(rest, timing.HANGS)
    return killed
