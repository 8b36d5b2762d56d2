"""What is wrong with an app: its instance, its release, its settings, its rights."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator

from ansible_collections.flaskops.emperor.plugins.plugin_utils.checkup import drift
from ansible_collections.flaskops.emperor.plugins.plugin_utils.checkup.case import WINDOW, Case, clock
from ansible_collections.flaskops.emperor.plugins.plugin_utils.checkup.problem import Problem, explained, rights
from ansible_collections.flaskops.emperor.plugins.plugin_utils.checkup.requests import busy, killed, late, refused

# What the plan compares and no check here explains better, in words.
DIFFERS = ("release", "static", "account", "serving", "upstream", "limit", "socket", "unfinished")


def down(case: Case) -> Iterator[Problem]:
    """An app none of whose workers accepts requests."""
    if not case.emperor or case.facts["workers"]["accept"] > 0:
        return
    name, release, log = case.name, case.release, case.facts["log"]
    raised = log["exception"]
    throttled = case.facts["throttled"]
    loop = f"it was started {len(log['starts'])} times since {clock(case.facts['since'])}" if log["starts"] else ""
    held = "the Emperor waits before it starts it again (throttled)" if throttled else ""
    state = "no process of it runs" if not case.facts["running"] else "none of its workers accepts requests"
    rest = ("health", "upstream", "barrier", "limit")
    what = f"{name} does not run: clients wait, then get 502 to 504."
    if not release["python_runs"]:
        yield case.problem(
            "instance",
            f"{name} cannot start, as the Python of its virtualenv is gone: clients wait, then get 502 to 504.",
            case.rebuild,
            f"{release['python']} leads to {release['python_leads_to']}",
            state,
            loop,
            held,
            explains=(*rest, "python", "changed"),
        )
    elif raised and raised["loading"] and raised["variable"]:
        variable = raised["variable"]
        missing = f"{name} cannot start without the environment variable {variable}: clients wait, then get 502 to 504."
        said = (raised["line"], raised["where"], state, loop, held)
        if case.edited:
            yield case.problem(
                "instance", missing, case.commands.site("apps"), *said, *difference(case), explains=(*rest, "settings")
            )
        else:
            yield case.problem(
                "instance",
                missing,
                case.commands.deploy(name),
                *said,
                explains=rest,
                before=f"add {variable} to the environment of {name} in flask_apps.",
            )
    elif raised and raised["loading"]:
        what = f"{name} cannot start: {raised['line']}. Clients wait, then get 502 to 504."
        changed = [f"changed since the release was built: {path}" for path in release["changed"]]
        said = (raised["where"], *changed, state, loop, held)
        if changed:
            yield case.problem("instance", what, case.rebuild, *said, explains=(*rest, "changed"))
        elif case.edited:
            yield case.problem(
                "instance", what, case.commands.site("apps"), *said, *difference(case), explains=(*rest, "settings")
            )
        elif release["previous"]:
            yield case.problem(
                "instance", what, case.commands.playbook("rollback", "-e", f"app={name}"), *said, explains=rest
            )
        else:
            yield case.problem(
                "instance",
                what,
                case.commands.deploy(name),
                *said,
                explains=rest,
                before=f"correct the code of {name}.",
            )
    elif case.edited:
        yield case.problem(
            "instance",
            what,
            case.commands.site("apps"),
            state,
            loop,
            held,
            *difference(case),
            explains=(*rest, "settings"),
        )
    elif release["changed"]:
        changed = [f"changed since the release was built: {path}" for path in release["changed"]]
        yield case.problem("instance", what, case.rebuild, state, loop, held, *changed, explains=(*rest, "changed"))
    else:
        # uWSGI itself was killed, or is still loading the app: start it again.
        yield case.problem(
            "instance",
            what,
            "systemctl restart emperor.service",
            state,
            loop,
            held,
            here=False,
            explains=rest,
            before=f"`journalctl -t {name}` tells more.",
        )


def difference(case: Case) -> tuple[str, ...]:
    """How the vassal file differs."""
    return (
        f"{case.facts['file']} differs from the inventory:",
        *drift.shown(case.facts["vassal"], case.planned["vassal"]["text"]),
    )


def release(case: Case) -> Iterator[Problem]:
    """A release that was changed, whose Python is gone, or which is not the current one."""
    name, found = case.name, case.release
    if not found["python_runs"] and found["serving"]:
        yield case.problem(
            "python",
            f"The Python of {name}'s virtualenv is gone: it will not start again.",
            case.rebuild,
            f"{found['python']} leads to {found['python_leads_to']}",
        )
    if found["changed"]:
        yield case.problem(
            "changed",
            f"The code of {name} was changed on the host: it is not what was deployed.",
            case.rebuild,
            *(f"changed since the release was built: {path}" for path in found["changed"]),
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
        told = f"{found['path']} is {found['owner']}:{found['group']} {found['mode']}"
        yield case.problem(
            found["path"],
            f"nginx may not use the socket of {case.name}: clients get 502 or 503.",
            rights(found, files),
            told,
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
        told = (
            f"{closed['path']} is {closed['owner']}:{closed['group']} {closed['mode']}"
            if closed["owner"]
            else closed["why"]
        )
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
            *(f"{one['path']} is {one['owner']}:{one['group']} {one['mode']}" for one in data["out_of_reach"]),
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
            *drift.shown(case.facts["vassal"], case.planned["vassal"]["text"]),
        )


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
            "systemctl reload emperor.service",
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
    for check in (down, reach, release, lacks_variable, busy, killed, late, refused, settings, others):
        for problem in check(case):
            if not explained(problem.key, [*known, *found]):
                found.append(problem)
    return found
