"""The processes of a host: whose they are, what they use, and how to end them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Collection, Iterator
from typing import NamedTuple

from ansible_collections.flaskops.emperor.plugins.module_utils import host
from ansible_collections.flaskops.emperor.plugins.module_utils.host import Process, alive

__all__ = [
    "Memory",
    "Owned",
    "Process",
    "alive",
    "available_memory",
    "connections",
    "every",
    "find",
    "kill",
    "kill_user",
    "memory",
    "of_file",
    "of_user",
    "wait",
    "with_descendants",
]  # fmt: skip

PAUSE = 0.05  # seconds between two looks


class Owned(NamedTuple):
    """A process, and whose it is."""

    process: Process
    parent: int
    uid: int


def _look(pid: int) -> Owned:
    uid = os.stat(f"/proc/{pid}").st_uid
    found = host.look(pid)
    return Owned(found.process, found.parent, uid)


def every() -> Iterator[Owned]:
    """All processes of the host."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                yield _look(int(name))


def of_user(uid: int) -> list[Process]:
    """The processes of a user."""
    return [found.process for found in every() if found.uid == uid]


def find(pid: int) -> Process | None:
    """The process that has this number now."""
    try:
        return host.look(pid).process
    except OSError:
        return None


def of_file(file: str, uid: int) -> list[Process]:
    """The processes of a user which were started with this file among their arguments, parents before children."""
    found = []
    for one in every():
        with contextlib.suppress(OSError), open(f"/proc/{one.process.pid}/cmdline", "rb") as arguments:
            if one.uid == uid and os.fsencode(file) in arguments.read().split(b"\0"):
                found.append(one)
    family = {one.process.pid for one in found}
    return [one.process for one in sorted(found, key=lambda one: one.parent in family)]


def with_descendants(processes: Collection[Process]) -> list[Process]:
    """Processes and all that they started, and those started in turn."""
    children: dict[int, list[Process]] = {}
    for one in every():
        children.setdefault(one.parent, []).append(one.process)
    family = list(dict.fromkeys(processes))
    for process in family:  # grows while it is gone through
        family.extend(child for child in children.get(process.pid, []) if child not in family)
    return family


def kill(processes: Collection[Process], number: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal to those that still run."""
    for process in processes:
        if alive(process):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)


def kill_user(uid: int) -> None:
    """Kill all processes of a user in one step, so that none of them can start another one meanwhile (see kill(2), -1).

    Only the user may ask for that: of root's processes it would be every one of the host.

    :raises ValueError: for root.
    """
    if uid == 0:
        raise ValueError("this would end the host")
    subprocess.run(["sh", "-c", "kill -9 -1"], user=uid, extra_groups=[], check=False)


def wait(processes: Collection[Process], seconds: float) -> bool:
    """Wait until none of them runs. Returns whether it came to that.

    :param seconds: how long to wait.
    """
    deadline = time.monotonic() + seconds
    while any(alive(process) for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(PAUSE)
    return True


class Memory(NamedTuple):
    """What processes use.

    :ivar total: bytes, pages shared with others counted in proportion (PSS).
    :ivar private: bytes that the last of them shares with no other process.
    :ivar rss: bytes that the last of them has, shared ones included.
    """

    total: int
    private: int
    rss: int


def memory(processes: Collection[Process], uid: int, gid: int) -> Memory:
    """Measure processes of one user.

    Read as that user: the kernel shows it to no other user who may not trace the process, as root in a container.
    Source: https://docs.kernel.org/filesystems/proc.html, smaps_rollup.

    :raises OSError: when the kernel does not tell.
    """
    if not processes:
        raise OSError("there is no process to measure")
    total = private = rss = 0
    for process in sorted(processes, key=lambda one: (one.started, one.pid)):
        shown = subprocess.run(
            ["cat", f"/proc/{process.pid}/smaps_rollup"], user=uid, group=gid, extra_groups=[], capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        sizes = {name: int(size) * 1024 for name, size in re.findall(r"^(\w+): +(\d+) kB", shown.stdout, re.MULTILINE)}
        if "Pss" not in sizes:
            raise OSError(f"smaps_rollup of process {process.pid} cannot be read")
        total += sizes["Pss"]
        private, rss = sizes["Private_Clean"] + sizes["Private_Dirty"], sizes["Rss"]
    return Memory(total, private, rss)


def available_memory() -> int:
    """Bytes a new program could use without swapping (MemAvailable, see proc_meminfo(5))."""
    with open("/proc/meminfo", encoding="ascii") as file:
        found = re.search(r"^MemAvailable: +(\d+) kB", file.read(), re.MULTILINE)
    if not found:
        raise OSError("/proc/meminfo has no MemAvailable")
    return int(found.group(1)) * 1024


def connections(processes: Collection[Process], uid: int, gid: int, prefix: str | tuple[str, ...]) -> int | None:
    """How many connections processes of one user have accepted on Unix sockets and not closed yet.

    The kernel lists an accepted socket under the path of the socket it came in on, in the state 3 (connected).

    :param prefix: what the paths of those sockets begin with.
    :returns: None when the kernel does not tell. Asked as that user, as in `memory`.
    """
    accepted = set()
    with open("/proc/net/unix", encoding="utf-8", errors="replace") as file:
        for line in file:
            words = line.split(maxsplit=7)
            if len(words) == 8 and words[5] == "03" and words[7].startswith(prefix):
                accepted.add(f"socket:[{words[6]}]")
    directories = [f"/proc/{process.pid}/fd" for process in processes if alive(process)]
    if not directories:
        return 0
    found = subprocess.run(
        ["find", *directories, "-lname", "socket:*", "-printf", "%l\\n"], user=uid, group=gid, extra_groups=[],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if found.returncode and any(alive(process) for process in processes):
        return None
    return len(accepted.intersection(found.stdout.split()))
