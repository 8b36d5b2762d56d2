"""What is wrong with an app: its instance, its release, its settings, its rights."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils import emperor_unit
from ansible_collections.flaskops.emperor.plugins.module_utils.checkup.logs import WINDOW
from ansible_collections.flaskops.emperor.plugins.plugin_utils.checkup import drift
from ansible_collections.flaskops.emperor.plugins.plugin_utils.checkup.case import Case, clock
from ansible_collections.flaskops.emperor.plugins.plugin_utils.checkup.problem import Problem, explained, rights
from ansible_collections.flaskops.emperor.plugins.plugin_utils.checkup.requests import (
    busy,
    killed,
    late,
    locked,
    refused,
)

# What the plan compares and no check here explains better, in words.
DIFFERS = ("release", "static", "account", "serving", "upstream", "limit", "unit", "socket", "unfinished", "sides")


def down(case: Case) -> Iterator[Problem]:
    """An app none of whose workers accepts requests."""
    if not case.emperor or case.facts["workers"]["accept"] > 0:
        return
    log, raised = case.facts["log"], case.facts["log"]["exception"]
    now = (
        "no process of it runs" if not case.facts["running"] else "none of its workers accepts requests",
        f"it was started {len(log['starts'])} times since {clock(case.facts['since'])}" if log["starts"] else "",
        "the Emperor waits before it starts it again (throttled)" if case.facts["throttled"] else "",
    )
    if not case.release["python_runs"]:
        what = f"{case.name} cannot start, as the Python of its virtualenv is gone: clients wait, then get 502 to 504."
        yield instance(case, what, case.rebuild, *python_gone(case), *now, explains=("python", "changed"))
    elif raised and raised["loading"] and raised["variable"]:
        yield lacks_variable_to_start(case, raised, now)
    elif raised and raised["loading"]:
        yield cannot_load(case, raised, now)
    else:
        yield does_not_run(case, now)


def instance(case: Case, what: str, cure: str, *evidence: str, explains: Iterable[str] = (), **more: Any) -> Problem:
    """A problem of an app that is down, which accounts for all that follows from that."""
    consequences = ("health", "upstream", "barrier", "limit", "unit")
    return case.problem("instance", what, cure, *evidence, explains=(*consequences, *explains), **more)


def edited(case: Case, what: str, *evidence: str) -> Problem:
    """An app that is down with a vassal file that somebody edited."""
    return instance(case, what, case.commands.site("apps"), *evidence, *difference(case), explains=("settings",))


def lacks_variable_to_start(case: Case, raised: Mapping[str, Any], now: Iterable[str]) -> Problem:
    """An app that ends for want of an environment variable."""
    name, variable = case.name, raised["variable"]
    what = f"{name} cannot start without the environment variable {variable}: clients wait, then get 502 to 504."
    said = (raised["line"], raised["where"], *now)
    if case.edited:
        return edited(case, what, *said)
    before = f"add {variable} to the environment of {name} in flask_apps."
    return instance(case, what, case.commands.deploy(name), *said, before=before)


def cannot_load(case: Case, raised: Mapping[str, Any], now: Iterable[str]) -> Problem:
    """An app that ends with an exception."""
    name, changed = case.name, changes(case)
    what = f"{name} cannot start: {raised['line']}. Clients wait, then get 502 to 504."
    said = (raised["where"], *changed, *now)
    if changed:
        return instance(case, what, case.rebuild, *said, explains=("changed",))
    if case.edited:
        return edited(case, what, *said)
    if case.release["previous"]:
        return instance(case, what, case.commands.playbook("rollback", "-e", f"app={name}"), *said)
    return instance(case, what, case.commands.deploy(name), *said, before=f"correct the code of {name}.")


def does_not_run(case: Case, now: Iterable[str]) -> Problem:
    """An app that is down, and says nothing of it."""
    what, changed = f"{case.name} does not run: clients wait, then get 502 to 504.", changes(case)
    if case.edited:
        return edited(case, what, *now)
    if changed:
        return instance(case, what, case.rebuild, *now, *changed, explains=("changed",))
    # uWSGI itself was killed, or is still loading the app: start it again.
    cure, before = f"systemctl restart {emperor_unit.unit(case.name)}", f"`journalctl -t {case.name}` tells more."
    return instance(case, what, cure, *now, here=False, before=before)


def difference(case: Case) -> tuple[str, ...]:
    """How the vassal file differs."""
    return (
        f"{case.facts['file']} differs from the inventory:",
        *drift.shown(case.facts["vassal"], case.planned["vassal"]["text"]),
    )


def changes(case: Case) -> list[str]:
    """What of the release is not as it was built."""
    return [f"changed since the release was built: {path}" for path in case.release["changed"]]


def python_gone(case: Case) -> tuple[str]:
    """Where the Python of the virtualenv leads."""
    return (f"{case.release['python']} leads to {case.release['python_leads_to']}",)


def owned(found: Mapping[str, str]) -> str:
    """A path with its owner and mode."""
    return f"{found['path']} is {found['owner']}:{found['group']} {found['mode']}"


def release(case: Case) -> Iterator[Problem]:
    """A release that was changed, whose Python is gone, or which is not the current one."""
    name, found = case.name, case.release
    if not found["python_runs"] and found["serving"]:
        yield case.problem(
            "python",
            f"The Python of {name}'s virtualenv is gone: it will not start again.",
            case.rebuild,
            *python_gone(case),
        )
    if found["changed"]:
        yield case.problem(
            "changed",
            f"The code of {name} was changed on the host: it is not what was deployed.",
            case.rebuild,
            *changes(case),
        )
    if found["serving"] and found["current"] != found["serving"]:
        home = case.planned["home"]
        yield case.problem(
            "current",
            f"The link {home}/current names another release of {name} than the one that runs.",
            case.commands.deploy(name)
            if case.facts["unfinished"]
            else shlex.join(["ln", "-sfn", f"releases/{found['serving']}", f"{home}/current"]),
            f"it names {found['current'] or 'none'}, clients get {found['serving']}",
            "an earlier run was interrupted in its switch" if case.facts["unfinished"] else "",
            here=case.facts["unfinished"],
            explains=("settings", "serving", "release", "static", "superfluous", "unfinished"),
        )


def lacks_variable(case: Case) -> Iterator[Problem]:
    """Requests that fail for a missing environment variable."""
    raised = case.facts["log"]["exception"]
    if raised and raised["variable"] and not raised["loading"] and case.now - raised["at"] < WINDOW:
        yield case.problem(
            "variable",
            f"Requests of {case.name} fail without the environment variable {raised['variable']}: clients get 500.",
            case.commands.deploy(case.name),
            raised["line"],
            raised["where"],
            before=f"add {raised['variable']} to the environment of {case.name} in flask_apps.",
        )


def reach(case: Case) -> Iterator[Problem]:
    """What keeps nginx from the app's socket, or the app from its data."""
    files, found = case.planned["files"], case.facts["barrier"]
    if found and found["why"] == "closed":
        yield case.problem(
            found["path"],
            f"nginx may not use the socket of {case.name}: clients get 502 or 503.",
            rights(found, files),
            owned(found),
            here=False,
            explains=("barrier", "health"),
        )
    elif found:
        yield case.problem(
            "barrier",
            f"The socket of {case.name} is missing: clients get 502 or 503.",
            case.commands.site("apps"),
            f"{found['path']}: {found['why']}",
            explains=("health", "upstream", "instance", found["path"]),
        )
    data = case.facts["data"]
    if closed := data["closed"]:
        told = owned(closed) if closed["owner"] else closed["why"]
        cure = rights(closed, files) if closed["owner"] else case.commands.site("apps")
        yield case.problem(
            closed["path"],
            f"{case.name} may not use its data directory: what it stores fails.",
            cure,
            told,
            here=not closed["owner"],
        )
    elif data["out_of_reach"]:
        paths = [one["path"] for one in data["out_of_reach"]]
        yield case.problem(
            "data",
            f"{case.name} may not change some of its data: what it stores fails.",
            f"chown -R {case.name}:{case.name} {shlex.quote(data['path'])}",
            *map(owned, data["out_of_reach"]),
            here=False,
            explains=paths,
        )


