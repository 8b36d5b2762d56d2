"""Action plugin: print what apps log while they log it, over Ansible's own connection to the host.

Ansible has a process for each host, and each prints its lines as they come. The module waits on the host until there is
something to return, so next to nothing runs while nothing happens, and nothing stays there.
"""

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible_collections.flaskops.emperor.plugins.plugin_utils.host_action import HostAction

MODULE = "flaskops.emperor.app_logs"
WAIT = 15  # seconds for which the module waits at most: so long it may outlive a run that was stopped
PAUSE = 1  # seconds in which lines gather, and before a host that is away is asked again
OPTIONS: dict[str, dict[str, Any]] = {
    "apps": {"type": "list", "elements": "str", "required": True},
    "position": {"type": "dict", "required": True},
    "seconds": {"type": "int", "required": True},
}


class ActionModule(HostAction):
    """Ansible's entry point."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Print lines until the time is over, or the run is stopped."""
        super().run(tmp, task_vars)
        _result, options = self.validate_argument_spec(OPTIONS)
        name = (task_vars or {}).get("inventory_hostname", "")
        position, away = options["position"], False
        end = time.monotonic() + options["seconds"]
        while (left := end - time.monotonic()) > 0:
            arguments = {"apps": options["apps"], "position": position, "wait": min(WAIT, int(left))}
            try:
                answer = self._ask(arguments, task_vars)
            except AnsibleConnectionFailure as error:  # a reboot, a network that fails
                if not away:
                    self._display.warning(f"{name} cannot be reached, its lines come when it is back: {error}")
                away = True
            else:
                if answer.get("failed"):
                    return answer
                position, away = answer["position"], False
                if answer["entries"]:
                    lines = (f"{at} {name} {app} {kind} {text}" for at, app, kind, text in answer["entries"])
                    self._display.display("\n".join(f"  {line}" for line in lines))
            time.sleep(max(min(PAUSE, end - time.monotonic()), 0))
        return {"changed": False}

    def _ask(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """Let the module look once; the host's own log does not tell of each look."""
        shown, self._task.no_log = self._task.no_log, True
        try:
            answer: dict[str, Any] = self._execute_module(MODULE, module_args=arguments, task_vars=task_vars)
        finally:
            self._task.no_log = shown
        return answer
