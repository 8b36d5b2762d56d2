"""Action plugin: measure an app on one host, print what it means, and write a page on the machine that runs Ansible."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible_collections.flaskops.emperor.plugins.plugin_utils.benchmark import page
from ansible_collections.flaskops.emperor.plugins.plugin_utils.benchmark.wanted import check
from ansible_collections.flaskops.emperor.plugins.plugin_utils.host_action import HostAction
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused

MODULE = "flaskops.emperor.app_benchmark"
OPTIONS: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "default": ""},
    "apps": {"type": "list", "elements": "dict", "required": True, "no_log": True},
    "confirm": {"type": "bool", "default": False},
    "path": {"type": "str", "default": ""},
    "status": {"type": "str", "default": "200"},
    "at_a_time": {"type": "str", "default": ""},
    "workers": {"type": "str", "default": ""},
    "seconds": {"type": "str", "default": "3"},
    "rounds": {"type": "str", "default": "2"},
    "host": {"type": "str", "default": ""},
    "hosts": {"type": "list", "elements": "str", "required": True},
    "to": {"type": "str", "default": "reports"},
}


class ActionModule(HostAction):
    """Ansible's entry point."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Measure on the host it is for; the others do nothing."""
        super().run(tmp, task_vars)
        _result, options = self.validate_argument_spec(OPTIONS)
        here = (task_vars or {}).get("inventory_hostname", "")
        host = options["host"] or options["hosts"][0]
        if host not in options["hosts"]:
            named = ", ".join(options["hosts"])
            return {"failed": True, "msg": f"host is {host}, which is none of {named}: correct `-e host=NAME`."}
        try:
            wanted = check(options, {app["name"]: app for app in options["apps"]})
        except Refused as refusal:
            return {"failed": True, "changed": False, "msg": str(refusal)}
        if here != host or self._task.check_mode:
            return {"skipped": True, "changed": False}
        answer: dict[str, Any] = self._execute_module(MODULE, module_args=wanted, task_vars=task_vars)
        if answer.get("failed") or answer.get("unreachable"):
            return answer
        now = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        file = Path(options["to"]).expanduser() / f"benchmark-{wanted['name']}-{host}-{now}.html"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(page.page(wanted, answer, host), encoding="utf-8")
        told = [*page.lines(wanted, answer, host), "", f"Plots, and what they do not show: {file.resolve()}"]
        self._display.display("\n".join([f"{here}:", *(f"  {line}".rstrip() for line in told)]))
        return {"changed": False, "file": str(file), "measured": answer["measured"]}
