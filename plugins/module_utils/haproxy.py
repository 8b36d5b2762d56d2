"""Speak to a running HAProxy over its statistics socket."""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils import host

SOCKET = "/run/haproxy/admin.sock"
SECONDS = 10  # for an answer
MOST = 64 * 1024 * 1024  # bytes of it
PAUSE = 0.2  # seconds between two looks
OUT = ("DRAIN", "MAINT", "DOWN", "NOLB")  # how the status of a server begins that gets no new requests


class Unanswered(Exception):
    """HAProxy does not answer, or refuses a command."""


def ask(command: str, path: str = SOCKET) -> str:
    """The answer to one command.

    :raises Unanswered: when there is none.
    """
    try:
        answer = host.exchange(path, command.encode() + b"\n", SECONDS, MOST)
    except OSError as error:
        raise Unanswered(f"HAProxy does not answer on {path} ({error.strerror or error})") from error
    return answer.decode("utf-8", "replace")


def tell(command: str, path: str = SOCKET) -> None:
    """Give a command that has no answer.

    :raises Unanswered: when it has one: that is a refusal.
    """
    if said := ask(command, path).strip():
        raise Unanswered(f"HAProxy refuses `{command}`: {said}")


def process(path: str = SOCKET) -> int:
    """The process that takes requests now; 0 when there is none."""
    try:
        lines = ask("show info", path).splitlines()
    except Unanswered:
        return 0
    return next((int(line.split(":")[1]) for line in lines if line.startswith("Pid:")), 0)


def servers(path: str = SOCKET) -> list[dict[str, str]]:
    """Every server of every app, as HAProxy's statistics have it.

    :raises Unanswered: when HAProxy does not answer.
    """
    lines = ask("show stat -1 4 -1", path).removeprefix("# ").splitlines()
    return [row for row in csv.DictReader(lines) if row["pxname"].startswith("app_")]


def summary(row: dict[str, str]) -> dict[str, Any]:
    """What there is to know of one server of one app."""
    code = f" {row['check_code']}" if row.get("check_code") else ""
    out, weight = row["status"].startswith(OUT), int(row.get("uweight") or 0)
    return {
        "app": row["pxname"].removeprefix("app_"),
        "server": row["svname"],
        "status": row["status"],
        "out": out,
        "weight": weight,
        "takes": weight > 0 and not out,
        "requests": int(row["scur"] or 0),
        "queue": int(row["qcur"] or 0),
        # Since HAProxy started: all responses, and those that were errors or did not come. None of HTTPS passed on.
        "responses": sum(int(row.get(f"hrsp_{kind}xx") or 0) for kind in range(1, 6)),
        "errors": int(row.get("hrsp_5xx") or 0),
        "check": f"{row.get('check_status', '')}{code} {row.get('last_chk', '')}".strip(),
    }


def states(path: str = SOCKET, apps: Iterable[str] = ()) -> list[dict[str, Any]]:
    """A summary of every server, of these apps only unless there are none."""
    chosen = set(apps)
    return [one for one in map(summary, servers(path)) if not chosen or one["app"] in chosen]


def leaving(backends: Mapping[str, set[str]], path: str = SOCKET) -> list[dict[str, Any]]:
    """The servers that get requests of an app now and will not any more, of apps that others serve meanwhile.

    :param backends: the names of the servers by app, as they will be.
    """
    takes = [one for one in states(path) if one["takes"]]
    going = [one for one in takes if one["server"] not in backends.get(one["app"], {one["server"]})]
    staying = {one["app"] for one in takes if one not in going}
    return [one for one in going if one["app"] in staying]


def idle(servers: Iterable[tuple[str, str]], wait: float, path: str = SOCKET) -> None:
    """Wait until these servers, each an app and a name, have no requests; at most so many seconds."""
    chosen, deadline = set(servers), time.monotonic() + wait
    while time.monotonic() < deadline:
        if not any(one["requests"] for one in states(path) if (one["app"], one["server"]) in chosen):
            break
        time.sleep(PAUSE)


def keep_states(file: str, path: str = SOCKET) -> None:
    """Write down which servers are drained or down, for the process that a reload starts."""
    try:
        text = ask("show servers state", path)
    except Unanswered:  # nothing runs: nothing to keep
        text = ""
    with open(f"{file}.new", "w", encoding="utf-8") as out:
        out.write(text)
    os.replace(f"{file}.new", file)
