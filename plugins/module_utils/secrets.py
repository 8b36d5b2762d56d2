"""What a message may show of a process: everything but the values of its environment."""

from __future__ import annotations

from collections.abc import Mapping

# Variables that every app has; their values are no secret and stand in every traceback.
OPEN_VARIABLES = frozenset((
    "PATH", "LANG", "HOME", "USER", "LOGNAME", "VIRTUAL_ENV", "RELEASE_ID", "EMPEROR_APP", "EMPEROR_SERVING",
    "EMPEROR_BACKUP",
))  # fmt: skip


def censor(text: str, environment: Mapping[str, str]) -> str:
    """A text without the values of an environment. Values shorter than five characters tell nothing and stay."""
    values = [value for name, value in environment.items() if name not in OPEN_VARIABLES and len(value) > 4]
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, "********")
    return text
