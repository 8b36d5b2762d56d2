"""Directories of an app's data that its releases find in their own place: links, made once a release."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils import as_user, host
from ansible_collections.flaskops.emperor.plugins.module_utils.links import exchange, target
from ansible_collections.flaskops.emperor.plugins.module_utils.releases.registry import Releases

FILLED = "filled.json"  # names the data directories that were filled once, or had nothing to be filled with
UNFINISHED = ".filling"


class Unfit(Exception):
    """The release has something else in the place of a link; the text is a sentence."""


def data_path(releases: Releases, link: Mapping[str, Any]) -> str:
    """The directory to which a link leads."""
    return os.path.join(releases.home, "shared", link["data"])


def useful(releases: Releases, release: str, link: Mapping[str, Any]) -> bool:
    """Whether a release needs a link: not where it has code in its place, or nothing that would look there."""
    at = releases.path(release, link["at"])
    if link["beside"]:
        beside = releases.path(release, link["beside"])
        if not (os.path.isdir(beside) or os.path.isfile(beside + ".py")):
            return False
    has_code = os.path.isfile(at) or os.path.islink(at) or os.path.exists(os.path.join(at, "__init__.py"))
    return not (link["optional"] and has_code)


def linked(releases: Releases, release: str, link: Mapping[str, Any]) -> bool:
    """Whether a link is as it should be, and leads somewhere."""
    if target(releases.path(release, link["at"])) == data_path(releases, link):
        return os.path.isdir(data_path(releases, link))
    return not useful(releases, release, link)


def right(releases: Releases, release: str, links: Iterable[Mapping[str, Any]]) -> bool:
    """Whether all links of a release are as they should be."""
    return all(linked(releases, release, link) for link in links)


def filled(releases: Releases) -> list[str]:
    """The data directories that no release fills any more."""
    with contextlib.suppress(FileNotFoundError, ValueError), open(os.path.join(releases.home, FILLED)) as file:
        return list(json.load(file))
    return []


def fill(data: str, content: str) -> None:
    """Make a data directory, and copy what the source brings into it. Done as the app's user.

    :param content: a directory of the release; empty when there is nothing to copy.
    """
    os.umask(0o027)
    os.makedirs(data, 0o750, exist_ok=True)
    scratch = os.path.join(data, UNFINISHED)  # here, so that all of it gets the group of the directory
    shutil.rmtree(scratch, ignore_errors=True)  # of a killed run
    if not content:
        return
    for folder, folders, names in os.walk(content):
        below = os.path.normpath(os.path.join(scratch, os.path.relpath(folder, content)))
        os.mkdir(below)  # not with the modes of the release: they would take the group's bit away
        for name in [*names, *(one for one in folders if os.path.islink(os.path.join(folder, one)))]:
            shutil.copyfile(os.path.join(folder, name), os.path.join(below, name), follow_symlinks=False)
    for name in os.listdir(scratch):
        if not os.path.lexists(os.path.join(data, name)):
            os.rename(os.path.join(scratch, name), os.path.join(data, name))
    shutil.rmtree(scratch)


def make_parents(releases: Releases, release: str, path: str, group: int) -> None:
    """Make the directories above a path in a release.

    :raises Unfit: when the path leads out of the release.
    """
    root = os.path.realpath(releases.path(release))
    missing, above = [], os.path.dirname(path)
    while not os.path.lexists(above):
        missing.append(above)
        above = os.path.dirname(above)
    # What pip ran may have left links that lead elsewhere: root changes nothing outside the release.
    if not (os.path.realpath(above) + os.sep).startswith(root + os.sep) or not os.path.isdir(above):
        raise Unfit(f"{os.path.relpath(above, root)} is not a directory of the release: choose another place.")
    for folder in reversed(missing):
        os.mkdir(folder, 0o750)
        os.chown(folder, 0, group)


def keep_times(releases: Releases, release: str, path: str) -> None:
    """Let the directories above a link look as old as the release: a newer one is one that somebody changed by hand."""
    built = (releases.describe(release) or {}).get("created")
    folder, root = os.path.dirname(path), releases.path(release)
    while built and folder.startswith(root + os.sep):
        if os.stat(folder).st_mtime > built:
            os.utime(folder, (built, built))
        folder = os.path.dirname(folder)


def make(releases: Releases, release: str, link: Mapping[str, Any], user: pwd.struct_passwd) -> None:
    """Let a release find the data in its own place.

    :raises Unfit: when the release has something else there.
    """
    at, data = releases.path(release, link["at"]), data_path(releases, link)
    if target(at) != data and (os.path.isfile(at) or os.path.islink(at)):
        what = "link" if os.path.islink(at) else "file"
        raise Unfit(f"persistent: {link['data']} is a {what} in the source: name a directory.")
    make_parents(releases, release, at, user.pw_gid)
    known = filled(releases)
    brings = os.path.isdir(at) and not os.path.islink(at) and link["data"] not in known
    as_user.call(user, lambda: fill(data, at if brings else ""))
    if brings:
        host.write(os.path.join(releases.home, FILLED), json.dumps([*known, link["data"]]), 0, 0)
    if target(at) != data:
        exchange(data, at)
        keep_times(releases, release, at)


def arrange(releases: Releases, release: str, links: Iterable[Mapping[str, Any]], user: pwd.struct_passwd) -> bool:
    """Make the links of a release. Returns whether that changed anything.

    :raises Unfit: when the release has something else in the place of one.
    """
    changed = False
    for link in links:
        if not linked(releases, release, link):
            make(releases, release, link, user)
            changed = True
    return changed
