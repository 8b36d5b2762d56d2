"""Small checks of values that a user wrote; each refusal is one sentence that names the variable and the cure."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NoReturn


class Refused(ValueError):
    """A setting is wrong; the text is one sentence that names the variable and the cure."""


CLOSE = 0.8  # how much alike a wrong name and the one that was meant are, see difflib
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
# Set by the role for every process of an app; a user's value would be lost or break the launch.
OWN_VARIABLES = frozenset((
    "RELEASE_ID", "HOME", "USER", "LOGNAME", "VIRTUAL_ENV", "EMPEROR_SERVING", "EMPEROR_APP", "EMPEROR_FILES",
    "EMPEROR_BACKUP", "EMPEROR_INSTANCE", "EMPEROR_SOCKET",
))  # fmt: skip
RELATIVE_PATH = re.compile(r"[A-Za-z0-9._+@-]+(/[A-Za-z0-9._+@-]+)*\Z")


def fail(where: str, sentence: str) -> NoReturn:
    """Refuse a setting.

    :param where: the variable, as the user wrote it.
    :param sentence: what is wrong with it and how to cure that, with its full stop.
    :raises Refused: always.
    """
    raise Refused(f"{where} {sentence}")


def like(name: str, known: Collection[str], least: float = CLOSE) -> str:
    """The name that was meant by a wrong one; empty when none is like it."""
    return next(iter(difflib.get_close_matches(str(name), list(known), 1, least)), "")


def check_names(values: Iterable[str], known: Collection[str], where: str) -> None:
    """See that options have names that there are."""
    for name in values:
        if name not in known:
            meant = like(name, known)
            cure = f"did you mean {meant}?" if meant else f"choose from {', '.join(known)}."
            fail(where, f"has {name}, which is no option of it: {cure}")


def require(pattern: re.Pattern[str], value: Any, where: str, sentence: str) -> None:
    if not isinstance(value, str) or not pattern.match(value):
        fail(where, f"is {value!r}, but {sentence}.")


def bounded(value: Any, low: int, high: int, where: str, unit: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        fail(where, f"is {value!r}, but must be a whole number of {unit} from {low} to {high}.")
    return int(value)


def given(values: Mapping[str, Any] | None) -> dict[str, Any]:
    """The options a user set; an empty option is as good as none, but 0 is a value to refuse."""
    return {name: value for name, value in (values or {}).items() if value not in (None, "")}


def environment(values: Mapping[str, Any], where: str, own: Collection[str] = OWN_VARIABLES) -> dict[str, str]:
    """Environment variables.

    :param own: those that the role sets itself.
    """
    result = {}
    for name, value in values.items():
        here = f"{where}.{name}"
        if not isinstance(name, str) or not VARIABLE.match(name):
            fail(here, "is no name for an environment variable: use letters, digits and underscores.")
        if name in own or name.startswith("UWSGI_"):
            fail(here, "is set by the role itself: choose another name.")
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            fail(here, f"is a {type(value).__name__}, but must be text or a number: put it in quotes.")
        if "\0" in str(value):
            fail(here, "has a NUL byte, which no environment variable can hold: encode the value (base64).")
        try:
            str(value).encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            fail(here, "has half of a surrogate pair, which is no text: correct the escape that makes it.")
        result[name] = str(value)
    return result


def commands(values: Any, where: str) -> list[str]:
    """A list of commands, each of which can be split into words."""
    values = values or []
    if not isinstance(values, list):
        fail(where, f"is {values!r}, but must be a list of commands.")
    for command in values:
        if not isinstance(command, str) or "\0" in command:
            fail(where, f"has {command!r}, but must be a list of commands, each of them text: put it in quotes.")
        try:
            words = shlex.split(command)
        except ValueError as error:
            fail(where, f"has {command!r}, which cannot be split into words ({error}): correct the quotes.")
        if not words:
            fail(where, "has an empty command: remove it.")
    return list(values)


def relative(value: Any, where: str, inside: str = "source") -> str:
    if not isinstance(value, str) or not RELATIVE_PATH.match(value) or ".." in value.split("/"):
        fail(
            where,
            f"is {value!r}, but must be a path inside the app's {inside}: relative, without '..', "
            "made of letters, digits and . _ + @ - /.",
        )
    return str(value)
