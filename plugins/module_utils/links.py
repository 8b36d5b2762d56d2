"""Symbolic links that others follow while they change."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # see renameat2(2)


def target(path: str) -> str:
    """Where a symbolic link leads; empty when there is none."""
    return os.readlink(path) if os.path.islink(path) else ""


def link(wanted: str, path: str) -> bool:
    """Let a symbolic link lead to a target, in one step. Returns whether that changed anything."""
    if target(path) == wanted:
        return False
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path + ".new")  # of a killed run
    os.symlink(wanted, path + ".new")
    os.replace(path + ".new", path)
    return True


def exchange(wanted: str, path: str) -> None:
    """Let a symbolic link take the place of a directory, or of nothing.

    From one moment to the next where the file system can do that, else with a moment between.
    """
    new = path + ".new"
    with contextlib.suppress(FileNotFoundError):  # of a killed run: our link, or the directory that it replaced
        shutil.rmtree(new) if os.path.isdir(new) and not os.path.islink(new) else os.unlink(new)
    os.symlink(wanted, new)
    if os.path.lexists(path):
        places = (AT_FDCWD, os.fsencode(new), AT_FDCWD, os.fsencode(path))
        if ctypes.CDLL(None).renameat2(*places, RENAME_EXCHANGE) == 0:
            shutil.rmtree(new)
            return
        shutil.rmtree(path)
    os.replace(new, path)
