"""Disks: free space, free inodes, writable or not, and what fills them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from typing import Any

FILES = 50000  # that are looked at when a disk is short of space
LARGEST = 3


def mount_point(path: str) -> str:
    """The mount point of the file system on which a path is."""
    path = os.path.realpath(path)
    while path != "/" and not os.path.ismount(path):
        path = os.path.dirname(path)
    return path


def short(disk: dict[str, Any]) -> bool:
    """Whether a disk has next to no space left: less than 5 % and less than 100 MiB."""
    return bool(disk["free"] < min(disk["size"] * 0.05, 100 << 20))


def largest(root: str) -> list[dict[str, Any]]:
    """The largest files of the file system below a directory."""
    device, seen, found = os.lstat(root).st_dev, 0, []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not os.path.ismount(os.path.join(folder, name))]
        for name in files:
            path, seen = os.path.join(folder, name), seen + 1
            with contextlib.suppress(OSError):
                status = os.lstat(path)
                if status.st_dev == device:
                    found.append((status.st_blocks * 512, path))
        found = sorted(found, reverse=True)[:LARGEST]
        if seen > FILES:
            break
    return [{"size": size, "path": path} for size, path in found]


def disks(paths: Collection[str], search: Collection[str]) -> list[dict[str, Any]]:
    """The file systems on which these paths are, each once.

    :param search: directories below which to look for what fills one that is short of space.
    :returns: of each its ``mount``, the ``paths`` on it, ``size`` and ``free`` in bytes, ``inodes`` and
        ``inodes_free`` (0 of 0 where there is no limit), ``read_only``, and the ``largest`` files.
    """
    found: dict[str, dict[str, Any]] = {}
    for path in paths:
        if not os.path.exists(path):
            continue
        mount = mount_point(path)
        if mount not in found:
            told = os.statvfs(mount)
            found[mount] = {
                "mount": mount,
                "paths": [],
                "size": told.f_blocks * told.f_frsize,
                "free": told.f_bavail * told.f_frsize,
                "inodes": told.f_files,
                "inodes_free": told.f_favail,
                "read_only": bool(told.f_flag & os.ST_RDONLY),
                "largest": [],
            }
        found[mount]["paths"].append(path)
    for disk in found.values():
        if short(disk):
            below = [path for path in search if os.path.isdir(path) and mount_point(path) == disk["mount"]]
            several = [file for path in below or [disk["mount"]] for file in largest(path)]
            disk["largest"] = sorted(several, key=lambda file: int(file["size"]), reverse=True)[:LARGEST]
    return list(found.values())
