"""A vassal as data: what the wrapper needs to start it, and the options of uWSGI. Text only in its file."""

from __future__ import annotations

import configparser
import contextlib
import hashlib
import itertools
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils import host

# The response header by which an instance tells its generation.
HEADER = "X-Vassal"
# What each worker's watch on its memory and its requests needs; the beginning of such a placeholder's name.
RECYCLING = "emperor-recycle-"

# Options of the real instance that its trial start must not have: sockets, files, helpers and everything recurring.
NOT_IN_TRIAL = re.compile(
    r"[a-z-]*socket|holder|https?|stats[a-z-]*|processes|cheaper[a-z-]*|touch-[a-z-]*|identifier|vacuum"
    r"|max-requests[a-z-]*|[a-z-]*pidfile[0-9]*|master-fifo|log[a-z0-9-]*|spooler[a-z-]*|cron2?|unique-cron|mules?|farm"
    r"|[a-z-]*attach-daemon2?"
)
# Options that follow from the size which the trial start measures, or say how many workers do what its one does.
FROM_SIZE = re.compile(r"processes|cheaper[a-z-]*|max-requests[a-z-]*|(max|min)-worker-lifetime[a-z-]*")

# Why an option is there, for a person who reads the file.
WHY = {
    "cheaper": "A second of work counts, half a minute without work counts.",
    "max-requests": "A worker is replaced after its requests. The deltas keep workers from ending together.",
    "max-worker-lifetime": "A worker is replaced after its requests. The deltas keep workers from ending together.",
    "hook-post-fork": "uWSGI ends an old or superfluous worker by SIGWINCH, which wakes only one of its threads: "
    "give it the handler that ends all of them.",
    "set-placeholder": "Read by the module emperor_loader, which loads the app: when a worker ends itself for its "
    "memory or a late request, whether its threads are scheduled as batch, how long one waits for its turn (s), "
    "whether what is loaded stays shared.",
    "socket": "%n is the name of this file without .ini: two instances side by side have different sockets.",
    "no-orphans": "No worker goes on after its master.",
    "disable-logging": "nginx logs the requests; clients that leave early are no error.",
}
TOP = ["; Ansible managed", "[launch]", "; Read by the program that starts vassals, not by uWSGI."]
# What a diff may show: our own comments, and settings of the launch section.
COMMENTS = frozenset([*TOP, *(f"; {why}" for why in WHY.values())])
SHOWN = frozenset(("app", "identifier", "binary", "socket", "holder", "clients", "tasks", "side_tasks", "network"))


