"""What the side processes of the apps do now, background processes and jobs on a schedule, as systemd tells anybody."""

import os
import re
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

UNITS = "/etc/systemd/system"
NAME = re.compile(r"emperor-side-(?P<app>[^.]+)\.(?P<part>[^.@]+)(?:@(?P<instance>[^.@]+))?\.(?P<kind>service|timer)")
PROPERTIES = "Id,ActiveState,SubState,Result,NRestarts,LastTriggerUSec"

SETTLED = 2  # seconds after which a job that is due runs

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
    command = ["systemctl", "show", f"--property={PROPERTIES}", "--", "emperor-side-*.service", "emperor-side-*.timer"]
    # Its option --timestamp does not apply to timers.
    environment = {**os.environ, "TZ": "UTC", "LC_ALL": "C"}
    told = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    blocks = [dict(line.split("=", 1) for line in text.splitlines() if "=" in line) for text in told.split("\n\n")]
    return {block["Id"]: block for block in blocks if "Id" in block}


def moment(text: str) -> int:
    """A moment as systemctl tells it, in seconds since 1970; 0 for none."""
    try:
        return int(datetime.strptime(f"{text} +0000", "%a %Y-%m-%d %H:%M:%S UTC %z").timestamp())
    except ValueError:
        return 0


def boot(proc: str = "/proc") -> int:
    """When the host was started, in seconds since 1970."""
    with open(f"{proc}/stat", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("btime "))


class Sides:
    """The side processes of a host.

    :ivar succeeded: when each job on a schedule last began that ended well, as far as it was seen.
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
        """A job that runs at set times. systemd forgets its unit when it ended well, and keeps one that failed."""
        name = f"emperor-side-{app}.{part}"
        timer, job = seen.get(f"{name}.timer", {}), seen.get(f"{name}.service", {})
        began = moment(timer.get("LastTriggerUSec", ""))
        running = job.get("ActiveState") in ("activating", "active", "deactivating")
        failed = job.get("ActiveState") == "failed"
        # Of a run before the last boot it is known when it was, and not how it ended. One that is due may not run yet.
        if boot() < began < time.time() - SETTLED and not running and not failed:
            self.succeeded[app, part] = began
        return {
            "kind": "schedule",
            "active": int(timer.get("ActiveState") == "active"),
            "running": int(running),
            "failed": int(failed),
            "began": began,
            "succeeded": self.succeeded.get((app, part), 0),
        }
