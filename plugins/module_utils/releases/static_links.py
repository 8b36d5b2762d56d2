"""The static files of an app's releases, as nginx looks for them: links that change while requests come in."""

from __future__ import annotations

import os
import shutil

from ansible_collections.flaskops.emperor.plugins.module_utils.links import link, target
from ansible_collections.flaskops.emperor.plugins.module_utils.releases.registry import Releases


def arrange(root: str, slots: list[str]) -> bool:
    """Let ``0``, ``1`` and so on link to the given releases, the last to the same as the first.

    In an order in which at every moment each release is found under one of them: the next to change is one whose
    release has another link, or needs none any more. When the rest only change places, the last link, which is one too
    many, holds one of them meanwhile.

    :returns: whether anything changed.
    """
    last = len(slots) - 1
    have = [os.path.join(root, str(number)) for number in range(len(slots))]
    linked = [target(path) for path in have]
    wrong = [number for number, name in enumerate(slots) if linked[number] != name]
    changed = bool(wrong)
    while wrong:
        free = [number for number in wrong if linked[number] not in slots or linked.count(linked[number]) > 1]
        # The last one only when no other is free: it may be holding a release for another one.
        number = max(free, key=lambda number: (number != last, number), default=last)
        name = slots[number] if free else linked[wrong[0]]
        link(name, have[number])
        linked[number] = name
        wrong = [number for number, name in enumerate(slots) if linked[number] != name]
    return changed


def wanted_slots(releases: Releases, current: str, coming: str) -> list[str]:
    """The releases to which ``0``, ``1`` and so on must link: those with static files, and the first once more.

    :param current: the release that runs.
    :param coming: the release about to run; empty when there is none.
    """
    root = os.path.join(releases.home, "static")
    slots = [name for name in releases.slots(current, coming) if os.path.isdir(os.path.join(root, name))]
    return slots + slots[:1]


def publish(releases: Releases, current: str, static: dict[str, str] | None = None, of: str = "") -> bool:
    """Let nginx find the static files of every release.

    ``static/ID/URL-PREFIX`` links to the directory in the release. ``static/0`` links to the current release's,
    ``static/1`` and so on to the others: a page of an old release still finds its assets. The last one links to the
    current release once more, which gives the others room to move.
    """
    root = os.path.join(releases.home, "static")
    changed = False
    for prefix, directory in (static or {}).items():
        path = os.path.join(root, of, prefix.strip("/"))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        changed |= link(releases.path(of, "src", directory), path)
    slots = wanted_slots(releases, current, of)
    changed |= arrange(root, slots)
    for name in os.listdir(root):
        path = os.path.join(root, name)
        if (name.isdigit() and os.path.islink(path) and int(name) >= len(slots)) or name.endswith(".new"):
            os.unlink(path)
            changed = True
        elif not name.isdigit() and name not in slots:
            shutil.rmtree(path)
            changed = True
    return changed
