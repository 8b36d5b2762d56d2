"""The side processes of an app: what the settings want of a release, compared with what is on the host."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils.sides.sockets import doors
from ansible_collections.flaskops.emperor.plugins.module_utils.sides.units import digest
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import fail
from ansible_collections.flaskops.emperor.plugins.plugin_utils.vassal_options import app_environment


def sides(app: Mapping[str, Any], release: str, once: bool = True) -> dict[str, dict[str, Any]]:
    """The jobs of an app's side processes in a release, by name.

    :param app: completed by `complete_apps`.
    :param release: its ID.
    :param once: whether jobs that run once per fleet run on this host.
    """
    common = {
        "release": release,
        "directory": f"{app['paths']['releases']}/{release}/src",
        "environment": app_environment(app, release),
    }
    if app["memory"]["side_processes"]:
        common["memory"] = app["memory"]["side_processes"] * 1024 * 1024
    if app["network"] != "full":
        common["network"] = app["network"]
    found = {}
    for kind in ("background", "schedule"):
        for name, settings in app[kind].items():
            if once or not settings.get("once_per_fleet"):
                own = {key: value for key, value in settings.items() if key != "once_per_fleet"}
                if settings.get("serve"):
                    paths = app["paths"]
                    own |= {"socket": f"{paths['run']}/side.{name}", "held": f"{doors(paths['run'])}/side.{name}"}
                    own["link"] = f"{paths['home']}/side.{name}"
                found[name] = {**common, **own, "command": shlex.split(settings["command"])}
    return found


def differ(app: Mapping[str, Any], release: str, once: bool, found: Mapping[str, Any], new: bool) -> dict[str, str]:
    """What differs in the side processes of an app.

    :param once: see `sides`.
    :param found: what the module `apps_state` says of them.
    :param new: whether the release is another one, which they follow without being named.
    """
    wanted, parts = sides(app, release, once), found["parts"]
    told = {}
    for name, job in wanted.items():
        if name not in parts:
            told[name] = "new"
        elif parts[name]["digest"] != digest(job):
            told[name] = "" if new else "changed"
        elif not parts[name]["sound"]:
            told[name] = "does not run as it should"
    told |= {name: "to be removed" for name in parts if name not in wanted}
    if not told and not found["unfinished"]:
        return {}
    said = [f"{name} {phrase}" for name, phrase in told.items() if phrase]
    said += [] if told else ["interrupted run"]
    return {"sides": f"side processes: {', '.join(said)}" if said else ""}


def check_calendars(app: Mapping[str, Any], wrong: Mapping[str, str]) -> None:
    """See that systemd knows when scheduled jobs are to run.

    :param wrong: what it has against calendars.
    :raises Refused: with one sentence that names the variable and the cure.
    """
    for name, settings in app["schedule"].items():
        if reason := wrong.get(settings["calendar"]):
            fail(
                f"flask_apps[{app['name']}].schedule.{name}.calendar",
                f"is {settings['calendar']!r}, but systemd does not understand that ({reason}): write it like `daily`, "
                "`Mon 04:00` or `*:0/15`, see systemd.time(7).",
            )
