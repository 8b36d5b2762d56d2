"""The two slots in which an app can run, blue and green, each with a vassal file, a socket and a statistics socket."""

from __future__ import annotations

import hashlib
import os
import pwd
import signal
from dataclasses import dataclass

from ansible_collections.flaskops.emperor.plugins.module_utils import host, processes
from ansible_collections.flaskops.emperor.plugins.module_utils.processes import Process
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.config import Config

SLOTS = ("blue", "green")


def held(run: str) -> str:
    """The directory of the sockets that systemd holds for an app, to which nginx connects. It is root's alone.

    :param run: directory of the app's own sockets, where the app may put what it likes.
    """
    parent, name = os.path.split(run)
    return f"{parent}-sockets/{name}"


@dataclass(frozen=True)
class Slot:
    """One of the two slots of an app.

    :ivar name: the app.
    :ivar slot: ``blue`` or ``green``.
    :ivar directory: of the vassal files.
    :ivar run: directory of the app's own sockets.
    """

    name: str
    slot: str
    directory: str
    run: str

    @property
    def file(self) -> str:
        """The vassal file."""
        return f"{self.directory}/{self.name}.{self.slot}.ini"

    @property
    def socket(self) -> str:
        """The instance's own socket, for health checks."""
        return f"{self.run}/{self.name}.{self.slot}.sock"

    @property
    def stats(self) -> str:
        """The statistics socket."""
        return f"{self.run}/{self.name}.{self.slot}.stats"

    @property
    def text(self) -> str | None:
        """What the vassal file holds; None when it is not there."""
        return host.read(self.file)

    @property
    def config(self) -> Config | None:
        """What the vassal file says; None when it is not there."""
        text = self.text
        return None if text is None else Config.parse(text)

    @property
    def digest(self) -> str:
        """The digest of the vassal file; empty when it is not there."""
        text = self.text
        return "" if text is None else hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

    def instance(self) -> list[Process]:
        """What runs in it: the master, then the workers."""
        return processes.of_file(self.file, pwd.getpwnam(self.name).pw_uid)

    def wake_emperor(self) -> bool:
        """Let the Emperor of the app look at the vassal files now; without this it looks once a second.

        Any signal that it handles does that, and this one does nothing else. Source: emperor_wakeup() and
        emperor_loop() in core/emperor.c of uWSGI 2.0. Returns whether it runs.
        """
        emperors = processes.of_file(f"{self.directory}/{self.name}.*.ini", pwd.getpwnam(self.name).pw_uid)
        processes.kill(emperors, signal.SIGWINCH)
        return bool(emperors)

    def sockets(self, config: Config) -> list[str]:
        """The sockets on which its instance must answer: its own, and the one to which clients come."""
        return list(dict.fromkeys((self.socket, self.clients(config))))

    def clients(self, config: Config | None) -> str:
        """The socket to which clients come, which systemd holds for the app or for the slot; empty without a config."""
        return config.clients(self.slot, self.socket) if config else ""
