"""Action plugin: let one run of Ansible at a time change a host. Options: see the module of the same name."""

from __future__ import annotations

import getpass
import multiprocessing
import os
import shlex
import socket
import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils import exclusive, lock
from ansible_collections.flaskops.emperor.plugins.plugin_utils.host_action import HostAction

MODULE = "flaskops.emperor.deploy_lock"
POLL = 2.0  # seconds between two looks at a host that is locked
# By a shell: to start a Python for it takes twenty times as long. As a module, it waits for one that runs.
FREE = "umask 077 && flock --wait {wait} {modules} sh -c {command}"
REMOVE = "! grep -qsF {token} {path} || rm {path}"


def look_at(pid: int) -> tuple[str, int] | None:
    """State and start time (in clock ticks since boot) of a process; None when it cannot be seen."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()  # before it the name, which may hold anything
    except OSError:  # gone, hidden, or a system without /proc
        return None
    return fields[0], int(fields[19])


def system() -> str:
    """Names the running system in which process numbers mean something; empty where that cannot be told.

    Neither the host's name nor /etc/machine-id will do: clones share both, and containers number their own processes.
    """
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def this_run() -> dict[str, Any]:
    """The run this task belongs to, as the lock names it.

    Tasks run in forked workers; the run is their parent, or this very process where a strategy does not fork.
    """
    parent = multiprocessing.parent_process()
    pid = parent.pid if parent and parent.pid else os.getpid()
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    seen = look_at(pid)
    start = seen[1] if seen else 0
    return {"controller": socket.gethostname(), "system": system(), "user": user, "pid": pid, "start": start}


def gone(holder: dict[str, Any], here: str) -> bool:
    """Whether a run is known to have ended: only those of this very system can be looked at.

    :param here: this system, see `system`.
    """
    if not here or holder.get("system") != here:
        return False
    seen = look_at(holder["pid"])
    if seen:
        state, start = seen
        return state in "ZX" or start != holder["start"]  # dead, its parent just did not ask; or another process
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False  # there, but hidden (/proc mounted with hidepid)


def described(holder: dict[str, Any]) -> str:
    """Who holds a lock, from where, and since when."""
    if not holder:
        return "by a file that no run wrote"
    since = datetime.fromtimestamp(holder["since"], timezone.utc)
    return (
        f"by the run of {holder['user']} on {holder['controller']} (process {holder['pid']}), "
        f"since {since:%Y-%m-%d %H:%M:%S} UTC"
    )


class ActionModule(HostAction):
    """Ansible's entry point."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Take the lock, or give it back."""
        super().run(tmp, task_vars)
        _result, options = self.validate_argument_spec(
            {
                "state": {"type": "str", "choices": ["held", "free"], "required": True},
                "path": {"type": "str", "default": lock.PATH},
                "wait": {"type": "int", "default": 300},
            }
        )
        if self._task.check_mode:
            return {"changed": False, "held": False}
        if options["state"] == "free":
            return self._free(options["path"], options["wait"])
        variables = task_vars or {}

        def ask(arguments: dict[str, Any]) -> dict[str, Any]:
            given = {"path": options["path"], **arguments}
            answer: dict[str, Any] = self._execute_module(MODULE, given, task_vars=variables)
            # The interpreter of this host: a task that runs once would tell it to all hosts as theirs.
            answer.pop("ansible_facts", None)
            return answer

        host = variables.get("inventory_hostname", "")
        # A task that runs once tells all hosts which of them is locked now.
        return {**wait(ask, options["wait"], options["path"], host, self._display.display), "host": host}

    def _free(self, path: str, seconds: int) -> dict[str, Any]:
        """Give the lock back, if this run has it."""
        remove = REMOVE.format(token=lock.token(this_run()), path=shlex.quote(path))
        command = FREE.format(wait=seconds, modules=shlex.quote(exclusive.PATH), command=shlex.quote(remove))
        done = self._low_level_execute_command(command)
        answer: dict[str, Any] = {"changed": False, "held": False}
        if done["rc"] != 0:
            why = (
                done["stderr"].strip()
                or f"another module still runs: `lslocks` shows which process has {exclusive.PATH}"
            )
            answer["warnings"] = [
                f"The lock {path} was not given back ({why}). It lapses when no module has run for "
                f"{lock.LAPSE // 60} minutes."
            ]
        return answer


def wait(
    ask: Callable[[dict[str, Any]], dict[str, Any]],
    seconds: int,
    path: str,
    host: str,
    tell: Callable[[str], Any],
) -> dict[str, Any]:
    """Ask a module until this run holds the lock of a host; its last answer.

    :param ask: calls the module, with its ``owner``, ``replace`` and ``wait``.
    :param seconds: how long to wait for another run; the answer is then a failure with a sentence.
    :param path: the file of the lock.
    :param host: the name of the host.
    :param tell: tells the user, once, for whom this run waits.
    """
    owner, deadline = this_run(), time.monotonic() + seconds
    replace, told = "", False
    while True:
        # Short waits on the host, so that what it says of the holder is never old.
        answer = ask({"owner": owner, "replace": replace, "wait": int(POLL)})
        if answer.get("held") or answer.get("failed") or answer.get("unreachable"):
            return answer
        holder: dict[str, Any] | None = answer.get("holder")
        ended = holder is not None and gone(holder, owner["system"])
        replace = holder["token"] if holder and ended else ""
        if ended and not answer["busy"]:
            continue
        if holder is None or ended:
            why, sentence = "has a running module", answer["busy"]
        else:
            why = f"is locked {described(holder)}"
            sentence = (
                f"This host {why}: wait until that run has ended or raise flask_apps_lock_wait_seconds (it is "
                f"{seconds}), and only if that run is dead remove {path} on the host."
            )
        if time.monotonic() >= deadline:
            return {"failed": True, "changed": False, "msg": sentence}
        if gone(owner, owner["system"]):  # this run was killed: nothing would give the lock back
            return {"failed": True, "changed": False, "msg": "This run has ended."}
        if not told:
            tell(f"{host} {why}: waiting up to {seconds} s.")
            told = True
        time.sleep(min(POLL, max(0.0, deadline - time.monotonic())))
