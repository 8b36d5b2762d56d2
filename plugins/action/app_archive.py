"""Action plugin: bring the archive of an app from a host to this machine, or from here to a host."""

from __future__ import annotations

import base64
import hashlib
import os
from typing import Any

from ansible_collections.flaskops.emperor.plugins.plugin_utils.host_action import HostAction

MODULE = "flaskops.emperor.app_archive"


class ActionModule(HostAction):
    """Ansible's entry point."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module, and move the archive."""
        super().run(tmp, task_vars)
        self._arguments, self._variables = dict(self._task.args), task_vars
        state, check = self._arguments["state"], self._task.check_mode
        if state == "restored" and not check:
            directory = self._make_tmp_path()
            remote = self._connection._shell.join_path(directory, "archive")
            local = os.path.abspath(os.path.expanduser(self._arguments["path"]))
            self._arguments["path"] = self._transfer_file(local, remote)
            self._fixup_perms2((directory, remote))
        answer = self._module()
        if state == "packed" and not check and not answer.get("failed"):
            answer = self._fetch(answer)
        self._remove_tmp_path(self._connection._shell.tmpdir)
        return answer

    def _module(self, **more: Any) -> dict[str, Any]:
        arguments = {**self._arguments, **more}
        answer: dict[str, Any] = self._execute_module(MODULE, module_args=arguments, task_vars=self._variables)
        return answer

    def _fetch(self, packed: dict[str, Any]) -> dict[str, Any]:
        """Read the archive piece by piece, whatever its size; it has its name when it is complete."""
        target = os.path.abspath(os.path.expanduser(self._arguments["to"]))
        os.makedirs(os.path.dirname(target), 0o700, exist_ok=True)
        new, digest, length = f"{target}.new", hashlib.sha256(), 0
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            while length < packed["size"]:
                answer = self._module(state="read", path=packed["path"], offset=length)
                piece = base64.b64decode(answer.get("piece", ""))
                if not piece:
                    return {**answer, "failed": True, "msg": answer.get("msg", "The archive ended too early.")}
                digest.update(piece)
                length += file.write(piece)
        self._module(state="absent", path=packed["path"])
        if digest.hexdigest() != packed["digest"]:
            return {"failed": True, "changed": False, "msg": "The archive changed on its way: make the backup again."}
        os.replace(new, target)
        for problem in packed["problems"]:
            self._display.warning(problem)
        return {"changed": True, "path": target, "size": packed["size"], "problems": packed["problems"]}
