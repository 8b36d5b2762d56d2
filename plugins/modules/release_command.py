#!/usr/bin/python
"""Ansible module: one command of an app, run in one of its releases."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils import causes, confined
from ansible_collections.flaskops.emperor.plugins.module_utils.exclusive import Busy, exclusive
from ansible_collections.flaskops.emperor.plugins.module_utils.module import Module
from ansible_collections.flaskops.emperor.plugins.module_utils.releases import settings_files
from ansible_collections.flaskops.emperor.plugins.module_utils.secrets import censor

DOCUMENTATION = r"""
module: release_command
short_description: Run a command in a release of an app
version_added: 1.0.0
description:
  - Runs one command as the app's user, in the source of a release, with the environment the app has. So C(flask db
    upgrade) finds the release's own virtualenv and settings. It runs in the sandbox of the Emperor, with temporary
    directories of its own.
  - When it fails, the module fails with the last lines of its output, without the values of environment variables.
  - Nothing that the command started goes on after it has ended.
options:
  name:
    description: The app's user.
    type: str
    required: true
  home:
    description: Directory of the app, which holds C(releases).
    type: path
    required: true
  id:
    description: The release.
    type: str
    required: true
  command:
    description:
      - The command. Words and quotes are taken as a shell takes them, but there is no shell. For one write
        C(sh -c '...').
      - The program is looked for in the C(PATH) of O(environment).
    type: str
    required: true
  environment:
    description: All environment variables of the command.
    type: dict
    default: {}
  timeout:
    description: Seconds the command may take.
    type: int
    default: 600
  setting:
    description: Name of the setting that says so, for the message when the command takes longer.
    type: str
    default: ""
  tasks:
    description: Processes and threads it may have at a time.
    type: int
    default: 512
  network:
    description:
      - What it may reach, V(full), V(local) for the loopback addresses of the host, or V(none); and addresses or
        networks besides, as in V(local 10.0.3.7).
    type: str
    default: full
  beside:
    description: Whether other modules may run on the host meanwhile, as for a command that only reads.
    type: bool
    default: false
attributes:
  check_mode:
    description: Says that the command would be run.
    support: full
author:
  - flaskops maintainers (@flaskops)
"""

EXAMPLES = r"""
- name: Migrate the database
  flaskops.emperor.release_command:
    name: shop
    home: /srv/flask_apps/shop
    id: 3f2a9c01d4e5
    command: flask db upgrade
    environment:
      PATH: /srv/flask_apps/shop/releases/3f2a9c01d4e5/venv/bin:/usr/bin:/bin
      DATABASE_URL: "{{ vaulted_database_url }}"
"""

RETURN = r"""
output:
  description: The last lines of what the command wrote.
  type: str
  returned: when it was run and did not fail
