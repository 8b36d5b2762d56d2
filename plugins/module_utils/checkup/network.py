"""Who listens on a port, whether ufw lets clients in, and who waits for a Unix socket.

Straight from /proc and ufw's files: a minimal host has no program for it.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Any

LISTEN, WAITS = "0A", "02"  # states in /proc/net/tcp, and in /proc/net/unix of a connection that is not accepted yet


def sockets(port: int, proc: str = "/proc") -> set[str]:
    """The inodes of the sockets that listen on a TCP port."""
    found = set()
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError), open(f"{proc}/net/{name}", encoding="ascii") as file:
            for line in file:
                words = line.split()
                if len(words) > 9 and words[3] == LISTEN and words[1].endswith(f":{port:04X}"):
                    found.add(words[9])
    return found


def opened(pid: int, inodes: set[str], proc: str = "/proc") -> set[str]:
    """Which of these sockets a process has open."""
    directory = f"{proc}/{pid}/fd"
    links = {readable(f"{directory}/{name}") for name in os.listdir(directory)}
    return {inode for inode in inodes if f"socket:[{inode}]" in links}


def holders(inodes: set[str], proc: str = "/proc") -> Iterator[int]:
    """The processes that have one of these sockets open."""
    for pid in map(int, filter(str.isdigit, os.listdir(proc))):
        with contextlib.suppress(OSError):
            if opened(pid, inodes, proc):
                yield pid


def readable(link: str) -> str:
    """Where a link of /proc leads; empty when it is gone or not for us."""
    try:
        return os.readlink(link)
    except OSError:
        return ""


def unit_of(pid: int, proc: str = "/proc") -> str:
    """The unit of systemd to which a process belongs; empty when there is none."""
    with contextlib.suppress(OSError), open(f"{proc}/{pid}/cgroup", encoding="utf-8") as file:
        if found := re.search(r"/([^/\n]+\.(?:service|scope|socket))(?:/|$)", file.read(), re.MULTILINE):
            return found[1]
    return ""


def listeners(port: int, proc: str = "/proc") -> list[dict[str, Any]]:
    """Who listens on a TCP port: ``pid``, ``program`` and ``unit`` of each process."""
    inodes = sockets(port, proc)
    found = []
    for pid in sorted(holders(inodes, proc)) if inodes else ():
        program = ""
        with contextlib.suppress(OSError), open(f"{proc}/{pid}/comm", encoding="utf-8", errors="replace") as file:
            program = file.read().strip()
        found.append({"pid": pid, "program": program, "unit": unit_of(pid, proc)})
    return found


def strangers(port: int, program: str, pid_file: str, proc: str = "/proc") -> list[str]:
    """Who listens on a TCP port that is for another program: the name of each, and its unit.

    :param program: for which it is.
    :param pid_file: of that program: where it has all sockets of the port, the other processes are not looked at.
    """
    inodes = sockets(port, proc)
    with contextlib.suppress(OSError, ValueError), open(pid_file, encoding="ascii") as file:
        if opened(int(file.read()), inodes, proc) == inodes:
            return []
    found = [one for one in listeners(port, proc) if one["program"] != program] if inodes else []
    return sorted({f"{one['program']} ({one['unit'] or 'no unit'})" for one in found})


# A rule as ufw writes it down: what is done (and whether it is logged), the protocol, the port here, the address here,
# the port there, the address there, the direction. See `UFWRule` in common.py of ufw 0.36.
RULE = re.compile(
    r"^### tuple ### (?P<action>[a-z]+)\S* (?P<protocol>\S+) (?P<ports>any|[0-9]+(?:[:,][0-9]+)*) \S+ \S+ "
    r"(?P<there>\S+) (?!out)",
    re.MULTILINE,
)


def meant(ports: str, port: int) -> bool:
    """Whether a rule of ufw is about a port: ``any``, or numbers and ranges like ``80,443,8000:8100``."""
    ranges = [one.partition(":") for one in ports.split(",")]
    return ports == "any" or any(int(first) <= port <= int(last or first) for first, _colon, last in ranges)


def barred(port: int, etc: str = "/etc") -> bool:
    """Whether ufw lets nobody in to a TCP port. The first of its rules that fits counts."""
    found = {}
    for name in ("ufw/ufw.conf", "default/ufw", "ufw/user.rules"):
        with contextlib.suppress(OSError), open(f"{etc}/{name}", encoding="utf-8", errors="replace") as file:
            found[name] = file.read()
    if not re.search(r"^ENABLED=\"?yes", found.get("ufw/ufw.conf", ""), re.MULTILINE):
        return False
    for rule in RULE.finditer(found.get("ufw/user.rules", "")):
        if rule["protocol"] in ("tcp", "any") and meant(rule["ports"], port):
            if rule["action"] in ("allow", "limit"):
                return False
            if rule["action"] in ("deny", "reject") and rule["there"] == "0.0.0.0/0":
                return True
    return not re.search(r"^DEFAULT_INPUT_POLICY=\"?ACCEPT", found.get("default/ufw", ""), re.MULTILINE)


def waiting(path: str, proc: str = "/proc") -> int:
    """How many connections wait to be accepted on a Unix socket."""
    count = 0
    with open(f"{proc}/net/unix", encoding="utf-8", errors="replace") as file:
        for line in file:
            words = line.split(maxsplit=7)
            count += len(words) == 8 and words[5] == WAITS and words[7].rstrip("\n") == path
    return count
