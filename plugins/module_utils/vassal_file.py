"""Vassal files: the two places of an app; of the text its generation, launch section, rehearsal, and what to show."""

from __future__ import annotations

import configparser
import contextlib
import hashlib
import json
import pwd
import re
from dataclasses import dataclass

from ansible_collections.flaskops.emperor.plugins.module_utils import processes
from ansible_collections.flaskops.emperor.plugins.module_utils.processes import Process

COLOURS = ("blue", "green")


def read(path: str) -> str | None:
    """The text of a file, or None where there is none."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return None


@dataclass(frozen=True)
class Place:
    """One of the two places in which an app can run."""

    name: str
    colour: str
    directory: str
    run: str

    @property
    def file(self) -> str:
        return f"{self.directory}/{self.name}.{self.colour}.ini"

    @property
    def socket(self) -> str:
        return f"{self.run}/{self.name}.{self.colour}.sock"

    @property
    def stats(self) -> str:
        return f"{self.run}/{self.name}.{self.colour}.stats"

    @property
    def content(self) -> str | None:
        return read(self.file)

    def instance(self) -> list[Process]:
        """What runs in it: the master, then the workers."""
        return processes.of_file(self.file, pwd.getpwnam(self.name).pw_uid)


def complete(content: str) -> tuple[str, str]:
    """The vassal file with the header that tells its generation, and the generation."""
    generation = hashlib.sha256(content.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    return content.rstrip("\n") + f"\nadd-header = X-Vassal: {generation}\n", generation


def generation_of(content: str) -> str:
    """The generation a complete vassal file names; empty when it names none."""
    found = re.search(r"^add-header = X-Vassal: ([0-9a-f]+)$", content, re.MULTILINE)
    return found.group(1) if found else ""


def launch(content: str) -> configparser.SectionProxy:
    """The section which the wrapper reads; what can be read of it when a person broke the file."""
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=(";",))
    with contextlib.suppress(configparser.Error):
        parser.read_string(content)
    if not parser.has_section("launch"):
        parser.add_section("launch")
    return parser["launch"]


def environment(content: str) -> dict[str, str]:
    """The app's environment."""
    found: dict[str, str] = json.loads(launch(content)["environment"])
    return found


def number(content: str, option: str) -> int:
    """The last value of a numeric option, 0 when it is not there."""
    found = re.findall(rf"^{option} = (\d+)$", content, re.MULTILINE)
    return int(found[-1]) if found else 0


# How each worker watches its memory.
RECYCLING = "hook-accepting = callret:PyRun_SimpleString import uwsgi; recycle = "


def rehearsal(content: str, run: str) -> str:
    """The vassal file changed so that it can run once beside the real one.

    It gets a socket of its own and one process, and neither journal, nor files, nor helpers that the real one owns.

    :param run: directory of the app's sockets.
    """
    replaced = (
        rf"{RECYCLING}|"
        r"([a-z-]*socket|holder|https?|stats[a-z-]*|processes|cheaper[a-z-]*|touch-[a-z-]*|identifier|vacuum"
        r"|max-requests[a-z-]*|[a-z-]*pidfile[0-9]*|master-fifo|log[a-z0-9-]*|spooler[a-z-]*|cron2?|unique-cron|mules?|farm"
        r"|[a-z-]*attach-daemon2?) *="
    )
    kept = [line for line in content.split("\n") if not re.match(replaced, line)]
    own = [f"socket = {run}/preflight.sock", f"stats = {run}/preflight.stats", "processes = 1", "vacuum = true"]
    return "\n".join([*kept, *own, ""])


# What follows from the measured size, or says how many do what the one process of the rehearsal does.
PLANNED = (
    rf"{RECYCLING}|"
    r"(;|processes =|cheaper[a-z-]* =|max-requests[a-z-]* =|max-worker-lifetime[a-z-]* =|min-worker-lifetime ="
    r"|add-header = X-Vassal:)"
)


def rehearsed(content: str, release: str) -> str:
    """Names all of a vassal file on which the outcome of its rehearsal depends.

    :param release: directory of the release, where the file itself does not name it; else empty.
    """
    kept = [line for line in content.split("\n") if not re.match(PLANNED, line)]
    return hashlib.sha256("\n".join([*kept, release]).encode("utf-8", "surrogateescape")).hexdigest()[:12]


def shown(content: str | None) -> str:
    """A vassal file as a diff may show it: of the environment only the names, and whether values changed."""

    def names(match: re.Match[str]) -> str:
        try:
            listed = ", ".join(sorted(dict(json.loads(match.group(1)))))
        except (TypeError, ValueError):  # edited by hand
            listed = "unreadable"
        digest = hashlib.sha256(match.group(1).encode("utf-8", "surrogateescape")).hexdigest()[:8]
        return f"environment = {listed} (values: {digest})"

    # As generously as the wrapper's parser: a person may have written it over several lines.
    setting = r"^[ \t]*environment[ \t]*=[ \t]*(.*(?:\n+[ \t].*)*)$"
    return re.sub(setting, names, content or "", flags=re.MULTILINE | re.IGNORECASE)
