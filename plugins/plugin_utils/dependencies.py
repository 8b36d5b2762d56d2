"""Which file of an app's source says what it requires."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import tomllib
from ansible_collections.flaskops.emperor.plugins.module_utils.releases import kinds
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.building import check_kind
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused


def found(root: str, stays: Callable[[str], bool]) -> str:
    """The first file of a source that says what to install; empty when there is none.

    :param stays: whether a file of this name is left out of the release.
    :raises Refused: for a pyproject.toml that cannot be read, with a sentence that follows "source".
    """
    for name in kinds.ORDER:
        path = os.path.join(root, name)
        if not os.path.isfile(path) or stays(name):
            continue
        if name == "pyproject.toml":
            try:
                with open(path, "rb") as file:
                    project = tomllib.load(file)
            except ValueError as error:
                raise Refused(f"has a pyproject.toml that cannot be read ({error}): correct it.") from error
            if not kinds.requires_anything(project):
                continue
        return name
    return ""


# How files that say what to install name a git repository: those of pip and setuptools, uv, Poetry, Pipenv, PyPA.
GIT = re.compile(r"\bgit\+\w+://|= \{ git = |^type = \"git\"$|\"git\": \"|\bvcs = \{ ?type = \"git\"", re.MULTILINE)


def wants_git(root: str, name: str) -> bool:
    """Whether git is needed to install what a file of a source names."""
    if not name:
        return False
    with open(os.path.join(root, name), encoding="utf-8", errors="replace") as file:
        return bool(GIT.search(file.read()))


def requirements(app: Mapping[str, Any], auto: str) -> str:
    """The file from which the requirements of an app are installed; empty when nothing is.

    :param app: completed by `complete_apps`.
    :param auto: what `found` found in its source.
    :raises Refused: when other settings do not go with it.
    """
    python = app["python"]
    if app["source"]["kind"] == "package" or python["requirements"] == kinds.NOTHING:
        return ""
    if python["requirements"] != kinds.AUTO:
        return str(python["requirements"])
    check_kind(python, auto, f"flask_apps[{app['name']}]")
    return auto


def git(app: Mapping[str, Any], source: Mapping[str, str]) -> str:
    """The Debian package git, if the file from which the requirements of an app are installed needs it; or empty.

    :param source: what `sources.bundle` found.
    """
    return source["git"] if requirements(app, source["requirements"]) == source["requirements"] else ""
