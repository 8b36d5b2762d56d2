"""The control group of an app, in which the kernel limits its memory (made by roles/uwsgi/files/memory_limit.py)."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

TREE = Path("/sys/fs/cgroup")


def of_app(name: str) -> Path | None:
    """The group of an app; None when it does not run, or where the kernel has none that limit memory."""
    if not TREE.joinpath("cgroup.controllers").exists():
        return None
    command = ["systemctl", "show", "--property=ControlGroup", "--value", "emperor.service"]
    unit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    group = TREE / unit.lstrip("/") / f"app-{name}"
    return group if unit and group.joinpath("memory.max").exists() else None


def killed(group: Path, events: str = "memory.events") -> int:
    """How many processes of a group the kernel killed at the limit, since the Emperor started.

    :param events: the file that tells; control groups of version 1 have another one.
    :raises OSError: when it is not there.
    """
    found = re.search(r"^oom_kill (\d+)$", group.joinpath(events).read_text(), re.MULTILINE)
    return int(found[1]) if found else 0


FILES = (("memory.max", "memory.events"), ("memory.limit_in_bytes", "memory.oom_control"))  # of version 2, of version 1


def limits(name: str) -> dict[str, Any]:
    """The memory limit at which the kernel kills processes of an app: of its own group, or of the Emperor's unit.

    :returns: the ``limit`` in bytes (0 for none), how many processes the kernel ``killed`` there, and whether it is the
        group of the ``unit``, as where the kernel has control groups of version 1.
    """
    command = ["systemctl", "show", "--property=ControlGroup", "--value", "emperor.service"]
    unit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip().lstrip("/")
    groups = ((TREE / unit / f"app-{name}", False), (TREE / unit, True), (TREE / "memory" / unit, True)) if unit else ()
    found = [one for group, whole in groups if (one := _limit(group, whole))]
    return next((one for one in found if one["killed"]), found[0] if found else {"limit": 0, "killed": 0, "unit": True})


def _limit(group: Path, whole: bool) -> dict[str, Any] | None:
    for limit, events in FILES:
        try:
            told, dead = group.joinpath(limit).read_text().strip(), killed(group, events)
        except OSError:
            continue
        if told.isdigit() and int(told) < 1 << 60:  # version 1 says "none" by a huge number
            return {"limit": int(told), "killed": dead, "unit": whole}
    return None
