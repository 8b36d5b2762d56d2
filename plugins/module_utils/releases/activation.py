"""The release that runs becomes the current one."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence

from ansible_collections.flaskops.emperor.plugins.module_utils.links import link
from ansible_collections.flaskops.emperor.plugins.module_utils.releases.registry import Releases
from ansible_collections.flaskops.emperor.plugins.module_utils.releases.static_links import publish


def activate(releases: Releases, release: str, fail_others: Sequence[str] = ()) -> bool:
    """Let `current` and the static files follow a release that runs. Returns whether that changed anything.

    :param fail_others: releases to mark as failed, as a rollback does with the one it leaves.
    """
    changed = link(os.path.join("releases", release), os.path.join(releases.home, "current"))
    description = releases.describe(release) or {}
    if changed or not description.get("activated") or description.get("failed"):
        releases.record(release, activated=time.time(), failed=False)
        changed = True
    for other in fail_others:
        if other != release and releases.describe(other):
            releases.record(other, failed=True)
            changed = True
    return changed


def make_current(releases: Releases, release: str, keep: int, fail_others: Sequence[str]) -> tuple[bool, list[str]]:
    """The same, and remove old releases. Returns whether that changed anything, and the IDs removed.

    :param keep: how many releases stay, this one included.
    """
    changed = activate(releases, release, fail_others)
    removed = releases.superfluous(release, keep)
    for one in removed:
        shutil.rmtree(releases.path(one))
    return publish(releases, release) or changed or bool(removed), removed


def would_change(releases: Releases, release: str, keep: int) -> tuple[bool, list[str]]:
    """Whether `make_current` would change anything, and the IDs it would remove."""
    removed = releases.superfluous(release, keep)
    return bool(removed) or releases.current() != release, removed
