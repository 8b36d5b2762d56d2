"""The temporary directories of an app: the Emperor has them for it (made by roles/uwsgi/files/emperor_enclose.py)."""

from __future__ import annotations

import os
import shutil
import subprocess

SHARED = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108


def of_app(name: str) -> list[str]:
    """Where root finds those of an app; none when the Emperor does not run, with which they end."""
    command = ["systemctl", "show", "--property=MainPID", "--value", "emperor.service"]
    pid = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    if not pid.isdigit() or pid == "0":
        return []
    found = [f"/proc/{pid}/root{shared}/{name}" for shared in SHARED]
    return [path for path in found if os.path.isdir(path) and not os.path.islink(path)]


def remove(name: str) -> None:
    """Remove those of an app that does not run any more, with what is in them."""
    for path in of_app(name):
        shutil.rmtree(path, ignore_errors=True)  # follows no link
