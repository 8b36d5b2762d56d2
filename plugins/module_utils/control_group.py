"""The control group of an app, in which the kernel limits its memory (made by roles/uwsgi/files/memory_limit.py)."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

TREE = Path("/sys/fs/cgroup")


def of_app(name: str) -> Path | None:
    """The group of an app; None when it does not run, or where the kernel has none that limit memory."""
    if not TREE.joinpath("cgroup.controllers").exists():
        return None
    command = ["systemctl", "show", "--property=ControlGroup", "--value", "emperor.service"]
    unit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    group = TREE / unit.lstrip("/") / f"app-{name}"
    return group if unit and group.joinpath("memory.max").exists() else None


def killed(group: Path) -> int:
    """How many processes of a group the kernel killed at the limit, since the Emperor started."""
    found = re.search(r"^oom_kill (\d+)$", group.joinpath("memory.events").read_text(), re.MULTILINE)
    return int(found[1]) if found else 0
