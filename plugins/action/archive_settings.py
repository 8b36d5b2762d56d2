"""Action plugin: see that a file on this machine is the archive of an app."""

from __future__ import annotations

import os
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.flaskops.emperor.plugins.module_utils.archive import settings_of


class ActionModule(ActionBase):
    """Ansible's entry point."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Say whose archive it is, and from when."""
        super().run(tmp, task_vars)
        _result, options = self.validate_argument_spec(
            {"path": {"type": "str", "required": True}, "name": {"type": "str", "required": True}}
        )
        path = os.path.abspath(os.path.expanduser(options["path"]))
        try:
            found = settings_of(path)
        except ValueError as error:
            return self._refused(f"{path} is no archive of backup.yml ({error}): correct `-e from=FILE`.")
        if found["name"] != options["name"]:
            return self._refused(
                f"{path} is an archive of {found['name']}, not of {options['name']}: name another one."
            )
        self._display.display(f"{path}: {found['name']} of {found.get('host', 'a host')}, {found.get('made', '')}")
        return {"changed": False}

    def _refused(self, sentence: str) -> dict[str, Any]:
        return {"failed": True, "changed": False, "msg": sentence}
