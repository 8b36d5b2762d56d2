"""Action plugin: run one command of an app on one host, print its output, and fail as it failed."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from ansible import context
from ansible_collections.flaskops.emperor.plugins.module_utils.releases.settings_files import lines_of
from ansible_collections.flaskops.emperor.plugins.module_utils.secrets import censor
from ansible_collections.flaskops.emperor.plugins.module_utils.sides.units import PROGRAM
from ansible_collections.flaskops.emperor.plugins.plugin_utils.host_action import HostAction

MODULE = "ansible.builtin.command"
OPTIONS: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "default": ""},
    "command": {"type": "str", "default": ""},
    "release": {"type": "str", "default": ""},
    "host": {"type": "str", "default": ""},
    "hosts": {"type": "list", "elements": "str", "required": True},
    "apps": {"type": "list", "elements": "dict", "required": True, "no_log": True},
}


def as_typed(value: str) -> str:
    """The command as the user typed it: of `-e 'command=flask routes'` the variable has the first word only.

    :param value: of the variable, for a command that was given in another way.
    """
    given = [one for one in context.CLIARGS.get("extra_vars") or () if one.startswith("command=")]
    return given[-1].partition("=")[2] if given else value


def words_of(command: str) -> list[str]:
    """The words of a command, also of one in quotes as a whole.

    :raises ValueError: when a quote has no end.
    """
    words = shlex.split(command)
    return shlex.split(words[0]) if len(words) == 1 and command[0] in "'\"" else words


def secrets(app: Mapping[str, Any]) -> dict[str, str]:
    """What of an app's settings no output may show."""
    found = {name: str(value) for name, value in (app.get("environment") or {}).items()}
    return found | lines_of(str(one.get("content")) for one in app.get("files") or [])


def refusal(options: dict[str, Any], names: list[str], host: str) -> str:
    """Why the command cannot be run; empty when it can."""
    if options["name"] not in names:
        named = f"app is {options['name']}, which is not in flask_apps" if options["name"] else "No app was named"
        return f"{named}: add `-e app=NAME` with one of {', '.join(names)}."
    if not options["command"].strip():
        return "No command was given: add `-e 'command=flask ...'`."
    if host not in options["hosts"]:
        return f"host is {host}, which is none of {', '.join(options['hosts'])}: correct `-e host=NAME`."
    return ""


class ActionModule(HostAction):
    """Ansible's entry point."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run it on the host it is for; the others do nothing."""
        super().run(tmp, task_vars)
        _result, options = self.validate_argument_spec(OPTIONS)
        here = (task_vars or {}).get("inventory_hostname", "")
        options["command"] = as_typed(options["command"])
        host = options["host"] or options["hosts"][0]
        apps = {app["name"]: app for app in options["apps"]}
        if reason := refusal(options, list(apps), host):
            return {"failed": True, "changed": False, "msg": reason}
        if here != host or self._task.check_mode:
            return {"skipped": True, "changed": False}
        try:
            words = words_of(options["command"])
        except ValueError as error:
            sentence = f"command is {options['command']!r}, which cannot be split into words ({error})"
            return {"failed": True, "changed": False, "msg": f"{sentence}: correct the quotes."}
        argv = [PROGRAM, f"--release={options['release']}", options["name"], *words]
        arguments = {"argv": argv, "expand_argument_vars": False}
        answer: dict[str, Any] = self._execute_module(MODULE, module_args=arguments, task_vars=task_vars)
        if "rc" not in answer or answer.get("unreachable"):
            return answer
        hidden = secrets(apps[options["name"]])
        said = censor("\n".join(filter(None, (answer["stdout"], answer["stderr"]))), hidden)
        self._display.display("\n".join([f"{here}:", *(f"  {line}" for line in said.splitlines() or ["(no output)"])]))
        if answer["rc"] == 0:
            return {"changed": True, "rc": 0}
        told = f"`{censor(options['command'], hidden)}` ended with exit code {answer['rc']} on {here}, see above."
        return {"failed": True, "changed": True, "rc": answer["rc"], "msg": told}
