"""Who may change a host: a file that names the run which holds it."""

from __future__ import annotations

import hashlib
import json
import os
import time
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils import exclusive, host

PATH = "/run/flask_apps.json"
# Seconds. A run that lives seldom leaves a host alone for longer: what takes long (requirements, the start of an app,
# hooks) are modules which mark their end, see `exclusive`, and a host only idles while slower ones catch up.
LAPSE = 15 * 60
RUN: dict[str, Any] = {"controller": str, "system": str, "user": str, "pid": int, "start": int}  # what tells runs apart
FIELDS = {**RUN, "token": str, "since": (int, float)}


def read(path: str) -> dict[str, Any] | None:
    """The holder of the lock: None when there is none, an empty dictionary when the file is not one of ours."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            holder = json.load(file)
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    ours = isinstance(holder, dict) and all(isinstance(holder.get(name), kind) for name, kind in FIELDS.items())
    return holder if ours else {}


def write(path: str, holder: dict[str, Any]) -> None:
    """Put the file in its place in one step, readable for root alone."""
    host.write(path, json.dumps(holder, indent=1, sort_keys=True), os.getuid(), os.getgid(), mode=0o600)


def token(owner: dict[str, Any]) -> str:
    """Names a run in one word, by which its lock is found and given back."""
    return hashlib.sha256(json.dumps({name: owner[name] for name in RUN}).encode()).hexdigest()[:32]


def take(path: str, owner: dict[str, Any], replace: str) -> dict[str, Any] | None:
    """Take the lock, or keep it, unless another run has it. Returns that one, or None.

    :param replace: token of a lock to take from its holder.
    """
    holder = read(path)
    if holder is not None:
        if holder.get("token") == token(owner):
            os.utime(path)
            return None
        idle = time.time() - max(os.stat(path).st_mtime, exclusive.last_used())
        if idle <= LAPSE and not (replace and holder.get("token") == replace):
            return holder
    write(path, {**{name: owner[name] for name in RUN}, "token": token(owner), "since": time.time()})
    return None


class Refused(Exception):
    """The lock cannot be looked at; the text is a sentence."""


def decide(path: str, owner: dict[str, Any] | None, replace: str, wait: float) -> dict[str, Any]:
    """Take the lock, or keep it, while no other module runs.

    :param owner: the run, see `RUN`.
    :param replace: token of a lock to take from its holder.
    :param wait: seconds to wait for another module.
    :returns: ``held``, ``busy`` (why nothing was decided) and, when another run has it, its ``holder``.
    :raises Refused: for a user who is not root, or when the owner is not one.
    """
    if owner is None or not all(isinstance(owner.get(name), kind) for name, kind in RUN.items()):
        raise Refused("owner is missing: call this module as a task, so that its action plugin can fill it in.")
    answer: dict[str, Any] = {"held": False, "busy": ""}
    try:
        with exclusive.exclusive(seconds=wait, mark=False):
            holder = take(path, owner, replace)
            answer["held"] = holder is None
    except exclusive.Busy as reason:
        holder = read(path)
        answer["busy"] = str(reason)
    except PermissionError as error:
        raise Refused(f"Only root may change this host ({error}): set `become: true`.") from error
    if holder is not None:
        answer["holder"] = holder
    return answer
