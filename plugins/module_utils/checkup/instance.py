"""One app as it is: its release, its instance, the requests in it, and what keeps clients or data from it."""

from __future__ import annotations

import contextlib
import os
import pwd
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils import emperor_unit, processes
from ansible_collections.flaskops.emperor.plugins.module_utils.checkup import (
    access,
    checks,
    database_locks,
    logs,
    network,
)
from ansible_collections.flaskops.emperor.plugins.module_utils.releases.registry import Releases, python_runs
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal import watch
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.config import Config, shown
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.slots import Slot
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.store import App

FILES = 20000  # of a release that are looked at
HOUR = 3600


def requests(stats: Mapping[str, Any], now: float) -> list[dict[str, Any]]:
    """The running requests, the oldest first: ``seconds``, ``method``, ``path`` (without its query) and ``worker``."""
    found = []
    for worker in stats["workers"]:
        for core in worker["cores"]:
            if not core["in_request"]:
                continue
            told = {name: value for name, _sign, value in (str(pair).partition("=") for pair in core.get("vars", []))}
            began = core.get("req_info", {}).get("request_start", 0)
            found.append(
                {
                    "seconds": max(int(now - began), 0) if began else 0,
                    "method": told.get("REQUEST_METHOD", ""),
                    "path": (told.get("REQUEST_URI") or told.get("PATH_INFO") or "").partition("?")[0][:200],
                    "worker": worker["id"],
                }
            )
    return sorted(found, key=lambda one: -one["seconds"])


def workers(slots: list[Slot], now: float) -> dict[str, Any]:
    """The workers of all instances: how many ``accept``, ``threads`` and ``busy`` ones, ``replaced``, ``requests``."""
    found: dict[str, Any] = {"answers": False, "accept": 0, "threads": 0, "busy": 0, "replaced": 0, "requests": []}
    for slot in slots:
        stats = watch.statistics(slot.stats)
        if stats is None:
            continue  # it starts, or it hangs: then it has no workers that accept
        found["answers"] = True
        found["requests"] += requests(stats, now)
        for worker in stats["workers"]:
            found["accept"] += worker["accepting"]
            found["threads"] += len(worker["cores"]) * bool(worker["accepting"])
            found["busy"] += sum(core["in_request"] for core in worker["cores"])
            found["replaced"] += max(worker["respawn_count"] - 1, 0)
    found["requests"].sort(key=lambda one: -one["seconds"])
    return found


def changed(release: str, built: float) -> list[str]:
    """What changed in the source of a release after it was built, or the directories in which something did."""
    source, found, seen = os.path.join(release, "src"), [], 0
    if os.path.islink(source):
        return []  # a package: it is in the virtualenv
    for folder, folders, files in os.walk(source):
        folders[:] = [name for name in folders if name != "__pycache__"]
        if os.lstat(folder).st_mtime > built + 1:
            found.append(folder)
        for name in files:
            seen += 1
            path = os.path.join(folder, name)
            with contextlib.suppress(OSError):
                # Links to configuration files come and go with the settings.
                outside = os.path.islink(path) and not os.path.realpath(path).startswith(release + "/")
                if os.lstat(path).st_ctime > built + 1 and not outside:
                    found.append(path)
        if seen > FILES or len(found) > 3:
            break
    # The file says more than its directory.
    return [one for one in found if not any(other.startswith(one + "/") for other in found)][:3]


def release(app: Mapping[str, Any], serving: str) -> dict[str, Any]:
    """The releases of an app: the one ``serving`` and what is known of it, ``current``, and ``previous``."""
    releases = Releases(app["home"])
    known = releases.describe(serving) or {}
    python = releases.path(serving, "venv", "bin", "python")
    previous = releases.previous()
    return {
        "serving": serving,
        "complete": bool(known),
        "label": known.get("label", ""),
        "activated": known.get("activated") or 0,
        "current": releases.current(),
        "previous": previous,
        "previous_label": (releases.describe(previous) or {}).get("label", "") if previous else "",
        "python": python,
        "python_leads_to": os.path.realpath(python),
        "python_runs": os.access(python, os.X_OK) and python_runs(releases.path(serving, "venv")),
        "changed": changed(releases.path(serving), known["created"]) if known else [],
    }


