"""The control group of an app, in which the kernel limits its memory: that of the unit of its Emperor."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

TREE = Path("/sys/fs/cgroup")
FILES = (("memory.max", "memory.events"), ("memory.limit_in_bytes", "memory.oom_control"))  # of version 2, of version 1


def unit(name: str) -> str:
    """The unit of the Emperor of an app."""
    return f"emperor-app@{name}.service"


def told(name: str, what: str) -> str:
    """A property of that unit; empty where systemd does not know it."""
    command = ["systemctl", "show", f"--property={what}", "--value", unit(name)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def limit(name: str, limited: str) -> None:
    """Limit the memory of an app, in bytes: now, and whenever it starts. Memory that moves to the disk slows the whole host.

    :raises subprocess.CalledProcessError: when systemd refuses it.
    """
    command = ["systemctl", "set-property", unit(name), f"MemoryMax={limited}", "MemorySwapMax=0"]
    subprocess.run(command, capture_output=True, check=True)


def killed(group: Path, events: str = "memory.events") -> int:
    """How many processes of a group the kernel killed at the limit, since the Emperor started.

    :param events: the file that tells; control groups of version 1 have another one.
    :raises OSError: when it is not there.
    """
    found = re.search(r"^oom_kill (\d+)$", group.joinpath(events).read_text(), re.MULTILINE)
    return int(found[1]) if found else 0


def limits(name: str) -> dict[str, Any]:
    """The memory limit at which the kernel kills processes of an app.

    :returns: the ``limit`` in bytes (0 for none), and how many processes the kernel ``killed`` there.
    """
    group = told(name, "ControlGroup").lstrip("/")
    found = [one for top in (TREE, TREE / "memory") if group and (one := _limit(top / group))]
    return found[0] if found else {"limit": 0, "killed": 0, "unit": False}


def _limit(group: Path) -> dict[str, Any] | None:
    for limited, events in FILES:
        try:
            most, dead = group.joinpath(limited).read_text().strip(), killed(group, events)
        except OSError:
            continue
        if most.isdigit() and int(most) < 1 << 60:  # version 1 says "none" by a huge number
            return {"limit": int(most), "killed": dead, "unit": False}
    return None