"""

LAST_LINES = 25
MODULES = "/usr/local/lib/emperor"
LACKS = re.compile(r"^ModuleNotFoundError: No module named '([^'.]+)[^']*'$", re.MULTILINE)
ALL = "import sys; sys.path.append(sys.argv[1]); import emperor_missing as of; print(*of.missing(*sys.argv[2:]))"


class Failed(Exception):
    """The command did not do its work; the text tells how it ended, and shows the end of its output."""


def with_others(said: str, directory: str, ask: Callable[[list[str]], str]) -> str:
    """What a command said, with all Python modules that its source lacks where it ended for want of one.

    :param directory: of the source.
    :param ask: runs another command like it.
    """
    files = dict.fromkeys(re.findall(rf'File "{re.escape(directory)}/(.+)\.py", line', said))
    lacks = [*LACKS.finditer(said)][-1:]
    if not (files and lacks):
        return said
    names = [file.removesuffix("/__init__").replace("/", ".") for file in files]
    found = ask(["python", "-Wignore", "-c", ALL, MODULES, *names]).split()
    others = ", ".join(one for one in found if one != lacks[0][1])
    end = lacks[0].end()
    return f"{said[:end]}\nAlso missing: {others}{said[end:]}" if others else said


def run(
    command: list[str],
    directory: str,
    environment: Mapping[str, str],
    user: pwd.struct_passwd,
    seconds: int,
    hidden: Mapping[str, str] | None = None,
    tasks: int = confined.TASKS,
    setting: str = "",
    network: str = "full",
) -> str:
    """Run a command as a user. Returns the last lines of its output, without secrets.

    :param seconds: how long it may take.
    :param hidden: what no message may show, by a name; the values of the environment if not given.
    :param tasks: processes and threads that it may have at a time.
    :param setting: name of the setting that says how long it may take.
    :param network: addresses that it may reach, see `host.network`.
    :raises Failed: when it ends badly, or not in time.
    :raises Unconfined: when the host has no sandbox for it.
    """
    # By its number: backups of an app may run beside its deploy.
    name = f"emperor-command-{user.pw_name}-{os.getpid()}"
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        limit = seconds + 2 * confined.MERCY
        with confined.running(
            name, command, user, output, environment, what=f"A command of the app {user.pw_name}", directory=directory,
            seconds=limit, tasks=tasks, network=network,
        ) as unit:  # fmt: skip
            try:
                unit.process.wait(seconds)
                how = unit.ending()
            except subprocess.TimeoutExpired:
                how = f"did not end within {seconds} s{f' ({setting})' if setting else ''}"
        output.seek(0)
        told = output.read()
        if how:
            more: Any = {"hidden": hidden, "tasks": tasks, "network": network}
            with contextlib.suppress(Failed):
                told = with_others(told, directory, lambda ask: run(ask, directory, environment, user, 30, **more))
        # Secrets first: one of many lines may be cut off in its middle.
        told = censor(told, hidden or environment).strip()
        said = "\n".join(told.splitlines()[-LAST_LINES:])
    if how:
        cause = causes.of_start(told).rstrip(".")
        how += causes.unreached(network, f"{how} {told}")
        raise Failed(f"{how}:{f' {cause}.' if cause else ''}\n{said}" if said else f"{how} without a word.")
    return said


def main() -> None:
    """Run the command while no other module runs."""
    module = Module(
        argument_spec={
            "name": {"type": "str", "required": True},
            "home": {"type": "path", "required": True},
            "id": {"type": "str", "required": True},
            "command": {"type": "str", "required": True},
            "environment": {"type": "dict", "default": {}, "no_log": True},
            "timeout": {"type": "int", "default": 600},
            "setting": {"type": "str", "default": ""},
            "tasks": {"type": "int", "default": confined.TASKS},
            "network": {"type": "str", "default": "full"},
            "beside": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    name, release, command = (module.params[key] for key in ("name", "id", "command"))
    environment = {key: str(value) for key, value in module.params["environment"].items()}
    # Every value would be replaced in every answer, and the app's name and release are values too: censor() does it.
    module.params["environment"] = sorted(environment)
    module.no_log_values.clear()

    if not re.match(r"[0-9a-z][0-9a-z._-]*\Z", release):
        module.fail_json(msg=f"id is {release!r}, but must be letters, digits, '.', '_' and '-'.")
    try:
        words = shlex.split(command)
    except ValueError as error:
        module.fail_json(msg=f"command is {command!r}, which cannot be split into words ({error}): correct the quotes.")
    if not words:
        module.fail_json(msg="command is empty: name a program.")
    if module.check_mode:
        module.exit_json(changed=True)

    directory = os.path.join(module.params["home"], "releases", release, "src")
    if not os.path.isdir(directory):
        module.fail_json(msg=f"Release {release} is not on this host: build it first.")
    hidden = {**environment, **settings_files.secrets(module.params["home"])}
    try:
        with contextlib.nullcontext() if module.params["beside"] else exclusive():
            told = {key: module.params[key] for key in ("setting", "tasks", "network")}
            limits = {"seconds": module.params["timeout"], **told}
            output = run(words, directory, environment, pwd.getpwnam(name), hidden=hidden, **limits)
    except (Busy, confined.Unconfined) as reason:
        module.fail_json(msg=str(reason))
    except Failed as failure:
        module.fail_json(msg=censor(f"`{command}` in release {release} of {name} {failure}", hidden))
    module.exit_json(changed=True, output=output)


if __name__ == "__main__":
    main()
