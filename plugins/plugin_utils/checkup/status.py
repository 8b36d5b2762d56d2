"""The table of `status.yml`: what every app does, on every host."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.flaskops.emperor.plugins.plugin_utils.checkup.case import MIB

HEAD = ("host", "app", "release", "live since", "reload", "busy threads", "queue", "oldest request",
        "memory of its share", "restarts", "certificate", "rollback to")  # fmt: skip


def named(release: str, label: str) -> str:
    """A release for a person: its ID, and what it was called; of a commit the beginning."""
    short = label[:12] if len(label) == 40 else label
    return f"{release} ({short})" if short else release or "none"


def restarts(facts: Mapping[str, Any]) -> str:
    """How many workers were started again, and why as far as the journal tells."""
    log = facts["log"]
    why = [f"{len(log[key])} {said}" for key, said in (("killed", "killed"), ("crashed", "crashed"), ("late", "late"))
           if log[key]]  # fmt: skip
    return f"{facts['workers']['replaced']}" + (f" ({', '.join(why)})" if why else "")


def row(app: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """What there is to say of an app on a host, for programs.

    :param app: what the plan says of it.
    :param facts: what the module `checkup` says.
    """
    found = {
        "side_processes": app.get("sides_told", []),
        "reload": app["reload"],
        "share": app["workers"]["share"] * MIB,
        "why": app["workers"]["why"],
    }
    if facts["missing"]:
        return {**found, "running": False, "missing": facts["missing"]}
    release, workers = facts["release"], facts["workers"]
    oldest = workers["requests"][0] if workers["requests"] else None
    return {
        **found,
        "running": workers["accept"] > 0,
        "release": release["serving"],
        "label": release["label"],
        "live_since": release["activated"],
        "workers": workers["accept"],
        "threads": workers["threads"],
        "busy": workers["busy"],
        "queue": facts["waiting"],
        "oldest_request": oldest,
        "memory": facts["memory"],
        "killed": facts["group"]["killed"],
        "restarts": workers["replaced"],
        "restarts_told": restarts(facts),
        "certificate_days": app["certificate_days"],
        "rollback_to": release["previous"],
        "rollback_label": release["previous_label"],
    }


def cells(host: str, name: str, found: Mapping[str, Any], marked: bool) -> tuple[str, ...]:
    """A row of the table."""
    mark = "! " if marked else "  "
    if "release" not in found:
        return (mark + host, name, "not there", *[""] * (len(HEAD) - 3))
    live = time.strftime("%Y-%m-%d %H:%M", time.localtime(found["live_since"])) if found["live_since"] else "never"
    oldest = found["oldest_request"]
    memory = "?" if found["memory"] is None else f"{found['memory'] / MIB:.0f}"
    return (
        mark + host,
        name,
        named(found["release"], found["label"]),
        live,
        found["reload"],
        f"{found['busy']} of {found['threads']} ({found['workers']} workers)" if found["running"] else "DOWN",
        str(found["queue"]),
        f"{oldest['seconds']} s {oldest['method']} {oldest['path']}" if oldest else "",
        f"{memory} of {found['share'] / MIB:.0f} MiB",
        found["restarts_told"],
        "" if found["certificate_days"] is None else f"{found['certificate_days']} days",
        named(found["rollback_to"], found["rollback_label"]),
    )


def table(rows: Mapping[str, Mapping[str, Mapping[str, Any]]], marked: Iterable[tuple[str, str]]) -> list[str]:
    """The table of all hosts.

    :param rows: for every host and app what `row` says.
    :param marked: hosts and apps that have a problem.
    """
    marks = set(marked)
    lines: list[Sequence[str]] = [("  " + HEAD[0], *HEAD[1:])]
    for host in sorted(rows):
        lines += [cells(host, name, found, (host, name) in marks) for name, found in rows[host].items()]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]


def side_processes(rows: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """How the side processes of the apps do."""
    return [
        f"side processes of {name}{f' on {host}' if len(rows) > 1 else ''}: {', '.join(found['side_processes'])}"
        for host in sorted(rows)
        for name, found in rows[host].items()
        if found["side_processes"]
    ]


def reasons(rows: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """Why each app has so many workers; once for hosts that agree."""
    told: dict[str, list[str]] = {}
    for host in sorted(rows):
        for name, found in rows[host].items():
            told.setdefault(f"{name}: {found['why']}", []).append(host)
    several = len(rows) > 1
    return [
        f"{text} ({', '.join(hosts)})" if several and len(hosts) < len(rows) else text for text, hosts in told.items()
    ]
