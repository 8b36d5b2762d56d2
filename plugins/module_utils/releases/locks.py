"""Lock files of Poetry and Pipenv as lines of a requirements file: what uv cannot read itself."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import tomllib

ALWAYS, NEVER = 'python_version >= "0"', 'python_version < "0"'


class Unusable(ValueError):
    """A lock file that cannot be installed from; the text says why, and what to do."""


def line(requirement: str, markers: str, hashes: Collection[str]) -> str:
    """One requirement with its condition and hashes."""
    condition = f" ; {markers}" if markers else ""
    return requirement + condition + "".join(f" --hash={one}" for one in sorted(set(hashes)))


def poetry(lock: Mapping[str, Any], extras: Collection[str], groups: Collection[str]) -> Iterator[str]:
    """The packages of a poetry.lock that its main group, and these groups and extras need.

    :raises Unusable: for a format that does not tell which packages these are.
    """
    wanted = {"main", *groups}

    def chosen(found: re.Match[str]) -> str:
        return ALWAYS if found[1] in extras else NEVER

    for package in lock.get("package", []):
        if "groups" not in package:
            raise Unusable(
                "poetry.lock does not say which packages are for development only: lock it again with Poetry 2"
            )
        mine = wanted & set(package["groups"])
        if not mine:
            continue
        markers = package.get("markers", "")
        if isinstance(markers, dict):  # by group
            several = [markers.get(group, ALWAYS) for group in sorted(mine)]
            markers = " or ".join(f"({one})" for one in several)
        markers = re.sub(r"""extra == ["']([^"']+)["']""", chosen, markers)
        yield line(_place_of(package), markers, [one["hash"] for one in package.get("files", [])])


def _place_of(package: Mapping[str, Any]) -> str:
    """A package as a requirement: by its version, or by where its source is."""
    source, name = package.get("source", {}), package["name"]
    if source.get("type") == "git":
        folder = f"#subdirectory={source['subdirectory']}" if source.get("subdirectory") else ""
        return f"{name} @ git+{source['url']}@{source['resolved_reference']}{folder}"
    if source.get("type") == "url":
        return f"{name} @ {source['url']}"
    if source.get("type") in ("directory", "file"):
        return f"./{source['url']}"
    return f"{name}=={package['version']}"


def pipenv(lock: Mapping[str, Any], groups: Collection[str]) -> Iterator[str]:
    """The packages of a Pipfile.lock, and those of these categories."""
    for category in ("default", *groups):
        if category not in lock:
            raise Unusable(f"Pipfile.lock has no packages for {category}: correct `python.groups`")
        for name, package in lock[category].items():
            extras = f"[{','.join(package['extras'])}]" if package.get("extras") else ""
            if "git" in package:
                yield line(f"{name}{extras} @ git+{package['git']}@{package['ref']}", package.get("markers", ""), [])
            elif "path" in package:
                yield f"{'-e ' if package.get('editable') else ''}{package['path']}"
            else:
                version = package.get("version", "")
                yield line(f"{name}{extras}{version}", package.get("markers", ""), package.get("hashes", []))


def as_requirements(kind: str, text: str, extras: Collection[str], groups: Collection[str]) -> str:
    """A lock file of Poetry or Pipenv as the text of a requirements file.

    :raises Unusable: when it is none, or cannot be used.
    """
    try:
        if kind == "Pipfile.lock":
            lines = list(pipenv(json.loads(text), groups))
        else:
            lines = list(poetry(tomllib.loads(text), extras, groups))
    except Unusable:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unusable(f"{kind} cannot be read ({error}): lock it again") from error
    return "".join(one + "\n" for one in lines)
