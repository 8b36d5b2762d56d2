"""What Debian and systemd say of packages, units and accounts."""

from __future__ import annotations

import glob
import os
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

PROPERTIES = "Id,LoadState,ActiveState,UnitFileState,NeedDaemonReload,StateChangeTimestamp"


def output(command: list[str], *, errors: bool = True) -> str:
    """What a program says; empty on a system that has no such program.

    :param errors: whether its standard error counts, too.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout + done.stderr if errors else done.stdout


def show(names: Collection[str], properties: str = PROPERTIES) -> dict[str, dict[str, str]]:
    """The properties of units by name, see systemctl(1).

    :param names: of units; a pattern stands for all loaded units that it matches.
    :param properties: their names, with commas between them; ``Id`` is one of them.
    """
    if not names:
        return {}
    command = ["systemctl", "show", "--timestamp=us+utc", f"--property={properties}", "--", *names]
    told = output(command, errors=False)
    blocks = [dict(line.split("=", 1) for line in text.splitlines() if "=" in line) for text in told.split("\n\n")]
    return {block["Id"]: block for block in blocks if "Id" in block}


def units(names: Collection[str]) -> dict[str, dict[str, Any]]:
    """Whether each unit is ``there``, ``active`` and ``enabled``, and ``stale``: changed on disk since then.

    And ``since`` when it is in its state, in seconds since 1970.
    """
    found = show(names)
    wanted = [name for name in names if not set(name) & set("*?[")]
    return {
        name: {
            "there": found.get(name, {}).get("LoadState") in ("loaded", "masked"),
            "active": found.get(name, {}).get("ActiveState") in ("active", "reloading"),
            "enabled": found.get(name, {}).get("UnitFileState") == "enabled",
            "stale": found.get(name, {}).get("NeedDaemonReload") == "yes",
            "since": parse_time(found.get(name, {}).get("StateChangeTimestamp", "")),
        }
        for name in [*wanted, *(one for one in found if one not in wanted)]
    }


def name_of(number: int, database: Callable[[int], Sequence[Any]]) -> str:
    """The name of a user or group; its number where there is none.

    :param database: ``pwd.getpwuid`` or ``grp.getgrgid``.
    """
    try:
        return str(database(number)[0])
    except KeyError:
        return str(number)


def has_tool(path: str, package: str) -> bool:
    """Whether a virtualenv has this version of a package, like ``uv==0.9.2``."""
    name, _equals, version = package.partition("==")
    return bool(glob.glob(f"{glob.escape(path)}/lib/python3*/site-packages/{name}-{version}.dist-info"))


def missing(packages: Collection[str]) -> list[str]:
    """Those of these packages that are not installed, see dpkg-query(1)."""
    if not packages:
        return []
    command = ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\\n", "--", *packages]
    told = output(command, errors=False)
    installed = {line.split()[0] for line in told.splitlines() if line.endswith(" installed")}
    return [name for name in packages if name not in installed]


def unknown(packages: Collection[str]) -> list[str]:
    """Those of these packages of which apt never heard. None before it has lists of packages."""
    absent = missing(packages)
    if not absent or not glob.glob("/var/lib/apt/lists/*_Packages*"):
        return []
    told = output(["apt-cache", "policy", "--", *absent], errors=False)
    return [name for name in absent if f"{name}:" not in told.splitlines()]


def calendar_fault(calendar: str) -> str:
    """What systemd has against a calendar, see systemd.time(7); empty when it has nothing."""
    done = subprocess.run(["systemd-analyze", "calendar", "--", calendar], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no reason"])[0]


def parse_time(text: str) -> float:
    """Seconds since 1970 of a systemd timestamp like ``Sun 2026-11-22 11:56:50.123456 UTC``; 0 for none."""
    words = text.split()
    if len(words) < 3:
        return 0.0
    moment = datetime.strptime(f"{words[1]} {words[2]}", "%Y-%m-%d %H:%M:%S.%f")
    return moment.replace(tzinfo=timezone.utc).timestamp()


def walk(patterns: Collection[str]) -> Iterator[str]:
    """Every path the patterns name, and all below those that are directories."""
    for pattern in patterns:
        for path in glob.glob(pattern):
            yield path
            for folder, folders, files in os.walk(path):
                for name in folders + files:
                    yield os.path.join(folder, name)


def changed_after(moment: float, patterns: Collection[str]) -> str:
    """A path that changed after a moment, or an empty text.

    The inode's change time counts, not the modification time: a rename or a restored backup keeps the latter.
    """
    for path in walk(patterns):
        try:
            if os.lstat(path).st_ctime > moment:
                return path
        except FileNotFoundError:  # gone since it was listed: its directory tells
            continue
    return ""


def outdated(unit: Mapping[str, Any], patterns: Collection[str]) -> bool:
    """Whether a unit does not run, or one of its files changed after it last read them.

    :param unit: what `units` says of it.
    """
    return not unit["active"] or bool(changed_after(unit["since"], patterns))


def distribution(path: str = "/etc/os-release") -> tuple[str, str]:
    """Name and version of the system, like ``Debian`` and ``13``, see os-release(5); empty where it is not told."""
    found = {}
    try:
        with open(path, encoding="utf-8") as file:
            found = dict(line.rstrip("\n").split("=", 1) for line in file if "=" in line)
    except FileNotFoundError:
        return "", ""
    return found.get("NAME", "").strip('"').split(" ")[0], found.get("VERSION_ID", "").strip('"')
