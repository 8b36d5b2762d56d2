"""Make a systemd unit run what is on disk."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils import system


def make_current(
    module: Any, name: str, files: Sequence[str], action: str, test: Sequence[str] = ()
) -> tuple[list[str], str]:
    """Start a unit, or let it read its files again when one changed since. Ends the module when that fails.

    :param module: an ``AnsibleModule``.
    :param name: the unit.
    :param files: files, directories and globs from which it takes its configuration.
    :param action: ``reload`` or ``restart``.
    :param test: command that fails when the files are faulty.
    :returns: what was done, and a file that changed, if there is one.
    """
    state = next(iter(system.show([name]).values()), {})
    if state.get("LoadState", "not-found") == "not-found":
        if module.check_mode:
            return ["enable", "start"], ""
        module.fail_json(msg=f"The unit {name} does not exist: install it first.")
    if test:
        _test(module, name, test)

    running = state["ActiveState"] in ("active", "reloading")
    newer = system.changed_after(system.parse_time(state["StateChangeTimestamp"]), files) if running else ""
    steps = []
    if state["NeedDaemonReload"] == "yes":
        steps.append("daemon-reload")
    if state["UnitFileState"] == "disabled":
        steps.append("enable")
    if not running:
        steps.append("start")
    elif newer or (steps[:1] == ["daemon-reload"] and action == "restart"):
        steps.append(action)

    if not module.check_mode:
        for step in steps:
            command = ["systemctl", step] + ([] if step == "daemon-reload" else [name])
            rc, _out, err = module.run_command(command)
            if rc != 0:
                log = subprocess.run(
                    ["journalctl", "--no-pager", "--quiet", "--output=cat", "--lines=15", "--unit=" + name],
                    capture_output=True,
                    text=True,
                    check=False,
                ).stdout
                module.fail_json(msg=f"`{' '.join(command)}` failed: {err.strip()}\nIts last log lines:\n{log.strip()}")
    return steps, newer


def _test(module: Any, name: str, test: Sequence[str]) -> None:
    code, out, err = module.run_command([*test])
    reason = (err or out).strip()
    if code != 0 and module.check_mode:  # an earlier task of a real run may have corrected them
        module.warn(f"The files of {name} on disk are faulty now. The run fails unless it corrects them. {reason}")
    elif code != 0:
        module.fail_json(msg=f"{name} was left as it is: its files on disk are faulty. {reason}")
