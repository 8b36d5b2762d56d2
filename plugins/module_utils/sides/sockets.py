"""Sockets of side processes that serve a path.

Each process has a socket of its own, named by its instance, in the directory of the app's sockets. nginx knows links in
the app's home, which root alone can change and which it follows for each connection: so a switch needs no reload.
"""

from __future__ import annotations

import contextlib
import glob
import os
import socket
import stat
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils.links import link, target

PATIENCE = 1  # seconds for connecting

Job = Mapping[str, Any]


def paths(job: Job, generation: str) -> dict[str, str]:
    """The sockets of a generation, each by the link that leads to it; empty for a process that serves nothing."""
    if not job.get("serve"):
        return {}
    return {
        f"{job['link']}.{number}.sock": f"{job['socket']}.{generation}-{number}.sock"
        for number in range(1, int(job["instances"]) + 1)
    }


def closed(job: Job, unit: str) -> str:
    """Why no client reaches a process through nginx, as a phrase; empty when they do, and for one that serves nothing.

    :param unit: its unit.
    """
    if not job.get("serve"):
        return ""
    path = f"{job['socket']}.{unit.partition('@')[2].removesuffix('.service')}.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(PATIENCE)
        try:
            client.connect(path)
        except OSError as error:
            return f"it does not accept connections on {path} ({error.strerror or error}): $EMPEROR_SOCKET names it"
    if not os.stat(path).st_mode & stat.S_IWGRP:
        return f"its socket {path} is not open to nginx: let it make it writable for its group"
    return ""


def led(job: Job, generation: str) -> bool:
    """Whether the links lead to the sockets of a generation."""
    return all(target(name) == path for name, path in paths(job, generation).items())


def lead(job: Job, generation: str) -> bool:
    """Let new connections go to a generation. Returns whether that changed anything."""
    wrong = {name: path for name, path in paths(job, generation).items() if target(name) != path}
    for name, path in wrong.items():
        link(path, name)
    return bool(wrong)


def links(home: str) -> list[str]:
    """All links of an app."""
    return sorted(glob.glob(f"{glob.escape(home)}/side.*.sock"))


def forget(home: str, run: str, kept: Iterable[tuple[Job, str]]) -> bool:
    """Remove the links and sockets of processes that are no more. Returns whether there were links.

    :param home: directory of the app.
    :param run: directory of its sockets.
    :param kept: the jobs that stay, each with its generation.
    """
    known: dict[str, str] = {}
    for job, generation in kept:
        known |= paths(job, generation)
    old = [name for name in links(home) if name not in known]
    sockets = glob.glob(f"{glob.escape(run)}/side.*.sock")
    for path in [*old, *(one for one in sockets if one not in known.values())]:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    return bool(old)
