"""What can be seen of an app's releases without touching anything."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils.links import target
from ansible_collections.flaskops.emperor.plugins.module_utils.releases import persistent, settings_files
from ansible_collections.flaskops.emperor.plugins.module_utils.releases.registry import Releases
from ansible_collections.flaskops.emperor.plugins.module_utils.releases.static_links import wanted_slots


class Glance(Releases):
    """The releases as they are at one moment: each description is read once."""

    def __init__(self, home: str) -> None:
        super().__init__(home)
        self._described: dict[str, dict[str, Any] | None] = {}
        self._trials: dict[str, dict[str, Any]] = {}

    def describe(self, release: str) -> dict[str, Any] | None:
        """See `Releases.describe`."""
        if release not in self._described:
            self._described[release] = super().describe(release)
        return self._described[release]

    def trial(self, release: str) -> dict[str, Any]:
        """See `Releases.trial`."""
        if release not in self._trials:
            self._trials[release] = super().trial(release)
        return self._trials[release]


def static_right(releases: Releases, static: Mapping[str, str], of: str) -> bool:
    """Whether nginx finds the static files of every release, and nothing else.

    :param static: directories of the source by URL prefix.
    :param of: the release that has them.
    """
    root = os.path.join(releases.home, "static")
    for prefix, directory in static.items():
        if target(os.path.join(root, of, prefix.strip("/"))) != releases.path(of, "src", directory):
            return False
    slots = wanted_slots(releases, releases.current(), of)
    if [target(os.path.join(root, str(number))) for number in range(len(slots))] != slots:
        return False
    names = os.listdir(root) if os.path.isdir(root) else []
    return set(names) == {*slots, *map(str, range(len(slots)))}


def observe(
    home: str, wanted: str | None, static: Mapping[str, str], keep: int, data: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Look at the releases of an app.

    :param home: the app's directory.
    :param wanted: ID of the release that is to run; empty when that is not known, None for the one to return to.
    :param static: directories of its source by URL prefix.
    :param keep: how many releases stay.
    :param data: its ``persistent`` directories, its ``files`` and the ``digest`` of these.
    :returns: ``releases`` (complete ones, newest first, each with its ``size`` and what was ``tried``), ``current``,
        ``previous``, ``broken`` (IDs of those whose Python is gone), ``superfluous`` (IDs to remove), and of the static
        files, persistent directories and configuration files whether they are right (``static_right``,
        ``persistent_right``, ``files_right``).
    """
    releases, data = Glance(home), data or {}
    current, previous = releases.current(), releases.previous()
    wanted = previous if wanted is None else wanted
    return {
        "releases": releases.all(),
        "current": current,
        "previous": previous,
        "broken": releases.broken(),
        "superfluous": releases.superfluous(current, keep) if current else releases.incomplete(),
        "static_right": static_right(releases, static, wanted),
        "persistent_right": persistent.right(releases, wanted, data.get("persistent", [])),
        "files_right": settings_files.right(releases, wanted, data.get("files", []), data.get("digest", "")),
    }