@dataclass(frozen=True)
class Config:
    """One vassal.

    :ivar launch: what the wrapper reads: ``app``, ``identifier``, ``binary``, ``environment`` (a mapping), ``tasks``,
        ``socket``, ``holder`` and, when clients come to the socket of the slot, ``clients`` with the value ``slot``;
        where there are side processes, ``side_tasks`` for them; and ``network`` where it is not ``full``.
    :ivar options: name and value of each option of uWSGI, in their order, without the header of the generation.
    :ivar named: the generation that a file names; empty for a config that was not read from one.
    """

    launch: Mapping[str, Any] = field(default_factory=dict)
    options: tuple[tuple[str, str], ...] = ()
    named: str = ""

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Config:
        """A config from plain data, as the filter `vassal_config` makes it.

        :raises ValueError: when a value has a line break, which would end its option in the file.
        """
        options = tuple((str(name), str(value)) for name, value in data["options"])
        texts = [value for key, value in data["launch"].items() if key != "environment"]
        for text in [*texts, *(text for option in options for text in option)]:
            if set(text) & set("\n\r\0"):
                raise ValueError(f"{text!r} has a line break, which would end the option in the vassal file")
        return cls(dict(data["launch"]), options)

    @classmethod
    def parse(cls, text: str) -> Config:
        """A config from the text of a file; of one that a person broke, what can be read."""
        parser = configparser.RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=(";",))
        with contextlib.suppress(configparser.Error):
            parser.read_string(text)
        launch: dict[str, Any] = dict(parser["launch"]) if parser.has_section("launch") else {}
        environment = {}
        with contextlib.suppress(AttributeError, KeyError, ValueError):  # edited by hand
            environment = {str(name): str(value) for name, value in json.loads(launch["environment"]).items()}
        launch["environment"] = environment
        _launch, _head, section = f"\n{text}".partition("\n[uwsgi]\n")
        pairs = [line.partition(" = ") for line in section.split("\n") if not line.startswith(";")]
        options = [(name, value) for name, sign, value in pairs if sign]
        named = [value[len(HEADER) + 2 :] for name, value in options if is_generation(name, value)]
        kept = tuple((name, value) for name, value in options if not is_generation(name, value))
        return cls(launch, kept, named[-1] if named else "")

    @property
    def generation(self) -> str:
        """Names the content; the instance answers it in a header."""
        if self.named:
            return self.named
        return hashlib.sha256(self.body.encode("utf-8", "surrogateescape")).hexdigest()[:12]

    @property
    def body(self) -> str:
        """The file without the header of its generation."""
        launch = {**self.launch, "environment": json.dumps(self.launch.get("environment", {}), sort_keys=True)}
        settings = [f"{key} = {launch[key]}" for key in sorted(launch)]
        return "\n".join([*TOP, *settings, "", "[uwsgi]", *explained(self.options), ""])

    def render(self) -> str:
        """The file."""
        return f"{self.body}add-header = {HEADER}: {self.generation}\n"

    def value(self, option: str) -> str:
        """The last value of an option, which is the one that counts; empty when it is not there."""
        return next((value for name, value in reversed(self.options) if name == option), "")

    def number(self, option: str) -> int:
        """The last value of a numeric option; 0 when it is not there or no number."""
        value = self.value(option)
        return int(value) if re.fullmatch("[0-9]+", value) else 0

    @property
    def environment(self) -> dict[str, str]:
        """The app's environment."""
        return dict(self.launch.get("environment", {}))

    @property
    def network(self) -> str:
        """What the app may reach, see `host.network`."""
        told = str(self.launch.get("network") or "full")
        return told if told.partition(" ")[0] in host.NETWORKS else "full"  # edited by hand

    @property
    def socket(self) -> str:
        """The listening socket that systemd holds for the app; empty when the file names none."""
        return str(self.launch.get("socket", ""))

    def clients(self, slot: str, own: str) -> str:
        """The socket to which clients of its instance come.

        :param slot: where it runs.
        :param own: the instance's own socket.
        """
        kind = self.launch.get("clients")
        if not self.socket or kind == "own":  # as version 1.0 wrote it
            return own
        return os.path.join(os.path.dirname(self.socket), f"{slot}.sock") if kind == "slot" else self.socket

    def trial(self, run: str, link: str = "", release: str = "", kind: str = "trial") -> Config:
        """The config of the trial start: the same, except for what only one instance can have.

        It gets a socket of its own and one process, and neither journal, nor files, nor helpers of the real instance.

        :param run: directory of the app's sockets.
        :param link: the link through which workers find the release; empty when they do not.
        :param release: directory of the release to start instead.
        :param kind: what its sockets are called.
        """

        def text(value: str) -> str:
            return value.replace(link, release) if link and release else value

        launch = {
            key: value if key == "environment" else text(value)
            for key, value in self.launch.items()
            if key not in ("identifier", "socket", "holder")
        }
        launch["environment"] = {name: text(value) for name, value in self.environment.items()}
        kept = [
            (name, text(value))
            for name, value in self.options
            if not NOT_IN_TRIAL.fullmatch(name) and not is_recycling(name, value)
        ]
        sockets = [("socket", f"{run}/{kind}.sock"), ("stats", f"{run}/{kind}.stats")]
        own = [*sockets, ("processes", "1"), ("vacuum", "true")]
        return replace(self, launch=launch, options=(*kept, *own), named=self.generation)

    def trial_digest(self, release: str = "") -> str:
        """Names everything on which the outcome of the trial start depends.

        :param release: directory of the release, where the config itself does not name it.
        """
        kept = [
            [name, value]
            for name, value in self.options
            if not FROM_SIZE.fullmatch(name) and not is_recycling(name, value)
        ]
        follows = ("tasks", "side_tasks")  # from the size
        launch = {key: value for key, value in self.launch.items() if key not in follows}
        made_of = json.dumps([launch, kept, release], sort_keys=True)
        return hashlib.sha256(made_of.encode()).hexdigest()[:12]


def is_generation(name: str, value: str) -> bool:
    """Whether an option is the header of the generation."""
    return name == "add-header" and bool(re.fullmatch(rf"{HEADER}: [0-9a-f]+", value))


def is_recycling(name: str, value: str) -> bool:
    """Whether an option lets a worker watch its memory and its requests."""
    return name == "set-placeholder" and value.startswith(RECYCLING)


def explained(options: Iterable[tuple[str, str]]) -> list[str]:
    """The lines of options, the first of a name after the reason for it."""
    lines, said = [], set()
    for name, value in options:
        why = WHY.get(name)
        if why and why not in said:
            lines += ["", f"; {why}"]
            said.add(why)
        lines.append(f"{name} = {value}")
    return lines


def is_harmless(line: str, section: str) -> bool:
    """Whether a diff may show a line: one as `Config` writes it, that is not the environment."""
    name, sign, _value = line.partition(" = ")
    if not sign or line.startswith(";"):
        return line in COMMENTS or bool(re.fullmatch(r"(\[[a-z]+\])?", line))
    if section == "uwsgi":
        return bool(re.fullmatch(r"(?!env)[a-z0-9-]+", name))
    return name in SHOWN


def shown(text: str | None) -> str:
    """A vassal file as a diff may show it: of the environment only the names, and whether values changed.

    A person may have edited the file. Of lines that are not as `Config` writes them, the diff shows only a digest: they
    may hold the environment in a notation of their own, such as a comment.
    """
    names = ", ".join(sorted(Config.parse(text or "").environment)) or "unreadable"
    marked: list[tuple[bool, str]] = []
    section = ""
    for line in (text or "").split("\n"):
        if line.startswith("["):
            section = line[1:-1]
        inside = not line and bool(marked) and not marked[-1][0]  # a blank line of a value over several lines
        marked.append((is_harmless(line, section) and not inside, line))
    result: list[str] = []
    for harmless, block in itertools.groupby(marked, key=lambda mark: mark[0]):
        lines = [line for _harmless, line in block]
        result += lines if harmless else [summary("\n".join(lines), names)]
    return "\n".join(result)


def summary(hidden: str, names: str) -> str:
    """What a diff shows in place of hidden lines.

    :param names: those of the variables in the environment.
    """
    digest = hashlib.sha256(hidden.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    if re.search(r"^\s*environment\s*=", hidden, re.MULTILINE | re.IGNORECASE):
        return f"environment = {names} (values: {digest})"
    return f"; edited by hand, not shown ({digest})"
