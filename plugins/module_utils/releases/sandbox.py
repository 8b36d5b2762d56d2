"""Running one step of a build: as a user that is no app's, and where nothing but the release can be changed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence

from ansible_collections.flaskops.emperor.plugins.module_utils import confined, host
from ansible_collections.flaskops.emperor.plugins.module_utils.as_user import NICE, OOM_SCORE

BUILDER = "emperor-build"  # the user that builds: no app's, so that none can change what will be its next release
LIMIT = 3600  # seconds for one step; where nobody waits for it any more, systemd ends it then
# Besides the sandbox of all that runs an app's code. A build may start many compilers.
OWN = (
    "TasksMax=4096",
    "UMask=0022",
    "CapabilityBoundingSet=",
    "ProtectControlGroups=yes",
    f"Nice={NICE}",
    f"OOMScoreAdjust={OOM_SCORE}",
)


class Failed(Exception):
    """A step ended badly; the text is its output."""


def quoted(value: str) -> str:
    """A value as systemd reads it from a file, see systemd.exec(5)."""
    escaped = "".join("\\" + sign if sign in '"\\`$' else sign for sign in value)
    return f'"{escaped}"'


class Sandbox:
    """Where the steps of a build run.

    :param name: of the app, whose files they may read as its group may.
    :param user: name of the user that runs them.
    :param path: of the release.
    :param writable: directories that they may change.
    :param environment: of every step. Some of it may be secret: nobody else can read it.
    :raises Unconfined: when the host has no sandbox.
    """

    def __init__(
        self, name: str, user: str, path: str, writable: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        self.unit, self.what = f"emperor-build-{name}.service", f"Build of a release of the app {name}"
        self.path, self.environment = path, dict(environment)
        # It writes where the apps cannot, and nowhere else.
        shared = [one for one in confined.sandbox() if not one.startswith("ReadWritePaths=")]
        self.properties = [
            *shared, *OWN, f"Slice={host.slice_of(name)}", f"User={user}", f"SupplementaryGroups={name}",
            f"RuntimeMaxSec={LIMIT}",
            f"ReadWritePaths={' '.join(writable)}", f"EnvironmentFile={self.file}",
        ]  # fmt: skip

    @property
    def file(self) -> str:
        return os.path.join(self.path, "environment")

    def stop(self) -> None:
        """End what a killed run left running."""
        if os.path.exists(f"{confined.TRANSIENT}/{self.unit}"):
            subprocess.run(["systemctl", "stop", self.unit], capture_output=True, check=False)

    def run(self, command: Sequence[str], directory: str, environment: Mapping[str, str] | None = None) -> str:
        """Run a step, and all it starts, to its end; return its output.

        :raises Failed: when it ends badly.
        """
        known = self.environment | dict(environment or {})
        host.write(self.file, "".join(f"{name}={quoted(value)}\n" for name, value in known.items()), 0, 0)
        options = [f"--property={one}" for one in self.properties]
        try:
            done = subprocess.run(
                ["systemd-run", "--quiet", "--pipe", "--wait", "--collect", f"--unit={self.unit}",
                 f"--description={self.what}", f"--working-directory={directory}", *options, "--",
                 "/usr/bin/env", "--", *command],  # in its own PATH: systemd-run would look in that of this process
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                errors="replace", check=False,
            )  # fmt: skip
        finally:
            host.remove(self.file)
        if done.returncode != 0:
            raise Failed(done.stdout.strip() or f"exit code {done.returncode}")
        return done.stdout
