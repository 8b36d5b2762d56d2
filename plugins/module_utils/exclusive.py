"""One module at a time: whatever changes a host holds a lock while it does.

A killed run leaves its last module running on the host, out of sight of the machine that started it. So the modules of
the next run wait here until that one has ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator

# Not in /run/lock, where anybody may put a file: the kernel then keeps root from opening it (fs.protected_regular).
PATH = "/run/flask_apps.flock"
SECONDS = 300
PAUSE = 0.1  # seconds between two tries


class Busy(Exception):
    """Another module did not end in time; the text says so in a sentence."""


def wait(descriptor: int, path: str, seconds: float) -> None:
    """Lock an open file.

    :raises Busy: when another process still holds it after so many seconds.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                raise Busy(
                    "Another module of a run is still running on this host: wait until it has ended, `lslocks` shows "
                    f"which process holds {path}."
                ) from error
        time.sleep(PAUSE)


@contextlib.contextmanager
def exclusive(path: str | None = None, seconds: float | None = None, mark: bool = True) -> Iterator[None]:
    """Let no other module change the host meanwhile.

    :param path: the file to lock, made when it is not there; `PATH`, which all modules share, when not given.
    :param seconds: how long to wait for another module; `SECONDS` when not given.
    :param mark: whether the file's modification time becomes the moment of the end, see `last_used`.
    :raises Busy: when the other one does not end in time.
    """
    path = path or PATH
    # Close-on-exec: what a module leaves running must not hold the lock.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        wait(descriptor, path, SECONDS if seconds is None else seconds)
        try:
            yield
        finally:
            if mark:
                os.utime(descriptor)
    finally:
        os.close(descriptor)


def last_used(path: str | None = None) -> float:
    """When a module last ended, or the file was made, in seconds since 1970; 0 when it is not there."""
    try:
        return os.stat(path or PATH).st_mtime
    except FileNotFoundError:
        return 0.0
