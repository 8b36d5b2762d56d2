"""Action plugin: render and read files on the controller, then let the module compare them with the host."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.flaskops.emperor.plugins.action.files import completed

MODULE = "flaskops.emperor.host_state"


class ActionModule(ActionBase):
    """Ansible's entry point."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Complete every file with its content, then run the module once."""
        super().run(tmp, task_vars)
        arguments = {**self._task.args}
        if "files" in arguments:
            arguments["files"] = completed(self, arguments["files"], task_vars or {})
        answer: dict[str, Any] = self._execute_module(MODULE, module_args=arguments, task_vars=task_vars)
        return answer
