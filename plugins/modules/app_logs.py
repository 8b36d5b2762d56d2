#!/usr/bin/python
"""Ansible module: what the apps of a host logged since a moment, and which requests they had."""

from __future__ import annotations

import contextlib
import glob
import gzip
import json
import os
import re
import select
import subprocess
import time
from collections import deque
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import IO, Any

from ansible_collections.flaskops.emperor.plugins.module_utils.module import Module
from ansible_collections.flaskops.emperor.plugins.module_utils.sides.store import Sides
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.journal import CHATTER

DOCUMENTATION = r"""
module: app_logs
short_description: Requests and journal of apps since a moment
version_added: 1.0.0
description:
  - Reads the access logs of apps, rotated ones too, and the journal of them and their side processes. Changes nothing.
options:
  apps:
    description: Names of the apps.
    type: list
    elements: str
    required: true
  since:
    description: How far back to look, a number of seconds or one with a unit, like V(30s), V(10m), V(2h) or V(3d).
    type: str
    default: 10m
  lines:
    description: Lines to return at most, of each app's access log and of its journal; the newest are.
    type: int
    default: 5000
  directory:
    description: Directory below which every app has one of its own.
    type: path
    default: /var/log/flask_apps
  position:
    description:
      - The C(position) that an earlier execution returned. Then only what came after it is returned, and O(since) means
        nothing.
    type: dict
    default: {}
  wait:
    description: Seconds to wait for something to return.
    type: int
    default: 0
attributes:
  check_mode:
    description: Only reads.
    support: full
author:
  - flaskops maintainers (@flaskops)
"""

EXAMPLES = r"""
- name: Read the logs of the shop
  flaskops.emperor.app_logs:
    apps: [shop]
    since: 1h
  register: logs

- name: Read what came since, or wait for it
  flaskops.emperor.app_logs:
    apps: [shop]
    position: "{{ logs.position }}"
    wait: 10
"""

RETURN = r"""
entries:
  description: Of each line the time (UTC), the app, C(request) or C(journal), and the text. Oldest first.
  type: list
  elements: list
  returned: success
position:
  description: The end of what was read, for O(position) of the next execution.
  type: dict
  returned: success
"""

Places = dict[str, int]  # the inode of a log file and how much of it was read
STDOUT = 1  # its file descriptor
TICK = 1  # seconds between two looks; nginx writes as often
UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(text: str) -> int | None:
    """How many seconds a time span has; None when it is none."""
    found = re.fullmatch(r"(\d{1,9})([smhd]?)", text)
    return int(found[1]) * UNITS[found[2]] if found else None


def moment(line: str) -> float:
    """When a line of an access log was written; 0 for a line that is broken."""
    with contextlib.suppress(ValueError, KeyError, TypeError, IndexError):
        if line.startswith("{"):
            return float(json.loads(line)["at"])
        # No client can write that before nginx does: its paths have no spaces.
        return float(line.partition(" at=")[2].partition(" ")[0])
    return 0.0


def seek(file: IO[bytes], since: float) -> None:
    """Go to a line shortly before a moment: lines are in the order of time, but for the fraction of a second."""
    low, high = 0, os.fstat(file.fileno()).st_size
    while high - low > 65536:
        middle = (low + high) // 2
        file.seek(middle)
        file.readline()
        at = moment(file.readline().decode("utf-8", "replace"))
        if at and at < since - 1:
            low = middle
        else:
            high = middle
    file.seek(low)
    if low:
        file.readline()


def opened(path: str, since: float) -> IO[bytes]:
    """A log file from that moment on, compressed or not."""
    if path.endswith(".gz"):
        return gzip.open(path)  # type: ignore[return-value]
    file = open(path, "rb")  # noqa: SIM115
    seek(file, since)
    return file


def requests(directory: str, since: float, most: int, places: Places) -> Iterator[tuple[float, str]]:
    """The lines of an access log since a moment, those of rotated files first.

    :param places: gets the ends of the files that may still grow.
    """
    order = sorted(glob.glob(os.path.join(directory, "access.log*")), key=lambda path: os.stat(path).st_mtime)
    found: deque[tuple[float, str]] = deque(maxlen=most)
    for path in order:
        status = os.stat(path)
        if status.st_mtime < since:
            places[str(status.st_ino)] = status.st_size
            continue
        with opened(path, since) as file:
            for raw in file:
                line = raw.decode("utf-8", "replace").rstrip("\n")
                if (at := moment(line)) >= since:
                    found.append((at, line))
            places[str(status.st_ino)] = file.tell()
    yield from found


