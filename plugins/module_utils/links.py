"""Symbolic links that others follow while they change."""

from __future__ import annotations

import contextlib
import os


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
