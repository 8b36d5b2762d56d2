"""What logs say of faults: the journal of an app and of the Emperor, and nginx's error log."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.journal import discreet

LINES = 3000  # of a journal that are read
TAIL = 512 * 1024  # bytes of nginx's error log that are read
WINDOW = 600  # seconds for which a fault that is over still counts

Entry = tuple[float, str]

DIED = re.compile(r"DAMN ! worker (\d+) \(pid: (\d+)\) died, killed by signal (\d+)")
LATE = "a request takes more than"
STARTED = "*** Starting uWSGI"
NOT_LOADED = re.compile(r"unable to load app|no app loaded|no python application found", re.IGNORECASE)
NGINX = re.compile(r"(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) \[(\w+)\] \d+#\d+: (?:\*\d+ )?(.*)")


def journal(identifier: str, since: float, lines: int = LINES) -> list[Entry]:
    """What a program wrote to the journal since a moment, oldest first."""
    command = ["journalctl", "--no-pager", "--quiet", "--output=short-unix", f"--lines={lines}",
               f"--since=@{since:.0f}", f"--identifier={identifier}"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    return entries(done.stdout)


def entries(text: str) -> list[Entry]:
    """The moments and messages of a journal in the format ``short-unix``."""
    found = []
    for line in text.splitlines():
        if told := re.match(r"(\d+\.\d+) \S+ [^\]:]+(?:\[\d+\])?: ?(.*)", line):
            found.append((float(told[1]), told[2]))
    return found


def last_lines(unit: str, count: int = 6) -> list[str]:
    """The end of a unit's journal."""
    command = ["journalctl", "--no-pager", "--quiet", "--output=cat", f"--lines={count}", f"--unit={unit}"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    return [line for line in done.stdout.splitlines() if line.strip()]


def tracebacks(log: Iterable[Entry]) -> list[dict[str, Any]]:
    """The exceptions in a log: ``at``, the last ``line``, the last place (``where``) and all its ``lines``."""
    found: list[dict[str, Any]] = []
    current: dict[str, Any] | None = None
    for at, text in log:
        if text.startswith("Traceback (most recent call last):"):
            current = {"at": at, "line": "", "where": "", "lines": [text]}
        elif current is not None and text.startswith(" "):
            current["lines"].append(text)
            if place := re.match(r'  File "([^"<]+)", line (\d+)', text):
                current["where"] = f"{place[1]}, line {place[2]}"
        elif current is not None and text.strip():
            current["line"] = text
            current["lines"].append(text)
            found.append(current)
            current = None
    return found


def missing_variable(traceback: Mapping[str, Any]) -> str:
    """The environment variable for whose absence an exception was raised; empty when it was for something else."""
    if name := re.fullmatch(r"KeyError: '([A-Za-z_][A-Za-z0-9_]*)'", traceback["line"]):
        told = "\n".join(traceback["lines"])
        if "environ" in told or "<frozen os>" in told or re.search(r"/os\.py\", line \d+, in __getitem__", told):
            return name[1]
    return ""


def of_app(log: list[Entry], environments: Iterable[Mapping[str, str]]) -> dict[str, Any]:
    """What the journal of an app says.

    :param environments: of the app: their values are in no answer.
    :returns: ``starts`` of instances, workers ``killed`` (by SIGKILL) and ``crashed`` (by other signals), requests that
        came ``late`` (moments); the last ``exception`` with its ``line``, ``where``, ``at``, the ``variable`` that is
        missing, and whether it kept the app from ``loading``; null without one.
    """
    starts = [at for at, text in log if STARTED in text]
    deaths = [(at, int(told[3])) for at, text in log if (told := DIED.search(text))]
    found: dict[str, Any] = {
        "starts": starts,
        "killed": [at for at, number in deaths if number == 9],
        "crashed": [at for at, number in deaths if number not in (9, 15)],
        "late": [at for at, text in log if text.startswith(LATE)],
        "exception": None,
    }
    if raised := tracebacks(log):
        last = raised[-1]
        after = [text for at, text in log if at >= last["at"]]
        found["exception"] = {
            "at": last["at"],
            "line": discreet(last["line"], environments)[:300],
            "where": last["where"],
            "variable": missing_variable(last),
            "loading": any(NOT_LOADED.search(text) for text in after)
            or any("emperor_loader" in x for x in last["lines"]),
        }
    return found


def throttled(log: Iterable[Entry], vassal: str) -> int:
    """How often the Emperor held a vassal back that ended again and again.

    :param log: the Emperor's.
    :param vassal: name of its file.
    """
    return sum("throttl" in text and vassal in text for _at, text in log)


def nginx_errors(path: str, now: float) -> list[dict[str, Any]]:
    """What nginx complained of in the last minutes: ``at``, ``kind``, ``server``, ``request`` (method and path)."""
    try:
        with open(path, "rb") as file:
            file.seek(max(os.fstat(file.fileno()).st_size - TAIL, 0))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [found for line in text.splitlines() if (found := nginx_error(line)) and now - found["at"] < WINDOW]


KINDS = (
    ("too_large", re.compile(r"client intended to send too large body: (\d+) bytes")),
    ("timeout", re.compile(r"upstream timed out \(110: [^)]*\) while reading")),
    ("full", re.compile(r"connect\(\) to unix:\S+ failed \(11: ")),
    ("closed", re.compile(r"connect\(\) to unix:\S+ failed \(13: ")),
)


def nginx_error(line: str) -> dict[str, Any] | None:
    """One line of nginx's error log; None when it is not about a fault that is known."""
    told = NGINX.match(line)
    if not told:
        return None
    for kind, pattern in KINDS:
        if found := pattern.search(told[3]):
            server, request = re.search(r"server: ([^,]+)", told[3]), re.search(r'request: "(\S+) ([^ ?"]+)', told[3])
            return {
                "at": time.mktime(time.strptime(told[1], "%Y/%m/%d %H:%M:%S")),
                "kind": kind,
                "bytes": int(found[1]) if found.groups() else 0,
                "server": server[1] if server else "",
                # Without the query, which may hold personal data and secrets.
                "request": f"{request[1]} {request[2]}" if request else "",
            }
    return None
