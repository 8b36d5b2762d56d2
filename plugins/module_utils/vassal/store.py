"""What is kept of an app on the host: its vassal files, what ran before a switch, its memory limit, its links."""

from __future__ import annotations

import glob
import json
import os
import pwd
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils import emperor_unit, host
from ansible_collections.flaskops.emperor.plugins.module_utils.links import link, target
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.config import Config
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.modes import MODES
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.slots import SLOTS, Slot

MIB = 1024 * 1024


@dataclass(frozen=True)
class Before:
    """What ran before a switch began; kept in a file until the switch is committed or rolled back.

    :ivar slot: where it ran, empty when the app did not run.
    :ivar content: its vassal file.
    :ivar release: where the link led, empty when there was none.
    :ivar limit: of its memory, in bytes; empty when there was none.
    """

    slot: str
    content: str
    release: str
    limit: str = ""


class App:
    """The vassals of one app.

    :param params: the parameters of the module `vassal`.
    """

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.params = params
        self.name: str = params["name"]
        self.warnings: list[str] = []  # what its trial start said
        self.lazily: Config | None = None  # the config with which each worker loads the app itself
        self.slots = [Slot(self.name, slot, params["directory"], params["run"]) for slot in SLOTS]
        self.note = os.path.join(params["directory"], self.name + ".before")  # not "*.ini": no vassal
        self.limit = os.path.join(params["directory"], self.name + ".limit")

    @property
    def taken(self) -> list[Slot]:
        """The slots with a vassal file, the older file first."""
        taken = [slot for slot in self.slots if os.path.exists(slot.file)]
        return sorted(taken, key=lambda slot: os.stat(slot.file).st_mtime_ns)

    @property
    def others(self) -> list[Slot]:
        """What must end: all but the newest, also where a run was killed after it had removed the file."""
        taken = self.taken
        return [*taken[:-1], *(slot for slot in self.slots if slot not in taken and os.path.lexists(slot.stats))]

    @property
    def leftovers(self) -> list[str]:
        """Files of a run that was killed: those of its trial start, and what it had not written to the end."""
        links = filter(None, (self.params.get("link"), self.params.get("upstream")))
        kept = [self.note, self.limit, *(slot.file for slot in self.slots), *links]
        unfinished = [f"{file}.new" for file in kept if os.path.lexists(f"{file}.new")]
        return [*glob.glob(os.path.join(self.params["run"], "trial.*")), *unfinished]

    def slot(self, name: str) -> Slot:
        """The slot of this name."""
        return self.slots[SLOTS.index(name)]

    # What ran before

    def remember(self, slot: Slot | None) -> None:
        """Keep what runs now for a roll back."""
        limit = host.read(self.limit) or ""
        before = Before(slot.slot if slot else "", (slot and slot.text) or "", self.leads_to, limit)
        host.write(self.note, json.dumps(asdict(before)), 0, 0)

    @property
    def before(self) -> Before | None:
        """What ran before the switch that is neither committed nor rolled back."""
        text = host.read(self.note)
        if text is None and len(self.taken) > 1:  # the note was removed by hand
            older = self.taken[0]
            return Before(older.slot, older.text or "", self.leads_to, host.read(self.limit) or "")
        return None if text is None else Before(**json.loads(text))

    @property
    def environments(self) -> list[dict[str, str]]:
        """The environments of all vassal files that are there, and of the one to return to."""
        before = self.before
        texts = [*(slot.text for slot in self.slots), before and before.content]
        return [Config.parse(text).environment for text in texts if text]

    # The trial start

    @property
    def trial(self) -> dict[str, Any]:
        """What was tried (``digest``) and what it used (``size``, null where the kernel did not tell); or nothing."""
        text = host.read(self.params["size"]) if self.params.get("size") else None
        return json.loads(text) if text else {}

    def tried(self, config: Config) -> bool:
        """Whether the release passed its trial start with this config, or with that which was tried in its place."""
        configs = [config, self.lazily] if self.lazily else [config]
        return self.trial.get("digest") in [self.digest(one) for one in configs]

    @property
    def tries(self) -> bool:
        """Whether a trial start is possible: beside what runs, if that may have something beside it.

        What a killed run left counts as running: an instance that still ends, or one to which the app returns first.
        """
        runs = self.taken or self.others or (self.before and self.before.slot)
        return MODES[self.params["reload"]].trial or not runs

    def inherit(self) -> None:
        """Take the size of the current release for that of one that cannot be tried."""
        own, current = self.params["size"], os.path.join(self.params["size"], "../../../current/size.json")
        if host.read(own) is None and (text := host.read(os.path.normpath(current))):
            host.write(own, json.dumps({**json.loads(text), "digest": ""}), 0, 0)

    def digest(self, config: Config) -> str:
        """Names what the trial start of this config shows."""
        return config.trial_digest(self.params["release"] or "")

    # The limit of its memory

    @property
    def limited(self) -> bool:
        """Whether the limit is the wanted one, if one is wanted."""
        return not self.wanted or self.holds(self.wanted)

    @property
    def wanted(self) -> str:
        """The limit that the settings ask for, in bytes; empty when they ask for none."""
        return str(self.params["memory_limit"] * MIB) if self.params["memory_limit"] else ""

    def holds(self, limit: str) -> bool:
        """Whether this is the limit, in bytes, now and for the next instance."""
        return host.read(self.limit) == emperor_unit.limited(self.name) == limit

    def hold(self, limit: str) -> bool:
        """Limit the memory, in bytes: where the Emperor reads it for the next instance, and now.

        :returns: whether that changed anything.
        """
        if not limit or self.holds(limit):
            return False
        host.write(self.limit, limit, 0, 0, 0o444)
        emperor_unit.limit(self.name, limit)
        return True

    # What it may reach

    def network(self, *configs: Config) -> str:
        """What these configs and the instances that are there need, see `host.network`."""
        there = [slot.config for slot in self.taken]
        return host.widest([one.network for one in (*there, *configs) if one] or ["full"])

    @property
    def confined(self) -> bool:
        """Whether the app's unit lets it reach what its instances need, and nothing else."""
        return emperor_unit.confined(self.name, self.network())

    # The links

    @property
    def leads_to(self) -> str:
        """The release to which the link leads through which workers find it; empty when there is none."""
        return target(self.params.get("link") or "")

    @property
    def released(self) -> bool:
        """Whether workers that start now find the wanted release."""
        return not self.params["release"] or self.params["release"] == self.leads_to

    def lead(self, release: str) -> None:
        """Let the link lead to a release."""
        if self.params["link"] and release:
            link(release, self.params["link"])

    @property
    def clients(self) -> str:
        """The socket to which clients must come: that of what was started last; empty when the app does not run."""
        taken = self.taken
        return taken[-1].clients(taken[-1].config) if taken else ""

    @property
    def reached(self) -> bool:
        """Whether clients come there."""
        return not self.params.get("upstream") or target(self.params["upstream"]) == self.clients

    def receive(self, sock: str) -> bool:
        """Let clients come to a socket, from one moment to the next. Returns whether that changed anything."""
        return bool(self.params["upstream"]) and link(sock, self.params["upstream"])

    # Writing

    def write(self, slot: Slot, content: str) -> None:
        """Write a vassal file: the Emperor starts or reloads the vassal."""
        user = pwd.getpwnam(self.name)
        before = max((os.stat(taken.file).st_mtime for taken in self.taken), default=0)
        # The Emperor compares whole seconds: two changes within one would be one to it. And by its time we know the
        # newer one of two files, though the clock may have been set back.
        host.write(slot.file, content, user.pw_uid, user.pw_gid, modified=max(time.time(), int(before) + 1))
        if not slot.wake_emperor():
            emperor_unit.start(self.name)
