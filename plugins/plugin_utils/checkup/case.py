"""An app to diagnose: what is found of it, what it is to be like, and the commands that cure it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.flaskops.emperor.plugins.plugin_utils.checkup.problem import HERE, Commands, Problem

MIB = 1 << 20


def clock(moment: float) -> str:
    """A moment for a person."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


@dataclass(frozen=True)
class Case:
    """An app to diagnose.

    :ivar facts: what the module `checkup` says of it.
    :ivar planned: what the action plugin `apps_plan` says of it.
    :ivar host: what the module says of the host.
    :ivar emperor: whether the Emperor runs.
    """

    name: str
    facts: Mapping[str, Any]
    planned: Mapping[str, Any]
    host: Mapping[str, Any]
    commands: Commands
    emperor: bool = True

    @property
    def now(self) -> float:
        return float(self.host["now"])

    @property
    def release(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.facts["release"]
        return found

    @property
    def rebuild(self) -> str:
        """The command that builds its release anew."""
        return self.commands.rebuild(self.name, f"{self.planned['home']}/releases/{self.release['serving']}")

    @property
    def edited(self) -> bool:
        """Whether its vassal file is not as the settings say. Not known while `current` names another release."""
        wanted = self.planned["vassal"]
        same = self.release["current"] == self.release["serving"]
        return bool(wanted) and same and self.facts["digest"] != wanted["digest"]

    def problem(
        self,
        key: str,
        what: str,
        cure: str,
        *evidence: str,
        here: bool = True,
        before: str = "",
        explains: Iterable[str] = (),
    ) -> Problem:
        """A problem of this app.

        :param key: names it as a finding, as ``explains`` names others: by paths, or by words of this app.
        """
        names = [one if "/" in one else f"{self.name}:{one}" for one in (key, *explains)]
        return Problem(
            what,
            cure,
            tuple(filter(None, evidence)),
            HERE if here else "host",
            self.name,
            before,
            names[0],
            frozenset(names),
        )
