"""Passwords in the addresses of sources: they are in no process list, message or label."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote, urlsplit

ADDRESS = re.compile(r"((?:https?|ftp)://)[^/\s@'\"]+@")
QUERY = re.compile(r"(://[^\s?'\"]+)\?[^\s'\"]+")
# What git runs to learn who asks: of the arguments, which every user of this machine can see, none is secret.
SAY = 'printf "username=%s\\npassword=%s\\n" "$EMPEROR_GIT_USER" "$EMPEROR_GIT_PASSWORD"'
HELPER = f'!f() {{ test "$1" != get || {SAY}; }}; f'


def hidden(text: str) -> str:
    """A text without what is secret in the addresses that are in it: user and password, and what follows a ``?``."""
    return QUERY.sub(r"\1?********", ADDRESS.sub(r"\1********@", text))


def for_git(repo: str) -> tuple[str, dict[str, str]]:
    """The address of a repository without user and password, and variables by which git learns them.

    They hold for the server of the repository alone, and for its submodules there.
    """
    parts = urlsplit(repo)
    given, _at, host = parts.netloc.rpartition("@")
    user, colon, password = given.partition(":")
    if parts.scheme not in ("http", "https") or not colon:
        return repo, {}
    known = {"EMPEROR_GIT_USER": unquote(user), "EMPEROR_GIT_PASSWORD": unquote(password)}
    count = int(os.environ.get("GIT_CONFIG_COUNT") or 0)
    # The first one forgets the user's own helpers, which may know another password, or would keep this one.
    for number, helper in enumerate(("", HELPER), count):
        known[f"GIT_CONFIG_KEY_{number}"] = f"credential.{parts.scheme}://{host}.helper"
        known[f"GIT_CONFIG_VALUE_{number}"] = helper
    return parts._replace(netloc=host).geturl(), {**known, "GIT_CONFIG_COUNT": str(count + 2)}
