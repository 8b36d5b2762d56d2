"""Sockets of side processes that serve a path.

Each process makes a socket of its own, named by its instance, in the directory of the app's sockets. From there root
gives it a second name in a directory of its own, where the app cannot put a link in its place: see the program
emperor-side-socket. nginx knows links in the app's home, which lead there; root alone can change them, and nginx
follows them for each connection: so a switch needs no reload.
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
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.slots import held

PATIENCE = 1  # seconds for connecting

Job = Mapping[str, Any]


def doors(run: str) -> str:
    """Where the sockets of an app's side processes have their second names.

    :param run: directory of the app's sockets.
    """
    return f"{held(run)}/sides"


def paths(job: Job, generation: str) -> dict[str, str]:
    """The sockets of a generation, each by the link that leads to it; empty for a process that serves nothing."""
    if not job.get("serve"):
        return {}
    return {
        f"{job['link']}.{number}.sock": f"{job['held']}.{generation}-{number}.sock"
        for number in range(1, int(job["instances"]) + 1)
    }


def closed(job: Job, unit: str) -> str:
    """Why no client reaches a process through nginx, as a phrase; empty when they do, and for one that serves nothing.

    :param unit: its unit.
    """
    if not job.get("serve"):
        return ""
    name = unit.partition("@")[2].removesuffix(".service")
    own, path = (f"{job[one]}.{name}.sock" for one in ("socket", "held"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(PATIENCE)
        try:
            client.connect(path)
        except OSError as error:
            return f"it does not accept connections on {own} ({error.strerror or error}): $EMPEROR_SOCKET names it"
    if not os.stat(path).st_mode & stat.S_IWGRP:
        return f"its socket {own} is not open to nginx: let it make it writable for its group"
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
    names = [os.path.basename(path) for path in known.values()]
    sockets = [path for place in (run, doors(run)) for path in glob.glob(f"{glob.escape(place)}/side.*.sock")]
    for path in [*old, *(one for one in sockets if os.path.basename(one) not in names)]:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    return bool(old)