def data(app: Mapping[str, Any], user: pwd.struct_passwd) -> dict[str, Any]:
    """What keeps an app from its own data: ``closed``, the directory itself, and what is ``out_of_reach`` in it."""
    path = os.path.join(app["home"], "shared")
    rights = access.READ | access.WRITE | access.PASS
    closed = access.barrier(path, user.pw_uid, access.groups_of(user), rights)
    return {"path": path, "closed": closed, "out_of_reach": [] if closed else access.out_of_reach(path, user)}


def memory(running: list[processes.Process], user: pwd.struct_passwd) -> int | None:
    """Bytes that processes of an app use; None when the kernel does not tell, or none runs."""
    try:
        return processes.memory(running, user.pw_uid, user.pw_gid).total
    except OSError:
        return None


def shares_directories(running: list[processes.Process]) -> bool:
    """Whether an app sees /tmp and the like of all apps: systemd has mounted none for it (PrivateTmp=)."""
    try:
        with open(f"/proc/{running[0].pid}/mountinfo", encoding="utf-8", errors="replace") as file:
            mounts = [line.split() for line in file]
    except (IndexError, OSError):  # it does not run
        return False
    return not any(mount[4] == "/tmp" and "/systemd-private-" in mount[3] for mount in mounts)  # noqa: S108


def since(found: App, emperor: float, now: float) -> float:
    """From when on the journal tells of what runs now: an hour ago, or the last change of the vassal, if later."""
    times = [now - HOUR, emperor]
    for path in [*(slot.file for slot in found.taken), found.limit]:
        with contextlib.suppress(OSError):
            times.append(os.stat(path).st_mtime)
    return max(times)


def look(
    app: Mapping[str, Any], params: Mapping[str, Any], started: float, said: Sequence[logs.Entry]
) -> dict[str, Any]:
    """Everything about one app.

    :param app: its ``name``, ``home``, ``run``, and ``checks``.
    :param params: of the module.
    :param started: when its Emperor started; and what Emperors ``said``.
    """
    try:
        user, web = pwd.getpwnam(app["name"]), pwd.getpwnam(params["web_user"])
    except KeyError as error:
        return {"missing": f"there is no user {str(error).split(': ')[-1].rstrip(chr(39) + chr(34))}"}
    now = time.time()
    link = f"{app['home']}/serving"
    found = App({"name": app["name"], "directory": params["directory"], "run": app["run"], "link": link})
    taken = found.taken
    newest = taken[-1] if taken else None
    config = (newest.config if newest else None) or Config()
    serving = config.environment.get("RELEASE_ID", "") or os.path.basename(found.leads_to)
    begin = since(found, started, now)
    upstream = f"{app['home']}/upstream.sock"
    running = [process for slot in taken for process in slot.instance()]
    at_work = workers(taken, now)
    full = at_work["threads"] and at_work["busy"] >= at_work["threads"]
    clients = newest.clients(config) if newest else ""
    return {
        "missing": "",
        "file": newest.file if newest else "",
        "vassal": shown(newest.text) if newest else "",
        "digest": newest.digest if newest else "",
        "running": len(running),
        "shares_directories": shares_directories(running),
        "workers": at_work,
        "locked": database_locks.held_by_others({process.pid for process in running}) if full else [],
        "waiting": network.waiting(clients) if clients else 0,
        "memory": memory(running, user),
        "group": emperor_unit.killed(app["name"]),
        "release": release(app, serving),
        "unfinished": found.before is not None,
        "barrier": access.barrier(upstream, web.pw_uid, access.groups_of(web), access.WRITE),
        "upstream": upstream,
        "data": data(app, user),
        "failed_checks": checks.failed(app["name"], app.get("checks", []), config.environment) if newest else [],
        "since": begin,
        "throttled": logs.throttled([one for one in said if one[0] > begin], f"{app['name']}."),
        "log": logs.of_app(logs.journal(app["name"], begin), found.environments),
    }
