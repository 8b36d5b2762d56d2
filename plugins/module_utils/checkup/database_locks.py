"""SQLite databases of an app that another process has locked."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils.checkup import network

# Where SQLite puts the locks of a writer: in the file itself, at its first GiB, or in the file beside it that it has in
# the mode WAL (https://www.sqlite.org/lockingv3.html, https://www.sqlite.org/walformat.html).
FILE, WAL = range(0x40000000, 0x40000200), range(120, 123)
INDEX = "-shm"


def writers(text: str) -> Iterator[tuple[int, int, int]]:
    """Of each lock that may be a writer's: the process, the inode and the first byte.

    :param text: of `/proc/locks`, for example ``1: POSIX  ADVISORY  WRITE 812 fe:01:5310 1073741826 1073742335``.
    """
    for line in text.splitlines():
        words = line.split()
        if len(words) == 8 and words[1] == "POSIX" and words[3] == "WRITE":
            pid, inode, begin = int(words[4]), int(words[5].rpartition(":")[2]), int(words[6])
            if begin in FILE or begin in WAL:
                yield pid, inode, begin


def files(pid: int, proc: str) -> dict[tuple[int, int], str]:
    """The files that a process has open, by device and inode."""
    found = {}
    with contextlib.suppress(OSError):
        for name in os.listdir(f"{proc}/{pid}/fd"):
            with contextlib.suppress(OSError):
                status = os.stat(f"{proc}/{pid}/fd/{name}")
                found[status.st_dev, status.st_ino] = network.readable(f"{proc}/{pid}/fd/{name}")
    return found


def command(pid: int, proc: str) -> str:
    """What a process was started as."""
    with contextlib.suppress(OSError), open(f"{proc}/{pid}/cmdline", "rb") as file:
        # The program only: arguments may be secrets.
        return os.fsdecode(file.read().partition(b"\0")[0])
    return ""


def held_by_others(pids: Collection[int], proc: str = "/proc") -> list[dict[str, Any]]:
    """The databases that processes have open and that another process has locked.

    :param pids: the processes of the app's instances.
    :returns: of each its ``path``, and ``pid``, ``program`` and ``unit`` of the process that holds the lock.
    """
    with open(f"{proc}/locks", encoding="ascii") as file:
        locks = [lock for lock in writers(file.read()) if lock[0] not in pids]
    inodes = {inode for _pid, inode, _begin in locks}
    ours = {key: path for pid in pids for key, path in files(pid, proc).items() if key[1] in inodes} if locks else {}
    found: dict[str, dict[str, Any]] = {}
    for pid, inode, begin in locks:
        # By what both have open: the device that the kernel prints is not always the one that a file tells.
        for key in files(pid, proc):
            path = ours.get(key, "")
            if key[1] == inode and path and path.endswith(INDEX) == (begin in WAL):
                database = path.removesuffix(INDEX)
                found[database] = {"path": database, "pid": pid, "program": command(pid, proc),
                                   "unit": network.unit_of(pid, proc)}  # fmt: skip
    return list(found.values())
