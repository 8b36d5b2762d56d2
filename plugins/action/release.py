"""Action plugin: bring the source of a release to the host together with the module, in one execution."""

from __future__ import annotations

import base64
import os
from typing import Any

from ansible_collections.flaskops.emperor.plugins.plugin_utils.host_action import HostAction

MODULE = "flaskops.emperor.release"
SMALL = 8 * 1024 * 1024  # bytes of an archive that goes with the arguments; a larger one is copied as a file


class ActionModule(HostAction):
    """Ansible's entry point."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module, with the archive if there is one."""
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        bundle = arguments.pop("bundle", None)
        if bundle and not self._task.check_mode:
            if os.path.getsize(bundle) <= SMALL:
                with open(bundle, "rb") as file:
                    arguments["archive"] = base64.b64encode(file.read()).decode("ascii")
            else:
                directory = self._make_tmp_path()
                arguments["bundle"] = self._transfer_file(
                    bundle, self._connection._shell.join_path(directory, "bundle")
                )
                self._fixup_perms2((directory, arguments["bundle"]))
        answer: dict[str, Any] = self._execute_module(MODULE, module_args=arguments, task_vars=task_vars)
        self._remove_tmp_path(self._connection._shell.tmpdir)
        return answer