def settings(case: Case) -> Iterator[Problem]:
    """A vassal file that somebody edited, or that has not been written since the settings changed."""
    if case.edited:
        yield case.problem(
            "settings",
            f"{case.facts['file']} differs from the inventory.",
            case.commands.site("apps"),
            *difference(case)[1:],
        )


def lacks(case: Case) -> Iterator[Problem]:
    """Something that the app needs is not there, say its own checks."""
    for number, check in enumerate(case.facts["failed_checks"]):
        yield case.problem(
            f"check{number}",
            f"{case.name} lacks what it needs: its check `{check['command']}` fails.",
            f"emperor-run {case.name} {check['command']}",
            check["why"],
            here=False,
            before="see to what it names, a database for example. The cure is the check: it must end well then.",
            explains=("health",),
        )


def certificate(case: Case) -> Iterator[Problem]:
    """A certificate that is missing, or has ended or soon will."""
    said, _colon, cure = case.planned["certificate_problem"].partition(": ")
    if said:
        before = cure.partition(", and run ")[0] if cure.startswith("set ") else ""
        site = case.commands.playbook("site", "--limit", case.commands.host)
        yield case.problem("certificate", f"{said}. Browsers refuse such a site.", site, before=before)


def others(case: Case, health: bool = True) -> Iterator[Problem]:
    """What else the plan would change, and a health check that fails for a reason that nothing above explains."""
    for key in DIFFERS:
        if said := case.planned["said"].get(key):
            yield case.problem(key, f"{case.name} differs from the inventory: {said}.", case.commands.site("apps"))
    if health and case.planned["health"]:
        raised = case.facts["log"]["exception"]
        yield case.problem(
            "health",
            f"Clients of {case.name} {case.planned['health']}.",
            f"systemctl reload {emperor_unit.unit(case.name)}",
            f"the last exception: {raised['line']} ({raised['where']})" if raised else "",
            here=False,
            before=f"`journalctl -t {case.name}` and /var/log/nginx/error.log tell more.",
        )


def diagnose(case: Case, known: Iterable[Problem]) -> list[Problem]:
    """All that is wrong with an app.

    :param known: problems of the host; what follows from them is not named again.
    """
    name, known = case.name, list(known)
    found: list[Problem] = []
    if not case.planned["current"]:
        return [case.problem("instance", f"{name} is not deployed on this host.", case.commands.site("apps"))]
    if case.facts["missing"] or not case.facts["file"]:
        why = case.facts["missing"] or "it has no vassal file"
        return [
            case.problem(
                "instance", f"{name} does not run: clients wait, then get 502 to 504.", case.commands.site("apps"), why
            )
        ]
    for check in (
        down,
        reach,
        release,
        lacks_variable,
        locked,
        busy,
        killed,
        late,
        refused,
        settings,
        certificate,
        lacks,
        others,
    ):
        for problem in check(case):
            if not explained(problem.key, [*known, *found]):
                found.append(problem)
    return found
