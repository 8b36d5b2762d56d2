"""Action plugin: what a release needs of this machine: the source that it is built from, and whether its workers fit.

In one execution on the host a release is built and started once (the module `vassal` with `state: trial`). A release
that does not pass, or whose workers do not fit, is marked as failed there, before the task says why.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from typing import Any

from ansible_collections.flaskops.emperor.plugins.filter.worker_plan import worker_plan
from ansible_collections.flaskops.emperor.plugins.plugin_utils.host_action import HostAction
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.workers import steady

MODULE = "flaskops.emperor.release"
VASSAL = "flaskops.emperor.vassal"
SMALL = 8 * 1024 * 1024  # bytes of an archive that goes with the arguments; a larger one is copied as a file


class ActionModule(HostAction):
    """Ansible's entry point."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module, with the archive if there is one, and the trial start if one is wanted."""
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        trial, workers, current = (arguments.pop(name, None) for name in ("trial", "workers", "current"))
        modules = []
        if arguments["state"] != "tried":
            self._take_along(arguments)
            modules.append((MODULE, arguments))
        if trial:
            modules.append((VASSAL, {**trial, "state": "trial"}))
        answers = self._execute_modules(modules, task_vars)
        self._remove_tmp_path(self._connection._shell.tmpdir)
        if not trial or len(answers) < len(modules):  # it was not built
            return answers[-1]
        answer = {**answers[-1], "changed": any(one.get("changed") for one in answers)}
        if answer.get("failed"):
            reason = answer["msg"]
        else:
            workers = {**workers, "memory": steady(workers["memory"]), "size": answer["size"]}
            reason = worker_plan(**workers).get("fault", "")
        if not reason:
            return answer | {"ansible_facts": self._remembered(trial["name"], answer, task_vars or {})}
        if arguments["id"] != current:
            marked = {"home": arguments["home"], "id": arguments["id"], "state": "failed"}
            self._execute_module(MODULE, marked, task_vars=task_vars)
        return answer | {"failed": True, "msg": reason}

    def _take_along(self, arguments: dict[str, Any]) -> None:
        """Bring the archive of the source to the host, or put it into the arguments."""
        bundle = arguments.pop("bundle", None)
        if not bundle or self._task.check_mode:
            return
        if os.path.getsize(bundle) <= SMALL:
            with open(bundle, "rb") as file:
                arguments["archive"] = base64.b64encode(file.read()).decode("ascii")
            return
        directory = self._make_tmp_path()
        arguments["bundle"] = self._transfer_file(bundle, self._connection._shell.join_path(directory, "bundle"))
        self._fixup_perms2((directory, arguments["bundle"]))

    def _remembered(self, name: str, answer: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
        """What the last trial start of each app found, and what else Ansible learnt of the host.

        Facts may be kept for later runs (`fact_caching`): so they name the release, and do not become more and more.
        """
        trials = variables.get("ansible_facts", {}).get("flask_apps_trials", {})
        found = {name: {"release": self._task.args["id"], "tried": answer["tried"], "size": answer["size"]}}
        return {**answer.get("ansible_facts", {}), "flask_apps_trials": {**trials, **found}}
