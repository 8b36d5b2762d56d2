"""The checks of an app: commands that only read, and fail when something that it needs is missing, say its database."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterable, Mapping

from ansible_collections.flaskops.emperor.plugins.module_utils.secrets import censor

PROGRAM = "/usr/local/sbin/emperor-run"
SECONDS = 20  # that a check may take
LATE = 124  # the exit code of `timeout`


def failed(
    name: str, commands: Iterable[str], environment: Mapping[str, str], program: str = PROGRAM
) -> list[dict[str, str]]:
    """The checks that fail, each with its ``command`` and ``why``.

    :param environment: of the app: its secrets are in no answer.
    """
    found = []
    for command in commands:
        # Inside: what is ended here would go on there.
        words = [program, name, "timeout", str(SECONDS), *shlex.split(command)]
        try:
            done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False,
                                  stdin=subprocess.DEVNULL, timeout=2 * SECONDS)  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            found.append({"command": command, "why": str(error)})
            continue
        if done.returncode:
            lines = (done.stdout + done.stderr).split("\n")
            last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
            late = f"it took more than {SECONDS} s; " if done.returncode == LATE else ""
            found.append({"command": command, "why": f"{late}{censor(last, environment)}"[:300]})
    return found
