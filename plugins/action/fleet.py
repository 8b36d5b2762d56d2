"""Action plugin: look at the plans of all hosts together. It runs once, on the machine that runs Ansible."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.flaskops.emperor.plugins.plugin_utils import fleet
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused

OPTIONS: dict[str, dict[str, Any]] = {
    # compare: fail when hosts differ. target: choose the release of a rollback. tell: say what each host serves.
    # errors: fail when the hosts of a batch answered with too many.
    "what": {"type": "str", "choices": ["compare", "target", "tell", "errors"], "required": True},
    "plans": {"type": "dict", "default": {}},
    "before": {"type": "list", "elements": "dict", "default": []},
    "after": {"type": "list", "elements": "dict", "default": []},
    "hosts": {"type": "list", "elements": "str", "default": []},
    "percent": {"type": "int", "default": 0},
    "apps": {"type": "list", "elements": "str", "default": []},
    "release": {"type": "str", "default": ""},
    "cure": {"type": "str", "default": ""},
}


class ActionModule(ActionBase):
    """Ansible's entry point."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Compare, choose or tell."""
        super().run(tmp, task_vars)
        _result, options = self.validate_argument_spec(OPTIONS)
        plans = options["plans"]
        if options["what"] == "target":
            try:
                targets = {name: fleet.target(name, plans, options["release"]) for name in options["apps"]}
                found = {name: fleet.staged(name, plans, release) for name, release in targets.items()}
                return {
                    "changed": False,
                    "targets": targets,
                    "staged": {name: one for name, one in found.items() if one},
                }
            except Refused as refusal:
                return {"failed": True, "changed": False, "msg": str(refusal)}
        if options["what"] == "errors":
            try:
                fleet.check_errors(*(options[name] for name in ("before", "after", "hosts", "apps", "percent")))
            except Refused as refusal:
                return {"failed": True, "changed": False, "msg": str(refusal)}
            return {"changed": False}
        mixed = fleet.mixed(plans)
        if options["what"] == "compare":
            return {"failed": bool(mixed), "changed": False, "msg": " ".join(mixed)}
        lines = ["The run failed. Now:", *(f"  {line}" for line in fleet.told(plans))]
        away = [name for name, plan in plans.items() if not plan]
        if away:
            names = ", ".join(away)
            lines.append(f"  Bring {names} back, or go on without with -e allow_missing=1. Then, for one release:")
            lines.append(f"  {options['cure']}")
        elif mixed:
            lines.append(f"  To bring all hosts to one release: {options['cure']}")
        self._display.display("\n".join(lines))
        return {"changed": False}
