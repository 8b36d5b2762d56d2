"""The data of an app: directories that outlive its releases, and configuration files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import fail, relative

HOME = "~/"
FILE_PATH = re.compile(r"(~/)?[A-Za-z0-9._+@-]+(/[A-Za-z0-9._+@-]+)*\Z")
# What makes a virtualenv one: a link in its place would break it.
OF_VIRTUALENV = ("bin", "include", "lib", "lib64", "pyvenv.cfg", "share")
# Flask's folder for what belongs to one installation of an app: persistent without being named.
INSTANCE = "instance"


def _overlap(one: str, other: str) -> bool:
    """Whether one path is the other, or holds it."""
    return one == other or one.startswith(other + "/") or other.startswith(one + "/")


def _instance(module: str, package: bool, named: bool) -> list[dict[str, Any]]:
    """Where Flask looks for the folder of an app: beside its package, or below the virtualenv it is installed in.

    :param module: in which the app is.
    :param package: whether pip brings the app.
    :param named: whether the user asked for it; if not, what the source has in its place stays.
    """
    top = module.partition(".")[0]
    found: list[dict[str, Any]] = []
    if not package:
        found.append({"at": f"src/{INSTANCE}", "data": INSTANCE, "optional": not named, "beside": ""})
        found.append({"at": f"src/src/{INSTANCE}", "data": INSTANCE, "optional": True, "beside": f"src/src/{top}"})
    for name in dict.fromkeys((top, module)):
        at = f"venv/var/{name}-instance"
        found.append({"at": at, "data": INSTANCE, "optional": True, "beside": ""})
    return found


def persistent(
    values: Iterable[Any], module: str, package: bool, static: Mapping[str, str], where: str
) -> list[dict[str, Any]]:
    """The links of a release into the data of its app.

    :param values: directories, as the user wrote them.
    :param module: in which the app is.
    :param package: whether pip brings the app; the directories are then below the virtualenv.
    :param static: directories of the source which nginx serves, by URL prefix.
    :returns: of each link where it is in the release (``at``), the directory of the data, whether something else may be
        in its place (``optional``), and what must be there for it to have a use (``beside``).
    :raises Refused: with one sentence that names the variable and the cure.
    """
    chosen: list[str] = []
    for number, value in enumerate(values):
        here = f"{where}.persistent[{number}]"
        path = relative(value, here, "virtualenv" if package else "source")
        if "." in path.split("/"):
            fail(here, f"is {path!r}, but must have no '.' between slashes: remove it.")
        other = next((one for one in chosen if _overlap(one, path)), "")
        if other:
            fail(here, f"is {path!r}, which overlaps with {other!r}: name only the one that holds the other.")
        if package and path.split("/")[0] in OF_VIRTUALENV:
            fail(here, f"is {path!r}, which belongs to the virtualenv itself: name a directory of the app's data.")
        for prefix, directory in static.items():
            if not package and _overlap(path, directory):
                cure = "let nginx serve the data by `media`, or name another directory"
                fail(
                    here, f"is {path!r}, but static[{prefix!r}] is {directory!r}, which is part of the release: {cure}."
                )
        chosen.append(path)
    base = "venv" if package else "src"
    links = [
        {"at": f"{base}/{path}", "data": path, "optional": False, "beside": ""} for path in chosen if path != INSTANCE
    ]
    if any(path.startswith(INSTANCE + "/") for path in chosen):  # only a part of it is data
        return links
    return [*_instance(module, package, INSTANCE in chosen), *links]


def files(values: Iterable[Any], links: Sequence[Mapping[str, Any]], package: bool, where: str) -> list[dict[str, str]]:
    """The configuration files of an app.

    :param values: as the user wrote them.
    :param links: what is persistent, see `persistent`.
    :returns: of each its ``content``, its name among all of them (``key``), and where the app looks for it (``at``): in
        the release, or below ``shared``, which holds the app's data.
    :raises Refused: with one sentence that names the variable and the cure.
    """
    result: list[dict[str, str]] = []
    for number, value in enumerate(values):
        here = f"{where}.files[{number}]"
        path = value.get("path") if isinstance(value, Mapping) else None
        if not isinstance(path, str) or not FILE_PATH.match(path) or {".", ".."} & set(path.split("/")):
            sentence = (
                "must be a path inside the app's source, or below its home directory with '~/' before it: without"
            )
            fail(f"{here}.path", f"is {path!r}, but {sentence} '..', made of letters, digits and . _ + @ - /.")
        content = value.get("content")
        if not isinstance(content, str):
            cure = "put it in quotes, or behind a `|`; `to_nice_json` or `to_nice_yaml` make text of data"
            fail(f"{here}.content", f"of {path} is no text: {cure}.")
        if path.startswith(HOME):
            at, key = f"shared/{path[len(HOME) :]}", f"home/{path[len(HOME) :]}"
        elif any(path.startswith(link["data"] + "/") for link in links):
            at, key = f"shared/{path}", f"home/{path}"
        else:
            at, key = f"{'venv' if package else 'src'}/{path}", f"source/{path}"
        other = next((one for one in result if _overlap(one["key"], key)), None)
        if other:
            fail(f"{here}.path", f"is {path!r}, where another file of the list is: give each a place of its own.")
        if any(link["at"] == at or link["data"] == path for link in links):
            fail(f"{here}.path", f"is {path!r}, which is a persistent directory: name a file in it.")
        result.append({"at": at, "key": key, "content": content})
    return result
