"""Background processes and scheduled jobs of an app."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import (
    bounded,
    check_names,
    commands,
    fail,
    given,
    require,
)

PART = re.compile(r"[a-z][a-z0-9_-]{0,30}\Z")
# What a calendar of systemd is made of; whether it is one, systemd says on the host.
CALENDAR = re.compile(r"[A-Za-z0-9*][A-Za-z0-9 *:,./~_+-]{0,199}\Z")
BACKGROUND = ("command", "instances", "start_seconds", "stop_seconds", "serve")
SCHEDULE = ("command", "calendar", "once_per_fleet")


def _each(values: Any, options: tuple[str, ...], where: str) -> Iterable[tuple[str, dict[str, Any], str]]:
    """Name, options and place of each entry, with its command checked."""
    if not isinstance(values, Mapping):
        fail(where, f"is {values!r}, but must be a dict: a name, and below it {', '.join(options)}.")
    for name, value in values.items():
        require(PART, name, f"{where}.{name}", "must be a name of lower-case letters, digits, '-' and '_'")
        here = f"{where}.{name}"
        if not isinstance(value, Mapping):
            fail(here, f"is {value!r}, but must be a dict with {', '.join(options)}.")
        check_names(value, options, here)
        chosen = given(value)
        if not isinstance(chosen.get("command"), str):
            fail(f"{here}.command", "must be one command, as text: put it in quotes.")
        commands([chosen["command"]], f"{here}.command")
        yield name, chosen, here


def background(values: Any, where: str) -> dict[str, dict[str, Any]]:
    """The background processes of an app, complete.

    :raises Refused: with one sentence naming the variable and the cure.
    """
    found = {}
    for name, chosen, here in _each(values or {}, BACKGROUND, f"{where}.background"):
        # One that serves is ready as soon as it accepts connections, and may take longer.
        patience = 30 if chosen.get("serve") else 5
        found[name] = {
            "command": chosen["command"],
            "instances": bounded(chosen.get("instances", 1), 1, 100, f"{here}.instances", "processes"),
            "start_seconds": bounded(chosen.get("start_seconds", patience), 1, 600, f"{here}.start_seconds", "seconds"),
            "stop_seconds": bounded(chosen.get("stop_seconds", 60), 1, 86400, f"{here}.stop_seconds", "seconds"),
            **({"serve": chosen["serve"]} if chosen.get("serve") else {}),  # checked with the site
        }
    return found


def schedule(values: Any, others: Iterable[str], where: str) -> dict[str, dict[str, Any]]:
    """The scheduled jobs of an app, complete.

    :param others: names of its background processes.
    :raises Refused: with one sentence naming the variable and the cure.
    """
    found = {}
    for name, chosen, here in _each(values or {}, SCHEDULE, f"{where}.schedule"):
        if name in others:
            fail(here, "has the name of a background process: choose another one.")
        sentence = "must say when, as systemd writes it: `daily`, `Mon 04:00` or `*:0/15`"
        require(CALENDAR, chosen.get("calendar"), f"{here}.calendar", sentence)
        once = chosen.get("once_per_fleet", True)
        if not isinstance(once, bool):
            fail(f"{here}.once_per_fleet", f"is {once!r}, but must be true or false.")
        found[name] = {"command": chosen["command"], "calendar": chosen["calendar"], "once_per_fleet": once}
    return found


def check_identifiers(apps: Iterable[Mapping[str, Any]]) -> None:
    """See that the journal calls no two processes the same.

    :param apps: all apps, completed.
    :raises Refused: with one sentence naming the variable and the cure.
    """
    apps = list(apps)
    known = {app["name"]: f"the app {app['name']}" for app in apps}
    for app in apps:
        for kind in ("background", "schedule"):
            for part in app.get(kind, ()):
                called, where = f"{app['name']}-{part}", f"flask_apps[{app['name']}].{kind}.{part}"
                if called in known:
                    fail(where, f"would be {called} in the journal, as {known[called]} is: choose another name.")
                known[called] = where