def new_requests(directory: str, most: int, places: Places) -> Iterator[tuple[float, str]]:
    """The lines that an access log got since the last look, also in the file that was rotated meanwhile.

    :param places: as the last look left them; they move to the ends.
    """
    found: deque[tuple[float, str]] = deque(maxlen=most)
    for name in ("access.log.1", "access.log"):
        with contextlib.suppress(FileNotFoundError), open(os.path.join(directory, name), "rb") as file:
            status = os.fstat(file.fileno())
            begin = places.get(str(status.st_ino), 0)
            # A new file may have the inode of one that is gone.
            file.seek(begin if begin <= status.st_size else 0)
            for raw in file:
                if not raw.endswith(b"\n"):
                    file.seek(-len(raw), os.SEEK_CUR)
                    break
                line = raw.decode("utf-8", "replace").rstrip("\n")
                found.append((moment(line), line))
            places[str(status.st_ino)] = file.tell()
    yield from found


def journal(choice: str, identifiers: list[str], most: int) -> tuple[list[tuple[float, str, str]], str]:
    """What programs wrote to the journal: moment, identifier and text of each line; and the cursor of the last entry.

    :param choice: the option of journalctl that says from where on.
    """
    command = ["journalctl", "--no-pager", "--quiet", "--output=json", "--output-fields=MESSAGE,SYSLOG_IDENTIFIER",
               f"--lines={most}", choice, *(f"--identifier={one}" for one in identifiers)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    found, cursor = [], ""
    for raw in done.stdout.splitlines():
        entry = json.loads(raw)
        cursor, text = entry["__CURSOR"], entry.get("MESSAGE")
        if isinstance(text, list):  # bytes that are not text
            text = bytes(text).decode("utf-8", "replace")
        at = int(entry["__REALTIME_TIMESTAMP"]) / 1e6
        found += [(at, entry["SYSLOG_IDENTIFIER"], line) for line in (text or "").splitlines()]
    return found, cursor


def end_of_journal() -> str:
    """The cursor of the newest entry; empty without one."""
    command = ["journalctl", "--no-pager", "--quiet", "--lines=0", "--show-cursor"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip().rpartition("-- cursor: ")[2]


def stamp(at: float) -> str:
    """A moment as text that sorts as time does."""
    return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def without_time(line: str) -> str:
    """A readable line without its time, which is told already."""
    if line.startswith("{"):
        return line
    before, _at, after = line.partition(" ")[2].partition(" at=")
    return " ".join(part for part in (before, after.partition(" ")[2]) if part)


class Reader:
    """Reads the logs of apps.

    :ivar position: the end of what was read: ``files`` of each app, and the option of journalctl (``journal``) that
        goes on from there. Empty before the first look.
    """

    def __init__(self, apps: list[str], directory: str, lines: int, position: dict[str, Any]) -> None:
        self._apps, self._directory, self._lines = apps, directory, lines
        self.position = position
        # Under which names the apps and their side processes are in the journal.
        self._names = {app: (app, "") for app in apps}
        for app in apps:
            self._names |= {f"{app}-{job.part}": (app, job.part) for job in Sides(app).jobs()}

    def read(self, since: float) -> list[tuple[float, str, str, str]]:
        """Time, app, kind and text of all lines since a moment; since the position when there is one."""
        first, found = not self.position, []
        if first:
            self.position |= {"files": {app: {} for app in self._apps}, "journal": f"--since=@{since:.0f}"}
        for app in self._apps:
            folder, places = os.path.join(self._directory, app), self.position["files"][app]
            lines = (requests(folder, since, self._lines, places) if first
                     else new_requests(folder, self._lines, places))  # fmt: skip
            found += [(at, app, "request", without_time(line)) for at, line in lines]
        end = end_of_journal() if first else ""
        entries, last = journal(self.position["journal"], list(self._names), self._lines * len(self._names))
        if last or end:
            self.position["journal"] = f"--after-cursor={last or end}"
        for at, identifier, text in entries:
            app, part = self._names[identifier]
            if part:
                found.append((at, app, "journal", f"{part}: {text}"))
            elif not CHATTER.match(text):  # what uWSGI says of itself at every start
                found.append((at, app, "journal", text))
        return sorted(found, key=lambda one: one[0])


def nobody_listens() -> bool:
    """Whether the run that started this one is gone."""
    poll = select.poll()
    poll.register(STDOUT, 0)
    return bool(poll.poll(0))


def main() -> None:
    """Read, sort."""
    module = Module(
        argument_spec={
            "apps": {"type": "list", "elements": "str", "required": True},
            "since": {"type": "str", "default": "10m"},
            "lines": {"type": "int", "default": 5000},
            "directory": {"type": "path", "default": "/var/log/flask_apps"},
            "position": {"type": "dict", "default": {}},
            "wait": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    params: dict[str, Any] = module.params
    span = seconds(params["since"])
    if span is None:
        module.fail_json(msg=f"since is {params['since']!r}, but must be a time span like 30s, 10m, 2h or 3d.")
    reader = Reader(params["apps"], params["directory"], params["lines"], params["position"])
    end = time.monotonic() + params["wait"]
    entries = reader.read(time.time() - (span or 0))
    while not entries and time.monotonic() < end and not nobody_listens():
        time.sleep(TICK)
        entries = reader.read(0)
    told = [[stamp(one[0]), *one[1:]] for one in entries]
    module.exit_json(changed=False, entries=told, position=reader.position)


if __name__ == "__main__":
    main()
