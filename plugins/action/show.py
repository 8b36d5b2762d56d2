"""Action plugin: print lines, also where the results of tasks that change nothing are not shown."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Ansible's entry point."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Print the lines below the host's name."""
        super().run(tmp, task_vars)
        _result, options = self.validate_argument_spec({"lines": {"type": "list", "elements": "str", "required": True}})
        name = (task_vars or {}).get("inventory_hostname", "")
        self._display.display("\n".join([f"{name}:", *(f"  {line}" for line in options["lines"])]))
        return {"changed": False, "lines": options["lines"]}
