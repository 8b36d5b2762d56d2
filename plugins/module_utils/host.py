"""What modules and the programs on a host share: which process is which, talking to Unix sockets, files in one step.

Only the standard library, and nothing else of the collection: the role uwsgi installs this very file on hosts, as
/usr/local/lib/emperor/emperor_host.py, for the programs there.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

STATISTICS = 4 * 1024 * 1024  # bytes that the statistics of an instance may have
# What of the Emperor's unit makes its sandbox. For a process that is not root's: so nothing of capabilities.
SANDBOX = re.compile(
    r"NoNewPrivileges|Protect\w+|Private\w+|Restrict\w+|LockPersonality|MemoryDenyWriteExecute|SystemCall\w+|ProcSubset"
    r"|(ReadWrite|ReadOnly|Inaccessible|Exec|NoExec)Paths|UMask|LimitNOFILE|BindPaths|BindReadOnlyPaths|TemporaryFileSystem"
    r"|IPAddress(Allow|Deny)"
)
NETWORKS = ("none", "local", "full")  # what an app may reach, each one more than the one before


class Process(NamedTuple):
    """A process that cannot be mistaken for another one which got its number later.

    :ivar pid: its number.
    :ivar started: when it started, in clock ticks since boot (field 22 of /proc/PID/stat, see proc_pid_stat(5)).
    """

    pid: int
    started: int


class Found(NamedTuple):
    """What /proc says of a process."""

    process: Process
    parent: int
    dead: bool


def look(pid: int, proc: str = "/proc") -> Found:
    """The process that has this number now.

    :param proc: where /proc is.
    :raises OSError: when there is none.
    """
    with open(f"{proc}/{int(pid)}/stat", encoding="utf-8", errors="replace") as file:
        # The name stands in parentheses and may hold anything, parentheses too.
        fields = file.read().rpartition(")")[2].split()
    return Found(Process(int(pid), int(fields[19])), int(fields[1]), fields[0] in "ZX")


def alive(process: Process, proc: str = "/proc") -> bool:
    """Whether this very process still runs."""
    try:
        found = look(process.pid, proc)
    except OSError:
        return False
    return found.process == process and not found.dead


def receive(connection: socket.socket, timeout: float, most: int) -> bytes:
    """All that comes until the other side closes.

    The other side is an app, which may say anything, for ever: so both the time and the bytes are bounded.

    :param timeout: seconds for each piece; all of them may take twice as long.
    :param most: bytes.
    :raises TimeoutError: when it takes too long.
    :raises OSError: when there is more, or the connection breaks.
    """
    deadline, answer = time.monotonic() + 2 * timeout, b""
    while piece := connection.recv(65536):
        answer += piece
        if len(answer) > most:
            raise OSError(f"it sends more than {most} bytes")
        if time.monotonic() > deadline:
            raise TimeoutError("timed out")
    return answer


def exchange(path: str, message: bytes, timeout: float, most: int) -> bytes:
    """Send a message to a Unix socket and return the whole answer.

    :param timeout: seconds for the connection and for each piece of the answer.
    :param most: bytes that the answer may have.
    :raises OSError: when nothing listens, or no answer comes in time, or too long a one.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout)
        connection.connect(path)
        if message:
            connection.sendall(message)
        return receive(connection, timeout, most)


def statistics(path: str, timeout: float) -> dict[str, Any]:
    """The statistics of an instance (its ``stats`` socket answers one JSON document per connection).

    :param path: the Unix socket given to the option ``stats``.
    :param timeout: seconds for the connection and for each piece of the answer.
    :raises OSError: when nothing listens, or no answer comes in time, or too long a one.
    :raises ValueError: when the answer is no JSON.
    """
    told = exchange(path, b"", timeout, STATISTICS).decode("utf-8", "replace")
    # Of a directory that is gone uWSGI tells any bytes, which are no JSON.
    document: dict[str, Any] = json.loads(
        re.sub(r'^\t"cwd":".*",\n(?=\t"locks")', "", told, count=1, flags=re.M | re.S)
    )
    return document


def read(path: str) -> str | None:
    """The text of a file, with its line ends as they are, or None where there is none."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            return file.read()
    except FileNotFoundError:
        return None


def write(path: str, content: str, uid: int, gid: int, mode: int = 0o400, modified: float | None = None) -> None:
    """Put a file in its place in one step.

    :param uid: its owner, and ``gid`` its group.
    :param modified: time of its last change, seconds since 1970; now if None.
    :raises FileExistsError: when another process puts something in the way at the same moment.
    """
    new = path + ".new"  # beside it, so that the rename is atomic; not "*.ini"
    remove(new)
    # Exclusively: in a directory of an app's user, a link may wait there for root to write through.
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(content)
        file.flush()
        os.fchown(file.fileno(), uid, gid)
        os.fchmod(file.fileno(), mode)  # whatever the umask is
        if modified:
            os.utime(file.fileno(), (modified, modified))
        os.fsync(file.fileno())
    os.replace(new, path)


def remove(path: str) -> None:
    """Remove a file if it is there, or whatever an app put in its place."""
    with contextlib.suppress(FileNotFoundError):
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)


def sandbox(unit: str) -> list[str]:
    """What the Emperor's unit says of its sandbox, line by line.

    :param unit: the text of its file.
    """
    lines = [line.strip() for line in unit.splitlines()]
    return [line for line in lines if SANDBOX.fullmatch(line.partition("=")[0])]


def slice_of(app: str) -> str:
    """The slice of all that runs of an app: its share of the processors is that of any other app.

    A dash in the name of a slice makes it a part of another one: that of the app a-b would be in that of the app a.
    """
    return "emperor-" + app.replace("-", r"\x2d") + ".slice"


def network(told: str) -> list[str]:
    """What a unit is told of the addresses with which it may have connections, line by line.

    :param told: one of `NETWORKS`, and addresses that may be reached besides, as in ``local 10.0.3.7``.
    """
    kind, *besides = told.split()
    denied = [] if kind == "full" else ["IPAddressDeny=any"]
    allowed = ["localhost", *besides] if kind == "local" else besides
    return [*denied, *(f"IPAddressAllow={one}" for one in allowed)]  # apart: in a list systemd-run refuses "localhost"


def confinement(app: str, told: str) -> list[str]:
    """What a unit of an app is told besides its sandbox: where it belongs, and what it may reach, see `network`."""
    return [f"Slice={slice_of(app)}", *network(told)]


def widest(networks: Iterable[str]) -> str:
    """The network in which all of these have what they need, see `network`."""
    kinds, besides = [], dict[str, None]()
    for told in networks:
        kind, *addresses = told.split()
        kinds.append(kind)
        besides |= dict.fromkeys(addresses)
    return " ".join([max(kinds, key=NETWORKS.index), *besides])
