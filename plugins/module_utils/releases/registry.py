"""The releases of one app on a host, as their descriptions tell them."""

from __future__ import annotations

import json
import os
from typing import Any

DESCRIPTION = "release.json"
SIZE = "size.json"  # written by the module `vassal`, which measures it
SOURCE = "source.tar.gz"  # what it was made of, for hosts that lack it when the fleet goes back to it


class Releases:
    """The releases below one app's directory.

    :param home: the app's directory.
    """

    def __init__(self, home: str) -> None:
        self.home = home
        self.root = os.path.join(home, "releases")

    def path(self, release: str, *parts: str) -> str:
        """A path inside a release."""
        return os.path.join(self.root, release, *parts)

    def describe(self, release: str) -> dict[str, Any] | None:
        """What is known of a release; None when it is not there or not complete."""
        try:
            with open(self.path(release, DESCRIPTION), encoding="utf-8") as file:
                description: dict[str, Any] = json.load(file)
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        return description

    def size(self, release: str) -> dict[str, int]:
        """Bytes that a release uses with one worker; empty when that is not known."""
        try:
            with open(self.path(release, SIZE), encoding="utf-8") as file:
                return json.load(file)["size"] or {}
        except (FileNotFoundError, ValueError):
            return {}

    def record(self, release: str, **facts: Any) -> None:
        """Add facts to the description of a release, in one step."""
        path = self.path(release, DESCRIPTION)
        description = {**(self.describe(release) or {}), **facts}
        with open(path + ".new", "w", encoding="utf-8") as file:
            json.dump(description, file, indent=1, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        os.replace(path + ".new", path)

    def all(self) -> list[dict[str, Any]]:
        """The complete releases, newest first."""
        names = os.listdir(self.root) if os.path.isdir(self.root) else []
        found = [{**description, "size": self.size(name)} for name in names if (description := self.describe(name))]
        return sorted(found, key=lambda one: (one["created"], one["id"]), reverse=True)

    def incomplete(self) -> list[str]:
        """What killed runs left."""
        names = os.listdir(self.root) if os.path.isdir(self.root) else []
        return sorted(name for name in names if os.path.isdir(self.path(name)) and not self.describe(name))

    def current(self) -> str:
        """ID of the release that runs, as far as the last complete run knows; empty when there is none."""
        try:
            return os.path.basename(os.readlink(os.path.join(self.home, "current")))
        except OSError:
            return ""

    def previous(self) -> str:
        """The release that was last active before the current one and did not fail; empty when there is none."""
        others = [one for one in self.all() if one["id"] != self.current()]
        good = [one for one in others if one.get("activated") and not one.get("failed")]
        return max(good, key=lambda one: float(one["activated"]))["id"] if good else ""

    def slots(self, current: str, coming: str = "") -> list[str]:
        """Releases in the order in which nginx looks for a static file: from new to old, but those that never ran last.

        :param current: the release that runs, which comes first.
        :param coming: the release about to run, which comes next.
        """
        others = sorted(self.all(), key=lambda one: not one.get("activated"))
        return [name for name in dict.fromkeys([current, coming, *(one["id"] for one in others)]) if name]

    def superfluous(self, current: str, keep: int) -> list[str]:
        """Releases to remove. ``keep`` stay: the current one, the one to return to, those live last."""
        order = [current, self.previous()] if self.current() == current else [current, self.current()]
        # What was only built, as when another host of the fleet failed, is no release to return to.
        by_use = sorted(self.all(), key=lambda one: (bool(one.get("failed")), -float(one.get("activated") or 0)))
        order += [one["id"] for one in by_use]
        kept = [name for name in dict.fromkeys(order) if name][: max(keep, 1)]  # never the one that runs
        return [one["id"] for one in self.all() if one["id"] not in kept] + self.incomplete()
