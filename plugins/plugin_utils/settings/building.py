"""How a release is built: the Python of an app, what it requires, its own build, Debian packages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils.releases import kinds
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import (
    OWN_VARIABLES,
    commands,
    environment,
    fail,
    relative,
    require,
)

# See deb-control(5), and pyproject.toml's names of extras and groups.
DEBIAN = re.compile(r"[a-z0-9][a-z0-9+.-]+\Z")
PART = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\Z")
# A build has a home, a cache and a virtualenv of its own.
BUILDS_OWN = OWN_VARIABLES | {"TMPDIR", "UV_CACHE_DIR", "UV_PROJECT_ENVIRONMENT"}
MACHINE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?\Z")
# What has the same meaning in a .netrc for all who read one.
PLAIN = re.compile(r"[!$-&(-\[\]-~]+\Z")
REQUIREMENT = re.compile(r"[A-Za-z0-9][^\n\r\0]*\Z")  # no option, no path
PARTS = {"extras": kinds.WITH_EXTRAS, "groups": kinds.WITH_GROUPS}


def _names(values: Any, pattern: re.Pattern[str], where: str, sentence: str) -> list[str]:
    for value in values or []:
        require(pattern, value, where, sentence)
    return list(values or [])


def python_settings(app: Mapping[str, Any], kind: str, where: str) -> dict[str, Any]:
    """The Python of an app and what is installed for it.

    :param kind: of its source.
    :raises Refused: with one sentence naming the variable and the cure.
    """
    python, here = app.get("python") or {}, f"{where}.python"
    interpreter = python.get("interpreter") or "/usr/bin/python3"
    if not re.match(r"/[A-Za-z0-9._+/-]+\Z", interpreter):
        fail(f"{here}.interpreter", f"is {interpreter!r}, but must be an absolute path like /usr/bin/python3.")
    requirements = python.get("requirements") or kinds.AUTO
    named = requirements not in (kinds.AUTO, kinds.NOTHING)
    parts = {
        name: _names(python.get(name), PART, f"{here}.{name}", "must be a list of names from the project's file")
        for name in PARTS
    }
    if kind == "package":
        if named:
            sentence = "does not go with source.package, which brings its own requirements: remove it."
            fail(f"{here}.requirements", sentence)
        for name in ("require_hashes", *PARTS):
            if python.get(name):
                cure = "write them like 'shop[pdf]==2.1' there" if name == "extras" else "remove it"
                fail(f"{here}.{name}", f"does not go with source.package: {cure}.")
    if python.get("require_hashes") and requirements == kinds.NOTHING:
        fail(f"{here}.require_hashes", "needs a file whose hashes to check: set python.requirements.")
    if named:
        relative(requirements, f"{here}.requirements")
    sentence = "must be a list of Python requirements, like setuptools<81"
    found = {
        "interpreter": interpreter,
        "requirements": requirements,
        "additional": _names(python.get("additional"), REQUIREMENT, f"{here}.additional", sentence),
        "require_hashes": python.get("require_hashes"),  # None: as the file has hashes
        **parts,
    }
    if named:
        check_kind(found, requirements, where)
    return found


def check_kind(python: Mapping[str, Any], file: str, where: str) -> None:
    """See that the file that says what an app requires is of a kind for its other settings.

    :param python: made by `python_settings`.
    :param file: the file; empty when nothing is installed.
    :raises Refused: with one sentence naming the variable and the cure.
    """
    kind = kinds.kind_of(file) if file else ""
    told = f"{file} is installed" if file else "nothing is installed"
    for name, those in PARTS.items():
        if python[name] and kind not in those:
            fail(f"{where}.python.{name}", f"needs {', '.join(those)}, but {told}: remove it, or name such a file.")
    if python["require_hashes"] and (not file or kind in kinds.PROJECTS):
        fail(f"{where}.python.require_hashes", f"needs a file with hashes, but {told}: add one to the source.")


def _credentials(values: Any, where: str) -> list[dict[str, str]]:
    """Who a build is for the hosts from which it downloads. No message shows a password."""
    found: list[dict[str, str]] = []
    for one in values or []:
        host, user, password = (one.get(name) for name in ("host", "user", "password"))
        require(MACHINE, host, f"{where}[].host", "must be a name of a host, like git.example.com, without a port")
        if host in [other["host"] for other in found]:
            fail(f"{where}[{host}]", "is there twice, but a build can have one user for a host: remove one.")
        for name, value in (("user", user), ("password", password)):
            if not isinstance(value, str) or not PLAIN.match(value):
                sentence = "must be text without blanks, quotes, '#' and backslashes: use an access token"
                fail(f"{where}[{host}].{name}", f"{sentence}, and put a number in quotes.")
        found.append({"host": str(host), "user": str(user), "password": str(password)})
    return found


def building(app: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The build of an app, what is secret in it, and the Debian packages that it needs.

    :raises Refused: with one sentence naming the variable and the cure.
    """
    sentence = "must be a list of names of Debian packages"
    packages = {
        name: _names(app.get(name), DEBIAN, f"{where}.{name}", sentence) for name in ("packages", "build_packages")
    }
    return {
        "build": commands(app.get("build"), f"{where}.build"),
        "build_environment": environment(app.get("build_environment") or {}, f"{where}.build_environment", BUILDS_OWN),
        "build_credentials": _credentials(app.get("build_credentials"), f"{where}.build_credentials"),
        **packages,
    }


def debian_packages(app: Mapping[str, Any]) -> list[str]:
    """All Debian packages of an app that `complete_apps` completed."""
    return sorted({*app["packages"], *app["build_packages"]}) if app["state"] == "present" else []


def build_options(app: Mapping[str, Any]) -> dict[str, Any]:
    """What the module `release` is told of an app to build a release of it; some of it is secret.

    :param app: completed by `complete_apps`.
    """
    return {
        "home": app["paths"]["home"],
        "user": app["name"],
        "environment": app["build_environment"],
        "credentials": app["build_credentials"],
        "persistent": app["persistent"],
        "files": app["files"],
    }
