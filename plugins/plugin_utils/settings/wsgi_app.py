"""Where the WSGI callable of an app is: `module:callable`, or `module:factory()` with plain values as arguments."""

from __future__ import annotations

import ast
import re
from typing import Any

from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import fail

FORM = "must be 'module:callable', or 'module:factory()' for an application factory"
NAMES = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*"
APP = re.compile(rf"{NAMES}:{NAMES}(\((?P<arguments>[^\n\r\0]*)\))?\Z")
LEFT = "whose arguments must be plain values in quotes or numbers, like create_app('production')"


def _plain(arguments: str) -> bool:
    """Whether a call has these arguments, and all of them are values that it takes as they are written."""
    try:
        call = ast.parse(f"factory({arguments})", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            return False
        if any(one.arg is None for one in call.keywords):  # **
            return False
        values = [*call.args, *(one.value for one in call.keywords)]
        for value in values:
            ast.literal_eval(value)
    except (SyntaxError, TypeError, ValueError):
        return False
    return bool(values)


def wsgi_app(value: Any, where: str) -> str:
    """The setting `app`.

    :param value: as the user wrote it.
    :param where: the variable, as the user wrote it.
    :raises Refused: with one sentence that names the variable and the cure.
    """
    found = APP.match(value) if isinstance(value, str) else None
    if not found:
        fail(where, f"is {value!r}, but {FORM}.")
    if found["arguments"] and not _plain(found["arguments"]):
        fail(where, f"is {value!r}, {LEFT}.")
    return str(value)
