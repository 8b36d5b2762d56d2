"""What is wrong with an app's requests: slow ones, late ones, killed ones, and those that nginx turned away."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils.checkup.logs import WINDOW
from ansible_collections.flaskops.emperor.plugins.plugin_utils.checkup.case import MIB, Case, clock
from ansible_collections.flaskops.emperor.plugins.plugin_utils.checkup.problem import Problem
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.mounts import below

BUSY = 1  # seconds that the oldest request must have taken before busy threads are a problem


def locked(case: Case) -> Iterator[Problem]:
    """An app all of whose threads are busy while somebody else has locked its database."""
    for one in case.facts["locked"]:
        at_work = case.facts["workers"]["requests"]
        paths = sorted({f"{request['method']} {request['path']}" for request in at_work})
        yield case.problem(
            "locked",
            f"The database {one['path']} of {case.name} is locked by another process: its clients wait or get errors.",
            f"kill {one['pid']} && while kill -0 {one['pid']} 2>/dev/null; do sleep 1; done",
            f"locked by {one['program']} (pid {one['pid']}, {one['unit'] or 'no unit'})",
            f"all {case.facts['workers']['threads']} threads of {case.name} are busy: {', '.join(paths[:5])}",
            here=False,
            before=f"let it finish what it writes (`ps -fp {one['pid']}`), or end it as below: SQLite takes back what "
            "was not committed.",
            explains=("busy", "health", "instance", "full", "late"),
        )


def busy(case: Case) -> Iterator[Problem]:
    """An app all of whose threads run slow requests."""
    workers, planned = case.facts["workers"], case.planned["workers"]
    at_work = workers["requests"]
    if not workers["threads"] or workers["busy"] < workers["threads"] or not at_work or at_work[0]["seconds"] < BUSY:
        return
    paths: dict[str, list[int]] = {}
    for one in at_work:
        paths.setdefault(f"{one['method']} {one['path']}", []).append(one["seconds"])
    said = [f"{path}: {len(seconds)} running, the oldest for {max(seconds)} s" for path, seconds in paths.items()]
    more = f"{{processes: {planned['processes']}, threads: {planned['threads'] * 2}}}"
    yield case.problem(
        "busy",
        f"All {workers['threads']} threads of {case.name} are busy: clients wait, and get 503 when the queue is full.",
        case.commands.deploy(case.name),
        *said[:5],
        f"{case.facts['waiting']} connections wait in the queue",
        before=f"make these requests faster, or give {case.name} more threads in flask_apps: workers: {more}",
        explains=("health", "instance", "full"),
    )


def killed(case: Case) -> Iterator[Problem]:
    """Workers that the kernel killed for their memory, or that crashed."""
    log, group, name = case.facts["log"], case.facts["group"], case.name
    share = case.planned["workers"]["share"]
    if log["killed"] and group["killed"]:
        limit = group["limit"] // MIB
        said = (
            f"{len(log['killed'])} workers were killed since {clock(case.facts['since'])}, the last one at "
            f"{clock(log['killed'][-1])}",
            f"the kernel's limit is {limit} MiB; {name}'s share is {share} MiB",
        )
        what = f"The kernel kills workers of {name} at a memory limit of {limit} MiB: their clients get 502."
        wrong = limit != share
        yield case.problem(
            "killed",
            what,
            case.commands.site("apps"),
            *said,
            before="" if wrong else f"raise memory.limit of {name} in flask_apps, or find what needs that much.",
            explains=("limit",) if wrong else (),
        )
    if log["crashed"]:
        yield case.problem(
            "crashed",
            f"Workers of {name} crash: their clients get 502.",
            case.commands.playbook("rollback", "-e", f"app={name}"),
            f"{len(log['crashed'])} since {clock(case.facts['since'])}, the last one at {clock(log['crashed'][-1])}",
            before=f"`journalctl -t {name}` shows where.",
        )


def late(case: Case) -> Iterator[Problem]:
    """Requests that took longer than they may."""
    moments = [at for at in case.facts["log"]["late"] if case.now - at < WINDOW]
    timeouts = [one for one in errors(case, "timeout") if one["at"] > case.facts["since"]]
    if moments or timeouts:
        paths = sorted({one["request"] for one in timeouts if one["request"]})
        seconds = case.planned["max_request_seconds"]
        yield case.problem(
            "late",
            f"Requests of {case.name} take longer than max_request_seconds ({seconds} s): clients get 502 or 504.",
            case.commands.deploy(case.name),
            f"{max(len(moments), len(timeouts))} in the last ten minutes",
            *paths[:5],
            before=f"make them faster, or raise max_request_seconds of {case.name} in flask_apps.",
        )


def errors(case: Case, kind: str) -> list[Mapping[str, Any]]:
    """What nginx complained of about this app: by its domains, and by its path where it shares them."""
    names = set(case.planned["domains"]) or {"_"}

    def own(path: str) -> bool:
        return below(path, case.planned["path"]) and not any(below(path, other) for other in case.planned["others"])

    found = [one for one in case.host["nginx_errors"] if one["kind"] == kind and one["server"] in names]
    return [one for one in found if own(one["request"].partition(" ")[2])]


def refused(case: Case) -> Iterator[Problem]:
    """Requests that nginx turned away: too large, or the queue was full."""
    large = [one for one in errors(case, "too_large") if one["at"] > case.host["nginx_read"]]
    if large:
        most, limit = max(one["bytes"] for one in large), case.planned["max_body_size"]
        yield case.problem(
            "large",
            f"Clients of {case.name} send larger bodies than max_body_size ({limit}) and get 413.",
            case.commands.site("apps"),
            f"{len(large)} in the last ten minutes, up to {most} bytes",
            *sorted({one["request"] for one in large if one["request"]})[:5],
            before=f"set max_body_size of {case.name} in flask_apps to more than {most} bytes, if these are welcome.",
        )
    full = [one for one in errors(case, "full") if one["at"] > case.facts["since"]]
    if full:
        yield case.problem(
            "full",
            f"The queue of {case.name} was full: clients got 503.",
            case.commands.deploy(case.name),
            f"{len(full)} times in the last ten minutes, the last one at {clock(full[-1]['at'])}",
            before=f"give {case.name} more workers in flask_apps.",
        )
