"""Running an app's code outside of the Emperor: as the app's user, in the Emperor's sandbox, as a unit of systemd."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils import host, system
from ansible_collections.flaskops.emperor.plugins.module_utils.as_user import OOM_SCORE, with_parent

TRANSIENT = "/run/systemd/transient"  # has a file for each unit that systemd-run made, as long as systemd knows it
EMPEROR = "/etc/systemd/system/emperor-app@.service"
PAUSE = 0.02  # seconds between two looks whether it has ended
MERCY = 5  # seconds to end by itself when it is told to
TASKS = 512  # processes and threads of an app, and of what runs beside it, unless the app needs more
# What a unit is told, every user can see. So the command reads its environment, which may be secret, from its input.
BEGIN = """
import json, os, sys
job = json.load(sys.stdin)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
encoded = {os.fsencode(name): value.encode("utf-8", "surrogateescape") for name, value in job["environment"].items()}
try:
    os.execvpe(job["command"][0], job["command"], encoded)
except OSError as error:
    print(f"{job['command'][0]}: {'not found' if isinstance(error, FileNotFoundError) else error.strerror}", flush=True)
    sys.exit(127 if isinstance(error, FileNotFoundError) else 126)
"""
PYTHON = ["/usr/bin/python3", "-ISc", BEGIN]
# Ends a unit when the module ends without a word, as when it is killed: its end of the pipe closes then.
WATCH = 'read -r _; systemctl kill --signal=KILL "$0"; systemctl stop "$0"; systemctl reset-failed "$0"'


class Unconfined(Exception):
    """The sandbox is not known; the text is a sentence."""


def known() -> list[str]:
    """The properties of the Emperor's sandbox; none where it is not on the host."""
    return host.sandbox(host.read(EMPEROR) or "")


def sandbox() -> list[str]:
    """The properties of the Emperor's sandbox, which is that of everything that runs an app's code.

    :raises Unconfined: when the Emperor is not on the host.
    """
    if not (found := known()):
        raise Unconfined(f"{EMPEROR} is not on this host, so an app's code has no sandbox: run playbooks/site.yml.")
    return found


class Unit:
    """A command in the sandbox.

    :ivar process: what waits for its end, and returns its exit code.
    """

    def __init__(self, name: str, process: subprocess.Popen[str]) -> None:
        self.name, self.process, self.stopped = name, process, False

    def stop(self, wake: Callable[[], Any] = bool) -> None:
        """End it with all that it started: politely, then for good.

        :param wake: called until it has ended, for a process that looks only now and then whether it is to end.
        """
        if self.stopped:
            return
        with subprocess.Popen(
            ["systemctl", "stop", "--quiet", self.name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as stopping:
            while stopping.poll() is None:
                wake()
                time.sleep(PAUSE)
        self.process.wait()
        self.stopped = True

    def ending(self) -> str:
        """How it ended, as the end of a sentence; empty when it did its work."""
        if self.process.returncode == 0:
            return ""
        state = system.show([self.name], "Id,Result,ExecMainCode,ExecMainStatus").get(self.name, {})
        if state.get("Result") == "oom-kill":
            return "was killed by the kernel, as the host has no memory left"
        if state.get("ExecMainCode") in ("2", "3"):  # CLD_KILLED and CLD_DUMPED, see sigaction(2)
            return f"was killed by signal {state.get('ExecMainStatus')}"
        return f"ended with exit code {self.process.returncode}"


def options(user: str, directory: str, seconds: float, tasks: int, network: str) -> list[str]:
    """How a unit runs: in the sandbox and slice of the app, with no more time, processes and addresses than it may."""
    properties = [
        *sandbox(), *host.confinement(user, network), "CapabilityBoundingSet=",
        "KillMode=mixed", f"TimeoutStopSec={MERCY}", f"RuntimeMaxSec={seconds:.0f}", f"User={user}",
        f"WorkingDirectory={directory}", f"TasksMax={tasks}", f"OOMScoreAdjust={OOM_SCORE}",
    ]  # fmt: skip
    return [f"--property={one}" for one in properties]


@contextlib.contextmanager
def running(
    name: str,
    command: Sequence[str],
    user: pwd.struct_passwd,
    output: Any,
    environment: Mapping[str, str],
    *,
    what: str,
    directory: str = "/",
    seconds: float,
    tasks: int = TASKS,
    network: str = "full",
) -> Iterator[Unit]:
    """A command that runs in a `with` block. It has ended after that, also when this process is killed.

    :param name: of its unit.
    :param output: the file to which it writes.
    :param environment: all of it.
    :param what: what systemd calls it, in the journal.
    :param seconds: after which systemd ends it, whatever happens.
    :param tasks: processes and threads that it may have at a time.
    :param network: addresses that it may reach, see `host.network`.
    :raises Unconfined: when the sandbox is not known.
    """
    unit = f"{name}.service"
    told = [
        "systemd-run", "--quiet", "--pipe", "--wait", "--service-type=exec", f"--unit={unit}", f"--description={what}",
        f"--gid={user.pw_gid}", *options(user.pw_name, directory, seconds, tasks, network), "--", *PYTHON,
    ]  # fmt: skip
    reader, writer = os.pipe()
    job = os.memfd_create("job")
    try:
        os.write(job, json.dumps({"command": list(command), "environment": dict(environment)}).encode())
        os.lseek(job, 0, os.SEEK_SET)
        with subprocess.Popen(
            ["/bin/sh", "-c", WATCH, unit], stdin=reader, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as guard:  # fmt: skip
            try:
                process = subprocess.Popen(
                    with_parent(told), stdin=job, stdout=output, stderr=output, text=True, start_new_session=True
                )
                found = Unit(unit, process)
                try:
                    yield found
                finally:
                    found.stop()
                    if os.path.exists(f"{TRANSIENT}/{unit}"):  # it failed, and nothing else makes systemd forget it
                        subprocess.run(["systemctl", "reset-failed", unit], capture_output=True, check=False)
            finally:
                guard.kill()
    finally:
        for descriptor in (reader, writer, job):
            os.close(descriptor)
