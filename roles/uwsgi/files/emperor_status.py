#!/usr/bin/python3 -Is
"""Show what the apps of this host do: emperor-status [--json]

Ends with 1 when an app accepts no requests, or a side process does not do what it should. `playbooks/status.yml` shows
all hosts, compared with the inventory.
"""

import argparse
import glob
import json
import re
import sys
import time
from collections.abc import Mapping
from typing import Any

sys.path.insert(0, "/usr/local/lib/emperor")  # root's alone

from app_facts import Apps

VASSALS = "/etc/emperor/vassals"
ROOT = "/srv/flask_apps"  # where apps are when none has a vassal file that says it
HEAD = ("app", "release", "live since", "workers", "busy threads", "queue", "oldest request", "memory", "certificate")
DAY, MIB = 86400, 1 << 20


def root_of_apps(vassals: str = VASSALS) -> str:
    """The directory of the apps, as their vassal files tell it."""
    for path in glob.glob(f"{vassals}/*.ini"):
        with open(path, encoding="utf-8") as file:
            if told := re.search(r'"VIRTUAL_ENV": "(/[^"]*?)/[^/"]+/releases/', file.read()):
                return told[1]
    return ROOT


def cells(name: str, app: Mapping[str, Any]) -> tuple[str, ...]:
    """A row of the table."""
    live = time.strftime("%Y-%m-%d %H:%M", time.localtime(app["activated"])) if app["activated"] else "never"
    days = (app["certificate"] - time.time()) / DAY
    used, limit = app["memory_bytes"] // MIB, (app["memory_limit_bytes"] or 0) // MIB
    return (
        name,
        f"{app['release']} ({app['label']})" if app["label"] else app["release"],
        live + (", a switch is under way" if app["switching"] else ""),
        str(app["workers"]) if app["up"] else "DOWN",
        f"{app['threads_busy']} of {app['threads']}",
        str(app["queue"]),
        f"{app['oldest_request_seconds']:.0f} s" if app["threads_busy"] else "",
        f"{used} of {limit} MiB" if limit else f"{used} MiB",
        f"{days:.0f} days" if app["certificate"] else "",
    )


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """All apps."""
    rows = [HEAD, *(cells(name, app) for name, app in found.items())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
                     for row in rows)  # fmt: skip


def sound(side: Mapping[str, Any]) -> bool:
    """Whether a side process does what it should."""
    if side["kind"] == "background":
        return bool(side["running"] >= side["wanted"])
    return bool(side["active"] and not side["failed"])


def side(name: str, told: Mapping[str, Any]) -> str:
    """A side process, in a phrase."""
    if told["kind"] == "background":
        again = f", started again {told['restarts']} times" if told["restarts"] else ""
        phrase = f"{name} {told['running']} of {told['wanted']} run{again}"
    else:
        when = (
            time.strftime("%Y-%m-%d %H:%M", time.localtime(told["succeeded"])) if told["succeeded"] else "not seen yet"
        )
        state = "runs now" if told["running"] else "FAILED when it last ran" if told["failed"] else "waits"
        phrase = f"{name} {state if told['active'] else 'IS NOT SCHEDULED'}, last success {when}"
    return phrase if sound(told) else f"! {phrase}"


def sides(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The side processes of all apps, an app a line."""
    return [f"side processes of {app}: " + "; ".join(side(name, told) for name, told in facts["sides"].items())
            for app, facts in found.items() if facts["sides"]]  # fmt: skip


def main() -> int:
    """Show the table, or the same as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0], allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="for programs")
    given = parser.parse_args()
    try:
        apps = Apps(VASSALS, "/run/emperor", root_of_apps(), "/etc/nginx/sites-enabled")
        beside = apps.sides.look()
        found = {name: {**facts, "sides": beside.get(name, {})} for name, facts in apps.look().items()}
    except PermissionError as error:
        sys.exit(f"{error.filename} cannot be read: run emperor-status as root.")
    if given.json:
        print(json.dumps(found, indent=1))
    else:
        print("\n".join([table(found), *sides(found)]) if found else "No app has been deployed on this host.")
    return int(any(not app["up"] or not all(map(sound, app["sides"].values())) for app in found.values()))


if __name__ == "__main__":
    sys.exit(main())
