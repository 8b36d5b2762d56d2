#!/usr/bin/python
"""Ansible module: what the apps of a host logged since a moment, and which requests they had."""

from __future__ import annotations

import contextlib
import glob
import gzip
import json
import os
import re
import time
from collections import deque
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import IO, Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flaskops.emperor.plugins.module_utils.checkup import logs
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
"""

RETURN = r"""
entries:
  description: Of each line the time (UTC), the app, C(request) or C(journal), and the text. Oldest first.
  type: list
  elements: list
  returned: success
identifiers:
  description: Under which names the apps and their side processes are in the journal.
  type: list
  elements: str
  returned: success
"""

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


def requests(directory: str, since: float, most: int) -> Iterator[tuple[float, str]]:
    """The lines of an access log since a moment, those of rotated files first."""
    order = sorted(glob.glob(os.path.join(directory, "access.log*")), key=lambda path: os.stat(path).st_mtime)
    found: deque[tuple[float, str]] = deque(maxlen=most)
    for path in order:
        if os.stat(path).st_mtime < since:
            continue
        with opened(path, since) as file:
            for raw in file:
                line = raw.decode("utf-8", "replace").rstrip("\n")
                if (at := moment(line)) >= since:
                    found.append((at, line))
    yield from found


def stamp(at: float) -> str:
    """A moment as text that sorts as time does."""
    return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def without_time(line: str) -> str:
    """A readable line without its time, which is told already."""
    if line.startswith("{"):
        return line
    before, _at, after = line.partition(" ")[2].partition(" at=")
    return " ".join(part for part in (before, after.partition(" ")[2]) if part)


def main() -> None:
    """Read, sort."""
    module = AnsibleModule(
        argument_spec={
            "apps": {"type": "list", "elements": "str", "required": True},
            "since": {"type": "str", "default": "10m"},
            "lines": {"type": "int", "default": 5000},
            "directory": {"type": "path", "default": "/var/log/flask_apps"},
        },
        supports_check_mode=True,
    )
    params: dict[str, Any] = module.params
    span = seconds(params["since"])
    if span is None:
        module.fail_json(msg=f"since is {params['since']!r}, but must be a time span like 30s, 10m, 2h or 3d.")
    since, entries, identifiers = time.time() - (span or 0), [], []
    for app in params["apps"]:
        lines = [(at, app, "request", without_time(line))
                 for at, line in requests(os.path.join(params["directory"], app), since, params["lines"])]  # fmt: skip
        # Without what uWSGI says of itself at every start.
        lines += [(at, app, "journal", text) for at, text in logs.journal(app, since, params["lines"])
                  if not CHATTER.match(text)]  # fmt: skip
        parts = sorted({job.part for job in Sides(app).jobs()})
        for part in parts:
            found = logs.journal(f"{app}-{part}", since, params["lines"])
            lines += [(at, app, "journal", f"{part}: {text}") for at, text in found]
        identifiers += [app, *(f"{app}-{part}" for part in parts)]
        entries += lines
    entries.sort(key=lambda one: one[0])
    module.exit_json(changed=False, entries=[[stamp(one[0]), *one[1:]] for one in entries], identifiers=identifiers)


if __name__ == "__main__":
    main()
