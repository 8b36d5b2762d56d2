"""Action plugin: look at the plans of all hosts together. It runs once, on the machine that runs Ansible."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.flaskops.emperor.plugins.plugin_utils import fleet
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused

OPTIONS: dict[str, dict[str, Any]] = {
    # reach: fail when a host is missing, or the canary is. target: choose the release of a rollback. tell: say what
    # each host serves. errors: fail when a batch of hosts answered with too many. compare: fail when hosts differ.
    "what": {"type": "str", "choices": ["reach", "target", "tell", "errors", "compare"], "required": True},
    "missing": {"type": "list", "elements": "str", "default": []},
    "allow_missing": {"type": "bool", "default": False},
    "canary": {"type": "str", "default": ""},
    "seconds": {"type": "int", "default": 0},
    "plans": {"type": "dict", "default": {}},
    "before": {"type": "list", "elements": "dict", "default": []},
    "after": {"type": "list", "elements": "dict", "default": []},
    "hosts": {"type": "list", "elements": "str", "default": []},
    "percent": {"type": "int", "default": 100},
    "apps": {"type": "list", "elements": "str", "default": []},
    "release": {"type": "str", "default": ""},
    "cure": {"type": "str", "default": ""},
}


class ActionModule(ActionBase):
    """Ansible's entry point."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Do what is asked for."""
        super().run(tmp, task_vars)
        _result, options = self.validate_argument_spec(OPTIONS)
        try:
            answer: dict[str, Any] = getattr(self, f"_{options['what']}")(options)
        except Refused as refusal:
            return {"failed": True, "changed": False, "msg": str(refusal)}
        return {"changed": False, **answer}

    def _reach(self, options: Mapping[str, Any]) -> dict[str, Any]:
        missing = options["missing"]
        fleet.check_strategy(self._task.get_play().strategy)
        fleet.check_missing(missing, options["allow_missing"])
        fleet.check_canary(options["canary"], options["hosts"], options["percent"], options["seconds"])
        if missing:
            self._display.display(
                f"{', '.join(missing)} is left out and keeps what it has. When it is back, run this playbook again: it "
                "then gets the same release as the other hosts."
            )
        return {}

    def _target(self, options: Mapping[str, Any]) -> dict[str, Any]:
        plans = options["plans"]
        targets = {name: fleet.target(name, plans, options["release"]) for name in options["apps"]}
        found = {name: fleet.staged(name, plans, release) for name, release in targets.items()}
        return {"targets": targets, "staged": {name: one for name, one in found.items() if one}}

    def _errors(self, options: Mapping[str, Any]) -> dict[str, Any]:
        fleet.check_errors(*(options[name] for name in ("before", "after", "hosts", "apps", "percent")))
        return {}

    def _compare(self, options: Mapping[str, Any]) -> dict[str, Any]:
        if mixed := fleet.mixed(options["plans"]):
            raise Refused(" ".join(mixed))
        return {}

    def _tell(self, options: Mapping[str, Any]) -> dict[str, Any]:
        plans = options["plans"]
        lines = ["The run failed. Now:", *(f"  {line}" for line in fleet.told(plans))]
        away = [name for name, plan in plans.items() if not plan]
        if away:
            names = ", ".join(away)
            lines.append(f"  Bring {names} back, or go on without with -e allow_missing=1. Then, for one release:")
            lines.append(f"  {options['cure']}")
        elif fleet.mixed(plans):
            lines.append(f"  To bring all hosts to one release: {options['cure']}")
        self._display.display("\n".join(lines))
        return {}
