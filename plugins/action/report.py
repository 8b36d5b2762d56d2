"""Action plugin: print what `checkup` found on all hosts, and fail when something is wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.flaskops.emperor.plugins.action.checkup import commands
from ansible_collections.flaskops.emperor.plugins.plugin_utils.checkup import fleet, status

OPTIONS: dict[str, dict[str, Any]] = {
    "kind": {"type": "str", "choices": ["status", "doctor", "drift"], "required": True},
    "format": {"type": "str", "choices": ["text", "json"], "default": "text"},
    "hosts": {"type": "dict", "required": True},
}
FINE = {
    "status": "Nothing is wrong.",
    "doctor": "Nothing is wrong.",
    "drift": "Nothing differs from the inventory.",
}


def text(kind: str, hosts: Mapping[str, Mapping[str, Any]], mixed: list[dict[str, Any]]) -> list[str]:
    """The report for a person."""
    found = []
    if kind == "status":
        rows = {host: one["apps"] for host, one in hosts.items() if one}
        marked = [(host, app) for host, one in hosts.items() if one for app in one["apps"]
                  if any(problem["app"] in ("", app) for problem in one["problems"])]  # fmt: skip
        marked += [(host, problem["app"]) for problem in mixed for host in hosts]
        found += [*status.table(rows, marked), "", *status.reasons(rows), *status.side_processes(rows), ""]
    for host in sorted(hosts):
        if not hosts[host]:
            found += [f"{host}: could not be looked at, see above.", ""]
            continue
        lines = hosts[host]["lines"]
        if lines:
            found.append(f"{host}: {len(lines)} problem{'s' if len(lines) > 1 else ''}")
        for number, several in enumerate(lines, 1):
            # A table has no room for cures: doctor.yml has.
            shown = several[:1] if kind == "status" else several
            found += [f"  {number}. {shown[0]}", *(f"  {line}" for line in shown[1:])]
        if lines:
            found.append("")
    if mixed:
        found.append("between the hosts:")
    for problem in mixed:
        found += [f"  - {problem['what']}", *(f"     {line}" for line in problem["evidence"])]
        found.append(f"     cure: {problem['cure']}")
    return found


class ActionModule(ActionBase):
    """Ansible's entry point."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Print, then fail or not."""
        super().run(tmp, task_vars)
        _result, options = self.validate_argument_spec(OPTIONS)
        kind, hosts = options["kind"], options["hosts"]
        serving = {host: {app: {"release": {"serving": release}} for app, release in one["serving"].items()}
                   for host, one in hosts.items() if one and "serving" in one}  # fmt: skip
        mixed = [problem.data() for problem in fleet.mixed(serving, commands(task_vars or {}, "all"))]
        count = len(mixed) + sum(len(one["problems"]) for one in hosts.values() if one)
        blind = sorted(host for host, one in hosts.items() if not one)
        if options["format"] == "json":
            told = {host: {"apps": one.get("apps", {}), "problems": one["problems"]} if one else None
                    for host, one in hosts.items()}  # fmt: skip
            self._display.display(json.dumps({"hosts": told, "problems": mixed}, indent=1, sort_keys=True))
        else:
            lines = text(kind, hosts, mixed)
            self._display.display("\n".join([*lines, *([FINE[kind]] if not count and not blind else [])]))
        if not count and not blind:
            return {"changed": False}
        more = "" if kind != "status" else " playbooks/doctor.yml says more and how to cure them."
        said = f"{count} problem{'s' if count != 1 else ''} found, see above.{more}"
        return {
            "changed": False,
            "failed": True,
            "msg": said if count else f"{', '.join(blind)} could not be looked at.",
        }
