"""Action plugin: check settings, render and read files on the controller, let the module compare them with the host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.common.yaml import yaml_load
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible_collections.flaskops.emperor.plugins.action.files import completed
from ansible_collections.flaskops.emperor.plugins.plugin_utils.host_action import HostAction
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.specification import mistaken
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused

MODULE = "flaskops.emperor.host_state"


def check_system(role: str, system: Mapping[str, Any], tested: Mapping[str, Sequence[str]], allow: bool) -> None:
    """See that the host's system is one on which a role is tested.

    :param system: its ``distribution`` and ``version``.
    :param tested: major versions by the distribution's name.
    :param allow: whether to go on all the same.
    :raises Refused: when it is not.
    """
    if allow or system["version"].split(".")[0] in tested.get(system["distribution"], ()):
        return
    known = " or ".join(f"{name} {' or '.join(versions)}" for name, versions in tested.items())
    raise Refused(
        f"The role {role} is not tested on {system['distribution']} {system['version']}. Use {known}, or set "
        f"{role}_allow_unproven_os to true to try it anyway."
    )


def specification(action: ActionBase, task_vars: Mapping[str, Any]) -> dict[str, Any]:
    """The variables of the role whose task this is; warns of what is like one of them and means nothing to the role."""
    role = Path(action._task._role._role_path)
    text = (role / "meta/argument_specs.yml").read_text("utf-8")
    options: dict[str, Any] = yaml_load(text)["argument_specs"]["main"]["options"]
    for sentence in mistaken(options, task_vars, role.name):
        action._display.warning(sentence)
    return options


class ActionModule(HostAction):
    """Ansible's entry point."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Refuse what is wrong with the settings, complete every file with its content, then run the module once."""
        super().run(tmp, task_vars)
        arguments = {**self._task.args}
        role = arguments.pop("role", None) or {}
        try:
            if role:
                specification(self, task_vars or {})
            if faults := role.get("faults"):
                raise Refused(" ".join(faults))
            if "files" in arguments:
                arguments["files"] = completed(self, arguments["files"], task_vars or {})
            answer: dict[str, Any] = self._execute_module(MODULE, module_args=arguments, task_vars=task_vars)
            if role and "system" in answer:
                check_system(role["name"], answer["system"], role["tested"], boolean(role["allow_untested"]))
            return answer
        except Refused as refusal:
            return {"failed": True, "changed": False, "msg": str(refusal)}
