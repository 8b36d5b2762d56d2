"""Speak to a running HAProxy over its statistics socket."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils import host

SOCKET = "/run/haproxy/admin.sock"
SECONDS = 10  # for an answer
MOST = 64 * 1024 * 1024  # bytes of it
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
    return {
        "app": row["pxname"].removeprefix("app_"),
        "server": row["svname"],
        "status": row["status"],
        "takes": not row["status"].startswith(OUT),
        "requests": int(row["scur"] or 0),
        "queue": int(row["qcur"] or 0),
        "check": f"{row.get('check_status', '')}{code} {row.get('last_chk', '')}".strip(),
    }


def states(path: str = SOCKET, apps: Iterable[str] = ()) -> list[dict[str, Any]]:
    """A summary of every server, of these apps only unless there are none."""
    chosen = set(apps)
    return [one for one in map(summary, servers(path)) if not chosen or one["app"] in chosen]


def keep_states(file: str, path: str = SOCKET) -> None:
    """Write down which servers are drained or down, for the process that a reload starts."""
    try:
        text = ask("show servers state", path)
    except Unanswered:  # nothing runs: nothing to keep
        text = ""
    with open(f"{file}.new", "w", encoding="utf-8") as out:
        out.write(text)
    os.replace(f"{file}.new", file)
