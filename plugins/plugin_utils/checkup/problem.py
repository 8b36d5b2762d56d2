"""A problem of a host: what is wrong, how we know, and the command that cures it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

HERE, HOST = "here", "host"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    :ivar what: a sentence, with what clients notice of it.
    :ivar cure: the command, for root.
    :ivar where: where it is run: on the ``host``, or ``here``, where Ansible runs.
    :ivar before: what a person must decide or change first; empty when nothing.
    :ivar key: its own name as a finding; a problem found earlier that explains it stands for it.
    :ivar explains: paths, and findings like ``shop:health`` (``*:health`` for all apps), that are consequences of it.
    """

    what: str
    cure: str
    evidence: tuple[str, ...] = ()
    where: str = HOST
    app: str = ""
    before: str = ""
    key: str = field(default="", compare=False)
    explains: frozenset[str] = field(default=frozenset(), compare=False)

    def lines(self) -> list[str]:
        """For a person."""
        found = [self.what, *(f"   {line}" for line in self.evidence)]
        if self.before:
            found.append(f"   first: {self.before}")
        return [*found, f"   cure{', on the host' if self.where == HOST else ''}: {self.cure}"]

    def data(self) -> dict[str, Any]:
        """For a program."""
        return {key: value for key, value in asdict(self).items() if key not in ("key", "explains")}


def explained(finding: str, problems: Iterable[Problem]) -> bool:
    """Whether one of the problems accounts for a finding."""
    names = {finding, f"*:{finding.rpartition(':')[2]}"}
    return bool(finding) and any(names & problem.explains for problem in problems)


@dataclass(frozen=True)
class Commands:
    """The commands of cures.

    :ivar host: the host's name in the inventory.
    :ivar inventory: the inventories of this run.
    :ivar playbooks: their directory.
    """

    host: str
    inventory: tuple[str, ...]
    playbooks: str

    @property
    def _inventory(self) -> list[str]:
        return [word for one in self.inventory for word in ("-i", one)]

    def playbook(self, name: str, *arguments: str) -> str:
        """A playbook of this collection."""
        return shlex.join(["ansible-playbook", *self._inventory, f"{self.playbooks}/{name}.yml", *arguments])

    def site(self, tag: str) -> str:
        """A part of site.yml on this host."""
        return self.playbook("site", "--limit", self.host, "--tags", tag)

    def deploy(self, app: str) -> str:
        """A deploy of an app, on all hosts."""
        return self.playbook("deploy", "-e", f"app={app}")

    def anew(self, path: str, playbook: str) -> str:
        """Remove a file from the host, then let a playbook make it anew."""
        remove = [
            "ansible",
            *self._inventory,
            self.host,
            "-m",
            "ansible.builtin.file",
            "-a",
            f"path={path} state=absent",
        ]
        return f"{shlex.join(remove)} && {playbook}"

    def rebuild(self, app: str, release: str) -> str:
        """Build a release anew: without its description it counts as unfinished."""
        deploy = self.playbook("deploy", "--limit", self.host, "-e", f"app={app}")
        return self.anew(f"{release}/release.json", deploy)


def rights(found: Mapping[str, str], files: Iterable[Mapping[str, str]]) -> str:
    """The command that gives a path its rights.

    :param files: as the plan wants them.
    """
    path = shlex.quote(found["path"])
    for entry in files:
        if entry["path"] == found["path"]:
            return f"chown {entry['owner']}:{entry['group']} {path} && chmod {entry['mode']} {path}"
    return f"chmod o+x {path}"
