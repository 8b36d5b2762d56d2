"""What is on a host of an app's side processes: jobs, units, and which of them run."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import subprocess
from collections.abc import Collection
from typing import Any, NamedTuple

from ansible_collections.flaskops.emperor.plugins.module_utils import confined, host, system
from ansible_collections.flaskops.emperor.plugins.module_utils.sides import sockets, units
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.config import Config

JOBS = "/etc/emperor/sides"
LIMITS = "/etc/emperor/vassals"  # where the module `vassal` keeps an app's memory limit, and its vassal file
PROPERTIES = "Id,ActiveState,SubState,Job,Result,NRestarts,ExecMainCode,ExecMainStatus"


class Unfit(Exception):
    """A side process does not do what it should; the text tells what, and shows the end of its log."""


class Found(NamedTuple):
    """A job on the host.

    :ivar part: its name.
    :ivar generation: of a background process; empty for a job that runs on a schedule.
    :ivar path: of its file.
    :ivar job: its content.
    """

    part: str
    generation: str
    path: str
    job: dict[str, Any]


def systemctl(*arguments: str) -> None:
    """Run systemctl.

    :raises Unfit: when it fails.
    """
    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Unfit(f"`systemctl {' '.join(arguments)}` failed: {done.stderr.strip()}")


def runs(state: dict[str, str]) -> bool:
    """Whether a background process runs, or is started again after it ended by itself without a fault."""
    return state.get("ActiveState") == "active" or (
        state.get("ActiveState") == "activating" and state.get("Result") == "success"
    )


class Sides:
    """The side processes of an app on this host.

    :param app: its name.
    :param home: its directory.
    :param run: the directory of its sockets.
    """

    def __init__(self, app: str, home: str = "", run: str = "") -> None:
        self.app, self.home, self.run = app, home, run
        self.directory = os.path.join(JOBS, app)
        # The generations that were started, but not committed.
        self.note = os.path.join(self.directory, "started")

    def path(self, part: str, generation: str = "") -> str:
        """The file of a job."""
        return os.path.join(self.directory, f"{part}@{generation}.json" if generation else f"{part}.json")

    def jobs(self) -> list[Found]:
        """All jobs, the older file first."""
        paths = glob.glob(os.path.join(glob.escape(self.directory), "*.json"))
        found = []
        for path in sorted(paths, key=lambda path: os.stat(path).st_mtime_ns):
            job: dict[str, Any] = {}
            with contextlib.suppress(ValueError):
                job = json.loads(host.read(path) or "")
            part, _at, generation = os.path.basename(path).removesuffix(".json").partition("@")
            found.append(Found(part, generation, path, job))
        return found

    def newest(self) -> dict[str, Found]:
        """Of each side process the newest job."""
        return {one.part: one for one in self.jobs()}

    def unit_files(self) -> list[str]:
        """The files of all its units, and the links by which systemd starts them at boot."""
        begin = glob.escape(units.of_app(self.app))
        links = [
            path for target in units.WANTS.values() for path in glob.glob(f"{units.UNITS}/{target}.wants/{begin}*")
        ]
        shared = [
            path for path in (*units.slice_file(self.app, "", ""), units.former(self.app)) if os.path.exists(path)
        ]
        return list(dict.fromkeys([*links, *glob.glob(f"{units.UNITS}/{begin}*"), *shared]))

    def enabled(self, part: str) -> set[str]:
        """The units of a side process that start at boot."""
        links = [os.path.basename(path) for path in self.unit_files() if ".wants/" in path]
        begin = units.unit(self.app, part)
        return {name for name in links if name.startswith((f"{begin}@", f"{begin}."))}

    def states(self) -> dict[str, dict[str, str]]:
        """What systemd says of all its units that it has loaded, except for the slice."""
        found = system.show([units.of_app(self.app) + "*"], PROPERTIES)
        return {name: state for name, state in found.items() if name != units.slice_of(self.app)}

    def instances(self, one: Found) -> list[str]:
        """The units of a generation of a background process."""
        return units.instances(self.app, one.part, one.generation, one.job)

    def sound(self, one: Found, states: dict[str, dict[str, str]]) -> bool:
        """Whether a side process is on the host, and runs, as its newest job says."""
        if not one.job or one.job.get("sandbox") != confined.known():
            return False
        if any(host.read(path) != text for path, text in units.files(self.app, one.part, one.job).items()):
            return False
        if units.is_background(one.job):
            wanted = set(self.instances(one))
            if not sockets.led(one.job, one.generation):
                return False
            return self.enabled(one.part) >= wanted and all(runs(states.get(name, {})) for name in wanted)
        timer = f"{units.unit(self.app, one.part)}.timer"
        return timer in self.enabled(one.part) and states.get(timer, {}).get("ActiveState") == "active"

    def limit(self) -> str:
        """Bytes of memory that all its side processes may use: those of the settings, or as many as its instances."""
        jobs = self.jobs()
        if jobs and jobs[-1].job.get("memory"):
            return str(jobs[-1].job["memory"])
        return (host.read(os.path.join(LIMITS, f"{self.app}.limit")) or "").strip()

    def tasks(self, wanted: int = 0) -> str:
        """Processes and threads that all its side processes may have: what its web workers leave them.

        :param wanted: what those of the instance that is about to start leave them; the larger number counts.
        """
        files = glob.glob(os.path.join(glob.escape(LIMITS), f"{self.app}.*.ini"))
        newest = max(files, key=lambda path: os.stat(path).st_mtime_ns, default="")
        found = str(Config.parse((host.read(newest) if newest else "") or "").launch.get("side_tasks", ""))
        return str(max(wanted, int(found) if found.isdecimal() else 0) or "")

    def shared(self, tasks: int = 0) -> dict[str, str]:
        """The file that all side processes share.

        :param tasks: see `tasks`.
        """
        return units.slice_file(self.app, self.limit(), self.tasks(tasks))

    def superfluous(self, kept: Collection[str]) -> list[str]:
        """Units that start at boot, or run, and are none of these; those that are about to end are left to it."""
        running = {
            name for name, state in self.states().items() if state.get("ActiveState") in ("active", "activating")
        }
        parts = {one.part for one in self.jobs()}
        linked = {os.path.basename(path) for path in self.unit_files() if ".wants/" in path}
        # The service of a scheduled job runs when it is due.
        due = {f"{units.unit(self.app, part)}.service" for part in parts}
        return sorted((running | linked) - set(kept) - due)


def observe(app: str) -> dict[str, Any]:
    """What there is to see of an app's side processes, without a secret.

    :returns: ``parts``, of each its ``digest``, whether it is ``sound``, and a phrase on it for a person (``told``);
        and whether a run was killed in their change, or something of an old one is left (``unfinished``).
    """
    sides = Sides(app)
    if not os.path.isdir(sides.directory):
        return {"parts": {}, "unfinished": bool(sides.unit_files())}
    states, newest, kept, parts = sides.states(), sides.newest(), [], {}
    for part, one in newest.items():
        digest = units.digest(one.job) if one.job else ""
        parts[part] = {"digest": digest, "sound": sides.sound(one, states), "told": told(sides, one, states)}
        kept += sides.instances(one) if one.generation else [f"{units.unit(app, part)}.timer"]
    left = len(sides.jobs()) > len(newest) or os.path.exists(sides.note) or sides.superfluous(kept)
    wrong = any(host.read(path) != text for path, text in sides.shared().items())
    return {"parts": parts, "unfinished": bool(left) or (bool(parts) and wrong)}


def told(sides: Sides, one: Found, states: dict[str, dict[str, str]]) -> str:
    """How a side process does, as a phrase for a person."""
    if not one.generation:
        state = states.get(f"{units.unit(sides.app, one.part)}.service", {}).get("ActiveState")
        return f"{one.part} " + {"failed": "FAILED when it last ran", "activating": "runs now"}.get(
            state or "", "waits"
        )
    wanted = sides.instances(one)
    running = sum(runs(states.get(name, {})) for name in wanted)
    ending = sum(
        state.get("ActiveState") == "deactivating" and name.startswith(f"{units.unit(sides.app, one.part)}@")
        for name, state in states.items()
    )
    return f"{one.part} {running} of {len(wanted)} run" + (f", {ending} of before about to end" if ending else "")
