"""Which file of a source says what an app requires, and of which kind it is."""

from __future__ import annotations

import os
import re
from typing import Any

AUTO, NOTHING = "auto", "none"  # instead of a file: what the source has, or not even that
LOCKS = ("uv.lock", "poetry.lock", "Pipfile.lock", "pylock.toml")
REQUIREMENTS = "requirements.txt"
PROJECTS = ("pyproject.toml", "setup.py")
ORDER = (*LOCKS, REQUIREMENTS, *PROJECTS)  # the first one that is there counts
# Kinds that know parts of a project which are not always installed.
WITH_EXTRAS = ("uv.lock", "poetry.lock", "pylock.toml", *PROJECTS)
WITH_GROUPS = (*LOCKS, "pyproject.toml")


def kind_of(file: str) -> str:
    """The kind of a file: one of `ORDER`; any other name is that of a requirements file."""
    name = os.path.basename(file)
    if re.fullmatch(r"pylock\.[^.]+\.toml", name):
        return "pylock.toml"
    return name if name in ORDER else REQUIREMENTS


def requires_anything(project: dict[str, Any]) -> bool:
    """Whether a pyproject.toml is that of a project, and not only a place for the settings of tools."""
    return bool({"project", "build-system"} & set(project)) or "poetry" in project.get("tool", {})


def installable(project: dict[str, Any]) -> bool:
    """Whether the project itself can be installed, and not only what it depends on.

    Without a build system it is an app that runs from its directory, as uv and Poetry see it, too.
    """
    return (
        "build-system" in project and project.get("tool", {}).get("poetry", {}).get("package-mode", True) is not False
    )
