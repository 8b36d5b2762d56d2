"""The states into which the side processes of an app are brought."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.flaskops.emperor.plugins.module_utils import causes, confined, host, system
from ansible_collections.flaskops.emperor.plugins.module_utils.sides import sockets, units
from ansible_collections.flaskops.emperor.plugins.module_utils.sides.store import (
    PROPERTIES,
    Found,
    Sides,
    Unfit,
    systemctl,
)
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.journal import journal

LOOK = 0.25  # seconds between two looks at what starts; less than the pause before a new start
TAKEN = 1  # seconds after which a process has taken the connections that nginx had made to it
LINES = 15  # of its log, in the message of a failure

Wanted = Mapping[str, Mapping[str, Any]]


class Tasks(NamedTuple):
    """Processes and threads that an app may have with the instance that is about to start, as its vassal file has them.

    :ivar app: of web workers and side processes; 0 when that is not known.
    :ivar sides: of all side processes.
    """

    app: int = 0
    sides: int = 0


UNKNOWN = Tasks()


def as_wanted(sides: Sides, wanted: Wanted) -> dict[str, Found]:
    """Those that are on the host, and run, as the settings say."""
    states = sides.states()
    return {
        part: one
        for part, one in sides.newest().items()
        if part in wanted and units.digest(one.job) == units.digest(wanted[part]) and sides.sound(one, states)
    }


def fresh(sides: Sides, wanted: Wanted) -> list[str]:
    """The background processes that are to be started beside what runs."""
    right = as_wanted(sides, wanted)
    return [part for part, job in wanted.items() if units.is_background(job) and part not in right]


def write_units(sides: Sides, tasks: int = 0) -> bool:
    """Write the files of all units as the newest jobs want them. Returns whether that changed anything.

    :param tasks: see `Sides.tasks`.
    """
    shared = sides.shared(tasks) if sides.jobs() else {}
    texts = dict(shared)
    for part, one in sides.newest().items():
        if one.job:
            texts |= units.files(sides.app, part, one.job)
    outdated = [path for path, text in texts.items() if host.read(path) != text]
    for path in outdated:
        host.write(path, texts[path], 0, 0, 0o644)
    if outdated:
        systemctl("daemon-reload")
    if set(outdated) & set(shared):
        # systemd tells the kernel the limits of a slice when something starts in it, and not when it reads them.
        begin = ["systemd-run", "--quiet", "--collect", "--wait", f"--slice={units.slice_of(sides.app)}", "true"]
        subprocess.run(begin, capture_output=True, check=False)
    return bool(outdated)


def prepare(sides: Sides, gid: int) -> None:
    """Make the directory of the jobs, which the app may read."""
    os.makedirs(sides.directory, 0o755, exist_ok=True)
    os.chown(sides.directory, 0, gid)
    os.chmod(sides.directory, 0o750)


def write_job(sides: Sides, path: str, job: Mapping[str, Any], gid: int) -> None:
    """Write a job, which the app alone can read."""
    content = json.dumps({**job, "sandbox": confined.known()}, sort_keys=True)
    # The newest of two jobs is known by its time, though the clock may have been set back.
    before = max((os.stat(one.path).st_mtime for one in sides.jobs()), default=0)
    host.write(path, content, 0, gid, 0o440, modified=max(time.time(), before + 1))


def start(sides: Sides, wanted: Wanted, gid: int, anew: bool = False, tasks: Tasks = UNKNOWN) -> bool:
    """Start the background processes that are new or changed, beside those of before. Returns whether there are any.

    :param gid: the app's group.
    :param anew: whether to replace those that run as they should, too.
    :param tasks: those of the instance that is about to start, whose vassal file comes later.
    :raises Unfit: when one does not start; then all of them are as they were before.
    """
    changed = roll_back(sides)  # a run was killed
    new = [part for part, job in wanted.items() if units.is_background(job)] if anew else fresh(sides, wanted)
    if not new:
        return changed
    prepare(sides, gid)
    generation = os.urandom(4).hex()
    host.write(sides.note, json.dumps({"generation": generation}), 0, 0)
    known = set(sides.newest())
    began = time.time()
    try:
        for part in new:
            write_job(sides, sides.path(part, generation), wanted[part], gid)
        write_units(sides, tasks.sides)
        names = {name: part for part in new for name in units.instances(sides.app, part, generation, wanted[part])}
        systemctl("enable", "--quiet", *names)
        systemctl("start", "--no-block", *names)  # one that serves has started when its socket is there
        watch(names, wanted, began, tasks.app)
        for part in set(new) - known:  # nobody served there before
            sockets.lead(wanted[part], generation)
    except Unfit:
        roll_back(sides)
        raise
    return True


def watch(names: Mapping[str, str], wanted: Wanted, began: float, tasks: int = 0) -> None:
    """See that what was started goes on running, and that those that serve a path can be reached.

    :param names: of the units, each with its part.
    :param tasks: see `Tasks.app`.
    :raises Unfit: when it is not so.
    """
    started = time.monotonic()
    # Of one that serves it is known sooner.
    longest = max(
        (int(wanted[part]["start_seconds"]) for part in names.values() if "serve" not in wanted[part]), default=0
    )
    while True:
        for name, state in system.show(list(names), PROPERTIES).items():
            part, passed = names[name], time.monotonic() - started
            comes = state.get("ActiveState") == "active" or bool(state.get("Job"))
            well = comes and state.get("NRestarts", "0") == "0"
            if not well and passed <= int(wanted[part]["start_seconds"]) + 2 * LOOK:
                reason = why(name, state, began, tasks)
                raise Unfit(f"was not changed, because its side process {part} does not start: {reason}")
        passed = time.monotonic() - started
        silent = {name: reason for name, part in names.items() if (reason := sockets.closed(wanted[part], name))}
        for name, reason in silent.items():
            if passed > int(wanted[names[name]]["start_seconds"]):
                said = f"{reason}\n{last_words(name, began)}"
                raise Unfit(f"was not changed, because its side process {names[name]} does not serve: {said}")
        if passed > longest and not silent:
            return
        time.sleep(LOOK)


def why(name: str, state: Mapping[str, str], began: float, tasks: int = 0) -> str:
    """Why a process ended: the cause first, then the end of its log."""
    log = last_words(name, began)
    status = state.get("ExecMainStatus", "0")
    killed = state.get("ExecMainCode") in ("2", "3")  # CLD_KILLED, CLD_DUMPED
    how = f"it was killed by signal {status}" if killed else f"it ended with exit code {status}"
    return f"{crowded(name, log, tasks) or causes.of_start(log) or how}\n{log}"


def crowded(name: str, log: str, tasks: int = 0) -> str:
    """That the kernel lets it start no more processes, as a phrase, when its log tells so; else empty.

    :param tasks: see `Tasks.app`.
    """
    if not causes.REFUSED.search(log):
        return ""
    app = name.removeprefix(units.PREFIX).partition(".")[0]
    return (
        "it may not start another process or thread, as the side processes, those of before included, have all that "
        f"the web workers leave them of max_tasks{f', which is {tasks}' if tasks else ''}: set "
        f"flask_apps[{app}].max_tasks higher, or let them have fewer"
    )


def last_words(name: str, began: float) -> str:
    """The end of what a process wrote, and not of what systemd says of it."""
    log = journal(f"_SYSTEMD_UNIT={name}", began)
    return "\n".join([line for line in log.splitlines() if line.strip()][-LINES:])


def end(sides: Sides, names: Sequence[str], wait: bool) -> None:
    """Let units end after their work, and not start at boot again.

    :param wait: whether to wait until they have ended, as before their file goes.
    """
    if not names:
        return
    links = {os.path.basename(path): path for path in sides.unit_files() if ".wants/" in path}
    for name in names:
        if name in links:
            host.remove(links[name])
    systemctl("stop", *([] if wait else ["--no-block"]), *names)


def roll_back(sides: Sides) -> bool:
    """End what was started since the last commit. Returns whether there was anything."""
    text = host.read(sides.note)
    if text is None:
        return False
    generation = json.loads(text)["generation"]
    rest = {one.part for one in sides.jobs() if one.generation != generation}
    for one in sides.jobs():  # a run was killed after clients went to the new ones
        if one.generation != generation:
            sockets.lead(one.job, one.generation)
    for one in sides.jobs():
        if one.generation == generation:
            end(sides, sides.instances(one), wait=one.part not in rest)
            host.remove(one.path)
    host.remove(sides.note)
    sockets.forget(sides.home, sides.run, [(one.job, one.generation) for one in sides.newest().values()])
    forget(sides)
    write_units(sides)
    return True


def forget(sides: Sides) -> bool:
    """Remove the files of units that have no job any more, and the memory of those that failed.

    :returns: whether that changed anything.
    """
    newest = sides.newest()
    texts = sides.shared() if newest else {}
    for part, one in newest.items():
        texts |= units.files(sides.app, part, one.job) if one.job else {}
    old = [path for path in sides.unit_files() if ".wants/" not in path and path not in texts]
    for path in old:
        host.remove(path)
    if old:
        systemctl("daemon-reload")
    current = {name for one in newest.values() for name in sides.instances(one)}
    current |= {f"{units.unit(sides.app, part)}.service" for part in newest}
    failed = [name for name, state in sides.states().items() if state.get("ActiveState") == "failed"]
    if others := [name for name in failed if name not in current]:
        systemctl("reset-failed", *others)
    return bool(old)


def schedule(sides: Sides, wanted: Wanted, gid: int) -> bool:
    """Bring the jobs that run on a schedule into this release. Returns whether that changed anything."""
    right = as_wanted(sides, wanted)
    new = [part for part, job in wanted.items() if not units.is_background(job) and part not in right]
    if not new:
        return False
    prepare(sides, gid)
    timers = {part: f"{units.unit(sides.app, part)}.timer" for part in new}
    before = {part: host.read(f"{units.UNITS}/{name}") for part, name in timers.items()}
    for part in new:
        write_job(sides, sides.path(part), wanted[part], gid)
    write_units(sides)
    systemctl("enable", "--quiet", *timers.values())
    systemctl("start", *timers.values())
    if others := [name for part, name in timers.items() if host.read(f"{units.UNITS}/{name}") != before[part]]:
        systemctl("restart", *others)
    return True


def commit(sides: Sides, wanted: Wanted, gid: int) -> bool:
    """End what ran before, after its work, and let scheduled jobs run in the release.

    :returns: whether that changed anything.
    :raises Unfit: when a scheduled job cannot be put in place.
    """
    changed = schedule(sides, wanted, gid)
    newest = {part: one for part, one in sides.newest().items() if part in wanted}
    kept = [name for one in newest.values()
            for name in (sides.instances(one) or [f"{units.unit(sides.app, one.part)}.timer"])]  # fmt: skip
    old = sides.superfluous(kept)
    if [one for one in newest.values() if sockets.lead(one.job, one.generation)]:
        time.sleep(TAKEN)
    # Their file must stay until they have ended: without it systemd forgets how long they may take.
    stay = tuple(f"{units.unit(sides.app, part)}@" for part, job in wanted.items() if units.is_background(job))
    gone = [name for name in old if not name.startswith(stay)]
    end(sides, [name for name in old if name not in gone], wait=False)
    end(sides, gone, wait=True)
    files = [one.path for one in sides.jobs() if one not in newest.values()]
    changed = sockets.forget(sides.home, sides.run, [(one.job, one.generation) for one in newest.values()]) or changed
    for path in [*files, *([sides.note] if os.path.exists(sides.note) else [])]:
        host.remove(path)
        changed = True
    changed = write_units(sides) or changed
    changed = forget(sides) or changed
    if not wanted and os.path.isdir(sides.directory):
        shutil.rmtree(sides.directory)
    return changed or bool(old)


def remove(sides: Sides) -> bool:
    """End all side processes of an app after their work, and remove their units. Returns whether there were any."""
    existed = os.path.isdir(sides.directory) or bool(sides.unit_files())
    loaded = [name for name, state in sides.states().items() if state.get("ActiveState") not in (None, "inactive")]
    linked = [os.path.basename(path) for path in sides.unit_files() if ".wants/" in path]
    end(sides, sorted({*loaded, *linked}), wait=True)
    if existed:
        systemctl("stop", units.slice_of(sides.app))
    if os.path.isdir(sides.directory):
        shutil.rmtree(sides.directory)
    forget(sides)
    return existed
