"""What the side processes of the apps do now, background processes and jobs on a schedule, as systemd tells anybody."""

import os
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

UNITS = "/etc/systemd/system"
NAME = re.compile(r"emperor-side-(?P<app>[^.]+)\.(?P<part>[^.@]+)(?:@(?P<instance>[^.@]+))?\.(?P<kind>service|timer)")
PROPERTIES = "Id,ActiveState,SubState,Result,NRestarts,ExecMainExitTimestamp"

Facts = dict[str, dict[str, dict[str, Any]]]  # by app and name of the side process


def wanted(directory: str = UNITS) -> Iterator[re.Match[str]]:
    """The units that start at boot, and so should run now."""
    for target in ("multi-user.target", "timers.target"):
        path = f"{directory}/{target}.wants"
        for name in sorted(os.listdir(path)) if os.path.isdir(path) else []:
            if found := NAME.fullmatch(name):
                yield found


def states() -> dict[str, dict[str, str]]:
    """What systemd says of their units, by name."""
    command = ["systemctl", "show", "--timestamp=unix", f"--property={PROPERTIES}", "--",
               "emperor-side-*.service", "emperor-side-*.timer"]  # fmt: skip
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    blocks = [dict(line.split("=", 1) for line in text.splitlines() if "=" in line) for text in told.split("\n\n")]
    return {block["Id"]: block for block in blocks if "Id" in block}


class Sides:
    """The side processes of a host.

    :ivar succeeded: when each job on a schedule last ended well, as far as it was seen.
    """

    def __init__(self) -> None:
        self.succeeded: dict[tuple[str, str], int] = {}

    def look(self, directory: str = UNITS) -> Facts:
        """All of them. Where there are none, systemd is not asked."""
        units = list(wanted(directory))
        found: Facts = defaultdict(dict)
        seen = states() if units else {}
        for unit in units:
            app, part = unit["app"], unit["part"]
            if unit["kind"] == "timer":
                found[app][part] = self.schedule(app, part, seen)
                continue
            one = found[app].setdefault(part, {"kind": "background", "wanted": 0, "running": 0, "restarts": 0})
            state = seen.get(unit[0], {})
            one["wanted"] += 1
            one["running"] += state.get("SubState") == "running"
            one["restarts"] += int(state.get("NRestarts") or 0)
        return dict(found)

    def schedule(self, app: str, part: str, seen: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
        """A job that runs at set times."""
        name = f"emperor-side-{app}.{part}"
        timer, job = seen.get(f"{name}.timer", {}), seen.get(f"{name}.service", {})
        ended = re.fullmatch(r"@(\d+)", job.get("ExecMainExitTimestamp", ""))
        good = job.get("Result") == "success"
        if ended and good:
            self.succeeded[app, part] = int(ended[1])
        return {
            "kind": "schedule",
            "active": int(timer.get("ActiveState") == "active"),
            "running": int(job.get("ActiveState") in ("activating", "active", "deactivating")),
            "failed": int(bool(job) and not good),
            "ended": int(ended[1]) if ended else 0,
            "succeeded": self.succeeded.get((app, part), 0),
        }
