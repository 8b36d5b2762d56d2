"""Action plugin: render and read files on the controller, then let the module put all of them in place at once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.template import trust_as_template
from ansible_collections.flaskops.emperor.plugins.plugin_utils.host_action import HostAction

MODULE = "flaskops.emperor.files"
OWN = ("path", "state", "content", "src", "template", "owner", "group", "mode")


class ActionModule(HostAction):
    """Ansible's entry point."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Complete every entry with its content, then run the module once."""
        super().run(tmp, task_vars)
        _result, options = self.validate_argument_spec(
            {"files": {"type": "list", "elements": "dict", "required": True}}
        )
        entries = completed(self, options["files"], task_vars or {})
        answer: dict[str, Any] = self._execute_module(MODULE, module_args={"files": entries}, task_vars=task_vars)
        return answer


def completed(
    action: ActionBase, entries: Iterable[Mapping[str, Any]], variables: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Entries with the contents that their files and templates of the role give them.

    :param action: the action plugin that runs.
    :param entries: see the module `files`.
    :param variables: all that templates may use.
    """
    return [_complete(action, entry, variables) for entry in entries]


def _complete(action: ActionBase, entry: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
    unknown = [key for key in entry if key not in OWN]
    if unknown or "path" not in entry:
        raise AnsibleActionFail(f"files: {dict(entry)} has {', '.join(unknown) or 'no path'}: use {', '.join(OWN)}.")
    found = {key: value for key, value in entry.items() if key not in ("src", "template")}
    if "src" in entry:
        found["content"] = action._loader.get_text_file_contents(action._find_needle("files", entry["src"]))
    if "template" in entry:
        found["content"] = render(action, entry["template"], variables)
    return found


def render(action: ActionBase, template: str, variables: Mapping[str, Any]) -> str:
    """The text of a role's template, as the action `template` renders it.

    :param action: the action plugin that runs.
    :param template: its file name below ``templates``.
    :param variables: all that it may use.
    """
    source = action._find_needle("templates", template)
    managed = variables.get("ansible_managed", "Ansible managed")
    templar = action._templar.copy_with_new_env(
        searchpath=[os.path.dirname(source)], available_variables={**variables, "ansible_managed": managed}
    )
    text = trust_as_template(action._loader.get_text_file_contents(source))
    return str(templar.template(text, escape_backslashes=False))
