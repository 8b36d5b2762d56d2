"""Configuration files of an app: each set of them in a directory of its own, to which one link leads.

The app finds them in its own places by links that never change; the set changes in one step, for all files at once.
They belong to root: the app reads but cannot change them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence

from ansible_collections.flaskops.emperor.plugins.module_utils import as_user, host
from ansible_collections.flaskops.emperor.plugins.module_utils.links import link, target
from ansible_collections.flaskops.emperor.plugins.module_utils.releases.persistent import (
    Unfit,
    keep_times,
    make_parents,
)
from ansible_collections.flaskops.emperor.plugins.module_utils.releases.registry import Releases

CURRENT, BEFORE, NONE = "current", "before", "none"
LEAST_SECRET = 6  # characters


def digest(files: Iterable[tuple[str, bytes]]) -> str:
    """Names a set of files; empty for none.

    :param files: name and content of each.
    """
    whole = hashlib.sha256()
    known = sorted(files)
    for part in (part for name, content in known for part in (name.encode(), content)):
        whole.update(b"%d:" % len(part) + part)
    return whole.hexdigest()[:16] if known else ""


def digest_of(files: Iterable[Mapping[str, str]]) -> str:
    """The same of files as the settings have them."""
    return digest((one["key"], one["content"].encode("utf-8", "surrogateescape")) for one in files)


def root_of(releases: Releases) -> str:
    """Where the sets are."""
    return os.path.join(releases.home, "files")


def found(directory: str) -> str:
    """The name that a set deserves for what is in it."""
    names = [os.path.join(folder, name) for folder, _folders, names in os.walk(directory) for name in names]
    contents = []
    for name in names:
        with open(name, "rb") as file:
            contents.append((os.path.relpath(name, directory), file.read()))
    return digest(contents)


def lines_of(contents: Iterable[str]) -> dict[str, str]:
    """Lines of files, and the values in these, by a name: that of the value if it has one. See `secrets.is_secret`."""
    values: dict[str, str] = {}
    for line in {line for content in contents for line in content.splitlines()}:
        name, _sign, value = (part.strip(" \t'\",;") for part in re.sub("[=:]", "\0", line, count=1).partition("\0"))
        values[f"line {len(values)}"] = line.strip(" \t'\",;")
        values[f"line {len(values)} {name}"] = value
    # Shorter ones are words of any language, and stand in any message.
    return {name: value for name, value in values.items() if len(value) >= LEAST_SECRET}


def secrets(home: str) -> dict[str, str]:
    """The same of all files of an app that are on the host.

    :param home: the directory of the app.
    """
    root = os.path.join(home, "files")
    paths = [os.path.join(folder, name) for folder, _folders, names in os.walk(root) for name in names]
    return lines_of(host.read(path) or "" for path in paths if not os.path.islink(path))


def place(releases: Releases, release: str, at: str) -> str:
    """Where the app looks for a file."""
    return os.path.join(releases.home, at) if at.startswith("shared/") else releases.path(release, at)


def leads(releases: Releases, key: str) -> str:
    """Where the link in that place leads."""
    return os.path.join(root_of(releases), CURRENT, key)


def right(releases: Releases, release: str, places: Sequence[Mapping[str, str]], wanted: str) -> bool:
    """Whether the app finds the wanted set, and nothing of another one is left.

    :param places: ``at`` and ``key`` of each file.
    :param wanted: name of the set.
    """
    root = root_of(releases)
    if not wanted:
        return not os.path.isdir(root)
    if target(os.path.join(root, CURRENT)) != wanted or found(os.path.join(root, wanted)) != wanted:
        return False
    if set(os.listdir(root)) != {CURRENT, wanted}:
        return False
    return all(target(place(releases, release, one["at"])) == leads(releases, one["key"]) for one in places)


def write(releases: Releases, files: Sequence[Mapping[str, str]], user: pwd.struct_passwd) -> str:
    """Make sure that the set is on the host. Returns its name."""
    root, name = root_of(releases), digest_of(files)
    os.makedirs(root, exist_ok=True)
    os.chown(root, 0, user.pw_gid)
    os.chmod(root, 0o750)
    path = os.path.join(root, name)
    if found(path) == name:
        return name
    new = os.path.join(root, "new")
    host.remove(new)  # of a killed run
    os.mkdir(new, 0o700)
    for one in files:
        folder = os.path.dirname(os.path.join(new, one["key"]))
        os.makedirs(folder, exist_ok=True)
        host.write(os.path.join(new, one["key"]), one["content"], 0, user.pw_gid, 0o640)
    for folder, _folders, _names in os.walk(new):
        os.chown(folder, 0, user.pw_gid)
        os.chmod(folder, 0o750)
    host.remove(path)  # edited by hand
    os.rename(new, path)
    return name


def link_as_user(wanted: str, path: str) -> None:
    """Make a link below the app's data. Done as the app's user."""
    os.umask(0o027)
    os.makedirs(os.path.dirname(path), 0o750, exist_ok=True)
    if os.path.isdir(path) and not os.path.islink(path):
        raise Unfit(f"{path} is a directory: choose another path for the file")
    link(wanted, path)


def arrange(releases: Releases, release: str, files: Sequence[Mapping[str, str]], user: pwd.struct_passwd) -> bool:
    """Let the app find its files, all from one moment to the next. Returns whether that changed anything.

    What it found before is kept until `commit`, for `revert`.

    :raises Unfit: when something else is in the place of one.
    :raises as_user.Failed: like that, below the app's data.
    """
    root, name = root_of(releases), digest_of(files)
    if right(releases, release, files, name):
        return False
    if not name and not os.path.isdir(root):
        return False
    name = write(releases, files, user) if name else NONE
    for one in files:
        path, wanted = place(releases, release, one["at"]), leads(releases, one["key"])
        if one["at"].startswith("shared/"):
            as_user.call(user, lambda wanted=wanted, path=path: link_as_user(wanted, path))  # type: ignore[misc]
            continue
        make_parents(releases, release, path, user.pw_gid)
        if os.path.isdir(path) and not os.path.islink(path):
            raise Unfit(f"files: {one['at'].partition('/')[2]} is a directory of the source: choose another path.")
        if link(wanted, path):
            keep_times(releases, release, path)
    now = target(os.path.join(root, CURRENT))
    if now != name:
        if not os.path.islink(os.path.join(root, BEFORE)):  # of a killed run, what served is already known
            link(now or NONE, os.path.join(root, BEFORE))
        link(name, os.path.join(root, CURRENT))
    return True


def revert(releases: Releases) -> bool:
    """Let the app find what it found before. Returns whether that changed anything."""
    root = root_of(releases)
    before = target(os.path.join(root, BEFORE))
    if not before:
        return False
    link(before, os.path.join(root, CURRENT))
    commit(releases)
    return True


def commit(releases: Releases) -> bool:
    """Forget all sets but the one that the app finds. Returns whether that changed anything."""
    root = root_of(releases)
    if not os.path.isdir(root):
        return False
    now = target(os.path.join(root, CURRENT))
    if now in ("", NONE):
        shutil.rmtree(root)
        return True
    others = [name for name in os.listdir(root) if name not in (CURRENT, now)]
    # The note last: it is what a run that is killed here goes by.
    for name in sorted(others, key=lambda name: name == BEFORE):
        with contextlib.suppress(FileNotFoundError):
            host.remove(os.path.join(root, name))
    return bool(others)
