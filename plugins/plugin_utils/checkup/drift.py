"""Files of a host that are not as the inventory says."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.flaskops.emperor.plugins.plugin_utils.checkup.problem import HERE, Commands, Problem, explained

LINES = 12  # of a diff that are shown


def shown(before: str, after: str) -> tuple[str, ...]:
    """What is on the host (-) and what the inventory says (+)."""
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm=""))[2:]
    lines = [line[:160] for line in lines if not line.startswith("@@")]
    more = len(lines) - LINES
    return (*lines[:LINES], f"... {more} more lines") if more > 1 else tuple(lines)


def managed(diffs: Mapping[str, Iterable[Mapping[str, Any]]]) -> dict[str, str]:
    """The files that differ, and the tag of site.yml that writes each."""
    return {diff["after_header"]: tag for tag, several in diffs.items() for diff in several}


def problems(
    diffs: Mapping[str, Iterable[Mapping[str, Any]]], commands: Commands, known: Iterable[Problem] = ()
) -> Iterator[Problem]:
    """A problem for each file that differs.

    :param diffs: by the tag of site.yml that writes the files.
    :param known: problems; a file that one of them explains is not named again.
    """
    known = list(known)
    for tag, several in diffs.items():
        for diff in several:
            path, before, after = diff["after_header"], diff["before"], diff["after"]
            if explained(path, known):
                continue
            how = (
                "is missing" if not before else "is not in the inventory" if not after else "differs from the inventory"
            )
            yield Problem(f"{path} {how}.", commands.site(tag), shown(before, after), HERE)
