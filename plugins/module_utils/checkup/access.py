"""Who may do what with a path, by the rights of all directories that lead to it."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Collection, Iterator

from ansible_collections.flaskops.emperor.plugins.module_utils.system import name_of

READ, WRITE, PASS = 4, 2, 1
ENTRIES = 2000  # of a data directory that are looked at


def groups_of(user: pwd.struct_passwd) -> set[int]:
    """The groups of a user."""
    return set(os.getgrouplist(user.pw_name, user.pw_gid))


def may(found: os.stat_result, uid: int, gids: Collection[int], rights: int) -> bool:
    """Whether a user has these rights on a file, see path_resolution(7). Access control lists are not looked at."""
    if uid == 0:
        return True
    shift = 6 if found.st_uid == uid else 3 if found.st_gid in gids else 0
    return (found.st_mode >> shift) & rights == rights


def told(path: str, found: os.stat_result) -> dict[str, str]:
    """A path with its owner and mode, for a person."""
    return {
        "path": path,
        "owner": name_of(found.st_uid, pwd.getpwuid),
        "group": name_of(found.st_gid, grp.getgrgid),
        "mode": f"{stat.S_IMODE(found.st_mode):04o}",
    }


def steps(path: str) -> Iterator[str]:
    """The path and all directories above it, from the root on."""
    parts = path.strip("/").split("/")
    for number in range(len(parts) + 1):
        yield "/" + "/".join(parts[:number])


def barrier(path: str, uid: int, gids: Collection[int], rights: int) -> dict[str, str] | None:
    """The first step of a path that keeps a user away; None when none does.

    Links are followed, as the kernel does: each of their targets is a path to pass as well.

    :param rights: needed on the path itself.
    :returns: its ``path``, ``owner``, ``group``, ``mode`` and ``why``.
    """
    for _link in range(10):
        for step in steps(path):
            try:
                found = os.lstat(step)
            except FileNotFoundError:
                return {"path": step, "owner": "", "group": "", "mode": "", "why": "missing"}
            if stat.S_ISLNK(found.st_mode):
                rest = path[len(step) :]
                path = os.path.normpath(os.path.join(os.path.dirname(step), os.readlink(step))) + rest
                break
            last = step == path
            if not may(found, uid, gids, rights if last else PASS):
                return {**told(step, found), "why": "closed"}
        else:
            return None
    return {"path": path, "owner": "", "group": "", "mode": "", "why": "links that lead in a circle"}


def out_of_reach(directory: str, user: pwd.struct_passwd) -> list[dict[str, str]]:
    """What a user may not change below a directory of his own, two levels deep; at most three of them."""
    gids, found, seen = groups_of(user), [], 0
    for folder, folders, files in os.walk(directory):
        if folder.count("/") > directory.count("/"):
            folders.clear()
        for name in [*folders, *files]:
            path, seen = os.path.join(folder, name), seen + 1
            if os.path.islink(path):  # such as to a configuration file, which is root's
                continue
            try:
                status = os.stat(path)
            except OSError:
                continue
            rights = READ | WRITE | (PASS if stat.S_ISDIR(status.st_mode) else 0)
            # What its owner closed to writing was closed on purpose.
            if status.st_uid != user.pw_uid and not may(status, user.pw_uid, gids, rights):
                found.append(told(path, status))
            if len(found) >= 3 or seen >= ENTRIES:
                return found
    return found
