"""The releases of one app on a host, as their descriptions tell them."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
from collections.abc import Iterator
from typing import Any

DESCRIPTION = "release.json"
DETAILS = ("distributions",)  # in it, but long, and for nobody who compares releases
SIZE = "size.json"  # written by the module `vassal`, which measures it
SOURCE = "source.tar.gz"  # what it was made of, for hosts that lack it when the fleet goes back to it
PYTHON = re.compile(r"python3\.[0-9]+")
STARTED = re.compile(rb"(?:^|\0)RELEASE_ID=([0-9a-z._-]+)")


def python_runs(venv: str) -> bool:
    """Whether the Python of a virtualenv is there, and finds what was installed for it.

    A virtualenv has a link to a Python of the host. After an upgrade of the host it may lead nowhere, or to a newer
    Python, which looks for its packages in another directory.
    """
    python = os.path.join(venv, "bin", "python")
    if not os.path.lexists(python):
        return True  # there is none yet
    name = os.path.basename(os.path.realpath(python))
    found = not PYTHON.fullmatch(name) or os.path.isdir(os.path.join(venv, "lib", name))
    return os.access(python, os.X_OK) and found


def at_work(user: str) -> Iterator[str]:
    """Releases from which a process of an app was started, such as a worker that still ends its work.

    :param user: the app's.
    """
    with contextlib.suppress(KeyError):
        uid = pwd.getpwnam(user).pw_uid
        for process in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{process}").st_uid == uid:
                    with open(f"/proc/{process}/environ", "rb") as file:
                        yield from (one.decode() for one in STARTED.findall(file.read()))


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

    def trial(self, release: str) -> dict[str, Any]:
        """What the last trial start of a release found.

        :returns: ``size``: bytes that it uses with one worker, empty when that is not known; ``tried``: names what was
            started, empty when nothing was.
        """
        try:
            with open(self.path(release, SIZE), encoding="utf-8") as file:
                found = json.load(file)
        except (FileNotFoundError, ValueError):
            found = {}
        return {"size": found.get("size") or {}, "tried": found.get("digest", "")}

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
        described = {name: description for name in names if (description := self.describe(name))}
        found = [
            {**{key: value for key, value in one.items() if key not in DETAILS}, **self.trial(name)}
            for name, one in described.items()
        ]
        return sorted(found, key=lambda one: (one["created"], one["id"]), reverse=True)

    def incomplete(self) -> list[str]:
        """What killed runs left."""
        names = os.listdir(self.root) if os.path.isdir(self.root) else []
        return sorted(name for name in names if os.path.isdir(self.path(name)) and not self.describe(name))

    def starts(self, release: str) -> bool:
        """Whether a release has a Python with which it can start."""
        return python_runs(self.path(release, "venv"))

    def broken(self) -> list[str]:
        """Complete releases that cannot start any more, because the host has another Python now."""
        return [one["id"] for one in self.all() if not self.starts(one["id"])]

    def current(self) -> str:
        """ID of the release that runs, as far as the last complete run knows; empty when there is none."""
        try:
            return os.path.basename(os.readlink(os.path.join(self.home, "current")))
        except OSError:
            return ""

    def previous(self) -> str:
        """The release that was last active before the current one and did not fail; empty when there is none."""
        current = self.current()
        others = [one for one in self.all() if one["id"] != current and self.starts(one["id"])]
        good = [one for one in others if one.get("activated") and not one.get("failed")]
        return max(good, key=lambda one: float(one["activated"]))["id"] if good else ""

    def slots(self, current: str, coming: str = "") -> list[str]:
        """Releases in the order in which nginx looks for a static file.

        :param current: the release that runs, which comes first.
        :param coming: the release about to run, which comes next.
        """
        return [name for name in dict.fromkeys([current, coming, *self.by_use()]) if name]

    def by_use(self) -> list[str]:
        """The complete releases, the one live last first: a rollback goes to the first other one that works.

        What was only built, as when another host of the fleet failed, comes behind them, and what failed comes last.
        """
        found = sorted(self.all(), key=lambda one: (bool(one.get("failed")), -float(one.get("activated") or 0)))
        return [one["id"] for one in found]

    def superfluous(self, current: str, keep: int) -> list[str]:
        """Releases to remove. ``keep`` stay: the current one, the one to return to, those live last.

        Besides, those from which a process still runs, as a worker that ends its work does.
        """
        order = [current, self.previous()] if self.current() == current else [current, self.current()]
        order += self.by_use()
        kept = [name for name in dict.fromkeys(order) if name][: max(keep, 1)]  # never the one that runs
        old = [one["id"] for one in self.all() if one["id"] not in kept]
        busy = set(at_work(os.path.basename(self.home))) if old else set()
        return [release for release in old if release not in busy] + self.incomplete()
