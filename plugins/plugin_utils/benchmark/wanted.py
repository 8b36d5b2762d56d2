"""What a user wants measured, checked before anything starts: it is bounded in requests at a time and in time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import fail

STEPS = (1, 2, 4, 8, 16, 32, 64)
AT_A_TIME, MOST_STEPS, MOST_WORKERS, SLOTS = 256, 10, 8, 512
LONGEST = 1800  # seconds of load in all
SIZE = re.compile(r"([1-9]\d{0,2})x([1-9]\d{0,2})\Z")
NEIGHBOURS = 5  # workers that are compared when none are named: what serves, and half and twice as much


def words(value: Any) -> list[str]:
    """The parts of what a user wrote on the command line, with commas, or in a list."""
    parts = value if isinstance(value, list) else str(value).split(",")
    return [str(part).strip() for part in parts if str(part).strip()]


def steps(value: Any) -> list[int]:
    """The requests at a time, fewest first."""
    given = words(value) or [str(step) for step in STEPS]
    fit = [re.fullmatch(r"\d{1,3}", one) and 1 <= int(one) <= AT_A_TIME for one in given]
    if len(given) > MOST_STEPS or not all(fit):
        fail("at_a_time", f"is {','.join(given)}, but must be at most {MOST_STEPS} numbers from 1 to {AT_A_TIME}, "
             "with commas: -e at_a_time=1,4,16.")  # fmt: skip
    return sorted({int(one) for one in given})


def workers(value: Any) -> list[str]:
    """The workers to compare, processes x threads."""
    given = words(value)
    sizes = [SIZE.match(one) for one in given]
    if len(given) > MOST_WORKERS or not all(one and int(one[1]) * int(one[2]) <= SLOTS for one in sizes):
        fail("workers", f"is {','.join(given)}, but must be at most {MOST_WORKERS} of processes x threads, together at "
             f"most {SLOTS} each: -e workers=2x8,4x8.")  # fmt: skip
    return given


def number(value: Any, low: float, high: float, where: str) -> float:
    """A number within bounds."""
    if not re.fullmatch(r"\d+(\.\d+)?", str(value)) or not low <= float(value) <= high:
        fail(where, f"is {value}, but must be a number from {low:g} to {high:g}.")
    return float(value)


def check(options: Mapping[str, Any], apps: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The arguments of the module `app_benchmark`.

    :param options: of the action.
    :param apps: the entries of flask_apps, by name.
    :raises Refused: with one sentence that names the variable and the cure.
    """
    name = options["name"]
    if name not in apps:
        named = f"is {name}, which is not in flask_apps" if name else "is not set"
        fail("app", f"{named}: add `-e app=NAME` with one of {', '.join(apps)}.")
    app = apps[name]
    if app.get("reload") == "exclusive":
        fail("app", f"is {name}, whose reload is exclusive, as it cannot run twice at a time: a benchmark would start "
             "it once more. Measure it on a host of its own, with reload graceful.")  # fmt: skip
    health = app.get("health") or {}
    path = str(options["path"] or health.get("path") or "/")
    if not re.fullmatch(r"/[!-~]*", path):
        fail("path", f"is {path!r}, but must begin with / and have no spaces: -e path=/cart.")
    found = {
        "name": name,
        "path": path,
        "host": [*(app.get("domains") or []), "localhost"][0].replace("*", "health"),
        "status": int(number(options["status"], 200, 599, "status")),
        "health_path": health.get("path") or "/",
        "health_status": int(health.get("status") or 200),
        "at_a_time": steps(options["at_a_time"]),
        "seconds": number(options["seconds"], 0.2, 30, "seconds"),
        "rounds": int(number(options["rounds"], 1, 5, "rounds")),
        "workers": workers(options["workers"]),
        "start_timeout": int(app.get("max_start_seconds") or 60),
    }
    sizes = len(found["workers"]) + 1 if found["workers"] else NEIGHBOURS
    total = found["rounds"] * sizes * len(found["at_a_time"]) * (found["seconds"] + min(found["seconds"], 1))
    if total > LONGEST:
        fail("seconds", f"is {found['seconds']:g}, with which the load would take {total / 60:.0f} minutes, but it may "
             f"take {LONGEST // 60}: lower seconds or rounds, or name fewer workers or at_a_time.")  # fmt: skip
    if not options["confirm"]:
        fail("confirm", f"is not set, but a benchmark takes processors and memory from what {name} serves for about "
             f"{max(total / 60, 1):.0f} min, and requests {path} all the time: add `-e confirm=yes`.")  # fmt: skip
    return found
