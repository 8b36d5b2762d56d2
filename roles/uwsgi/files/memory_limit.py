#!/usr/bin/python3 -IS
"""Put a vassal into the control group of its app, whose memory the kernel limits.

The Emperor runs this for every vassal it starts (option `exec-as-emperor`), as root. systemd leaves the part of
the tree below its unit to it (Delegate=):

    emperor.service/emperor    the Emperor itself: a group that has processes cannot divide its memory among others
    emperor.service/app-NAME   all instances of an app

The limit is in the file NAME.limit beside the vassal files, where the module `vassal` writes it. What a process had in
memory before it came to a group is not counted there, so the program that starts vassals waits until it is in it.
Source: https://docs.kernel.org/admin-guide/cgroup-v2.html.
"""

import os
import sys
from pathlib import Path

TREE = Path("/sys/fs/cgroup")


def own(text: str) -> str | None:
    """The control group that a text like /proc/self/cgroup names; None where groups are only those of version 1."""
    return next((line[3:] for line in text.splitlines() if line.startswith("0::")), None)


def divide(unit: Path) -> bool:
    """Make the unit's group one that limits the memory of those below it. Returns whether it can.

    :raises OSError: when the kernel refuses it.
    """
    if "memory" in unit.joinpath("cgroup.subtree_control").read_text().split():
        return True
    if "memory" not in unit.joinpath("cgroup.controllers").read_text().split():
        return False
    emperor = unit / "emperor"
    emperor.mkdir(exist_ok=True)
    for pid in unit.joinpath("cgroup.procs").read_text().split():
        write(emperor / "cgroup.procs", pid)
    write(unit / "cgroup.subtree_control", "+memory")
    return True


def write(file: Path, text: str) -> None:
    """Tell the kernel something: in one write, to a file that it made."""
    descriptor = os.open(file, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def confine(unit: Path, file: Path, vassal: int) -> bool:
    """Put a vassal into the group of its app. Returns whether there is one.

    :param unit: the Emperor's control group.
    :param file: the vassal file, NAME.COLOUR.ini.
    :raises OSError: when the kernel refuses it, or the vassal is gone.
    """
    if not divide(unit):
        return False
    name = file.name.rpartition(".")[0].rpartition(".")[0] or file.stem
    limit = file.with_name(f"{name}.limit")
    group = unit / f"app-{name}"
    group.mkdir(exist_ok=True)
    write(group / "memory.max", limit.read_text() if limit.exists() else "max")
    if group.joinpath("memory.swap.max").exists():
        # Memory of one app that moves to the disk slows the whole host.
        write(group / "memory.swap.max", "0")
    write(group / "cgroup.procs", str(vassal))
    return True


def main() -> None:
    """Do it for the vassal that the environment names, see core/emperor.c of uWSGI."""
    group = own(Path("/proc/self/cgroup").read_text())
    if group is None or not TREE.joinpath("cgroup.controllers").exists():
        return  # version 1: the role says so at every run
    unit = TREE / group.lstrip("/").removesuffix("/emperor")
    file, vassal = Path(os.environ["UWSGI_VASSAL_CONFIG"]), int(os.environ["UWSGI_VASSAL_PID"])
    try:
        if not confine(unit, file, vassal):
            sys.exit(f"The memory of {file.stem} is not limited: systemd leaves no memory of {unit} to the Emperor.")
    except OSError as error:
        sys.exit(f"The memory of {file.stem} is not limited: {error}")


if __name__ == "__main__":
    main()
