"""Count what the journal says of the apps: what went wrong, and what was done about it."""

import json
import re
import subprocess
from collections import Counter
from collections.abc import Collection

from ansible_collections.flaskops.emperor.plugins.module_utils.checkup.logs import DIED, LATE

GUARD, EMPEROR = "emperor-memory-guard", "emperor"
EVENTS = ("exception", "slow", "late", "recycled", "guarded", "killed", "crashed", "throttled")
ASKED = re.compile(r"asked the \w+ worker \d+ of (\S+)")
HELD_BACK = re.compile(
    r"([a-z][a-z0-9_-]*)\.(?:blue|green)\.ini.*throttl|throttl.*?([a-z][a-z0-9_-]*)\.(?:blue|green)\.ini"
)
LINES = 20000  # that are read at a time


def event(identifier: str, text: str) -> tuple[str, str] | None:
    """The app and what happened to it, if a line tells that."""
    if identifier == GUARD:
        found = ASKED.match(text)
        return (found[1], "guarded") if found else None
    if identifier == EMPEROR:
        found = HELD_BACK.search(text)
        return (found[1] or found[2], "throttled") if found else None
    if text.startswith("request ") and " (release " in text:
        if ") got 500" in text:
            return identifier, "exception"
        return (identifier, "slow") if ") takes more than" in text else None
    if text.startswith(LATE):
        return identifier, "late"
    if text.startswith("this worker has ") and "memory.worker_recycle" in text:
        return identifier, "recycled"
    if found := DIED.search(text):
        number = int(found[3])
        return (identifier, "killed" if number == 9 else "crashed") if number != 15 else None
    return None


class Journal:
    """The journal, read on from where it was read to.

    :ivar counts: by app and event.
    """

    def __init__(self) -> None:
        self.cursor = ""
        self.counts: Counter[tuple[str, str]] = Counter()

    def read(self, names: Collection[str]) -> None:
        """Count what was written since the last time; the first time, nothing."""
        for key in [key for key in self.counts if key[0] not in names]:
            del self.counts[key]
        for name in names:
            for one in EVENTS:
                self.counts.setdefault((name, one), 0)
        where = [f"--after-cursor={self.cursor}", f"--lines=+{LINES}"] if self.cursor else ["--lines=1"]
        who = [f"--identifier={name}" for name in (*names, GUARD, EMPEROR)] if self.cursor else []
        command = ["journalctl", "--no-pager", "--quiet", "--output=json",
                   "--output-fields=SYSLOG_IDENTIFIER,MESSAGE", *where, *who]  # fmt: skip
        if not self.cursor:  # the end of all there is
            self.cursor = self.last(command)
            return
        for line in self.output(command):
            told = json.loads(line)
            self.cursor = told["__CURSOR"]
            message = told.get("MESSAGE")
            found = event(told.get("SYSLOG_IDENTIFIER", ""), message) if isinstance(message, str) else None
            if found and found[0] in names:
                self.counts[found] += 1

    def last(self, command: list[str]) -> str:
        """The cursor of the last line."""
        lines = self.output(command)
        return str(json.loads(lines[-1])["__CURSOR"]) if lines else ""

    def output(self, command: list[str]) -> list[str]:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=True)
        return done.stdout.splitlines()
