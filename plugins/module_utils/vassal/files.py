"""Files that root writes and removes in directories where an app's user may write, too."""

from __future__ import annotations

import contextlib
import os
import shutil


def read(path: str) -> str | None:
    """The text of a file, or None where there is none."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return None


def write(path: str, content: str, uid: int, gid: int, modified: float | None = None) -> None:
    """Put a file in its place in one step, readable for its owner alone.

    :param modified: time of its last change, seconds since 1970; now if None.
    :raises FileExistsError: when another process puts something in the way at the same moment.
    """
    new = path + ".new"  # beside it, so that the rename is atomic; not "*.ini"
    remove(new)
    # Exclusively: in a directory of the app's user, a link may wait there for root to write through.
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
    with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(content)
        file.flush()
        os.fchown(file.fileno(), uid, gid)
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
