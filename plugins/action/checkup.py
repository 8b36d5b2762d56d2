"""Action plugin: look at a host with the module of the same name, and say what is wrong with it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from ansible import context
from ansible_collections.flaskops.emperor.plugins.module_utils import emperor_unit
from ansible_collections.flaskops.emperor.plugins.plugin_utils.checkup import app as app_checks
from ansible_collections.flaskops.emperor.plugins.plugin_utils.checkup import drift
from ansible_collections.flaskops.emperor.plugins.plugin_utils.checkup import host as host_checks
from ansible_collections.flaskops.emperor.plugins.plugin_utils.checkup.case import Case
from ansible_collections.flaskops.emperor.plugins.plugin_utils.checkup.problem import Commands, Problem
from ansible_collections.flaskops.emperor.plugins.plugin_utils.checkup.status import row
from ansible_collections.flaskops.emperor.plugins.plugin_utils.host_action import HostAction

MODULE = "flaskops.emperor.checkup"
Apps = dict[str, Mapping[str, Any]]
UNITS = ("nginx.service", "emperor.service", "emperor-memory-guard.service")

OPTIONS: dict[str, dict[str, Any]] = {
    "plan": {"type": "dict", "required": True},
    "drift": {"type": "dict", "default": {}},
    "only_drift": {"type": "bool", "default": False},
    "directory": {"type": "str", "required": True},
    "root": {"type": "str", "required": True},
    "nginx": {"type": "str", "required": True},
    "port": {"type": "int", "required": True},
    "domain": {"type": "str", "default": ""},
}


def commands(task_vars: Mapping[str, Any], host: str) -> Commands:
    """The commands of cures, with the names by which this run knows inventory and playbooks."""
    inventories = context.CLIARGS.get("inventory") or ()
    playbooks = str(task_vars.get("playbook_dir", "playbooks"))
    near = os.path.relpath(playbooks)
    return Commands(host, tuple(inventories), near if not near.startswith("..") else playbooks)


def diagnose(options: Mapping[str, Any], planned: Apps, found: Mapping[str, Any], cures: Commands) -> list[Problem]:
    """All that is wrong with a host.

    :param planned: what the plan says of the apps that are to be present.
    :param found: what the module says of the host.
    """
    host, port = found["host"], options["port"]
    problems = host_checks.diagnose(host, planned, cures, drift.managed(options["drift"]), port, options["root"])
    if options["domain"]:
        problems += host_checks.name_unknown(options["domain"], planned, cures)
    emperor = host["units"]["emperor.service"]["active"]
    for name, one in planned.items():
        problems += app_checks.diagnose(Case(name, found["apps"][name], one, host, cures, emperor), problems)
    # A drop-in by which the kernel's limit came is named with the killed workers.
    named = [problem for problem in problems if problem.app]
    problems = [one for one in problems if one.app or not set(one.evidence) & {p for n in named for p in n.explains}]
    return [*problems, *drift.problems(options["drift"], cures, problems)]


def differences(options: Mapping[str, Any], planned: Apps, found: Mapping[str, Any], cures: Commands) -> list[Problem]:
    """The files of a host that are not as the inventory says, and what else a run of site.yml would change."""
    problems = list(drift.problems(options["drift"], cures))
    for name, one in planned.items():
        if not found["apps"][name]["missing"]:
            case = Case(name, found["apps"][name], one, found["host"], cures)
            problems += [*app_checks.settings(case), *app_checks.others(case, health=False)]
    return problems


class ActionModule(HostAction):
    """Ansible's entry point."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Look, diagnose."""
        super().run(tmp, task_vars)
        _result, options = self.validate_argument_spec(OPTIONS)
        task_vars = task_vars or {}
        planned: Apps = {name: one for name, one in options["plan"]["apps"].items() if "workers" in one}
        arguments = {
            "apps": [
                {
                    "name": name,
                    "home": one["home"],
                    "run": one["run"],
                    "checks": [] if options["only_drift"] else one["checks"],
                }
                for name, one in planned.items()
            ],
            "units": [
                *UNITS,
                *(unit for name in planned for unit in (f"emperor@{name}.socket", emperor_unit.unit(name))),
            ],
            "ports": sorted({options["port"], *(one["port"] for one in planned.values())}),
            **{key: options[key] for key in ("directory", "root", "nginx", "port")},
        }
        began = time.time()
        found: dict[str, Any] = self._execute_module(MODULE, module_args=arguments, task_vars=task_vars)
        if found.get("failed") or found.get("unreachable"):
            return found
        # The host read its clock between these two.
        found["host"]["clock_off"] = max(began - found["host"]["now"], found["host"]["now"] - time.time(), 0)
        cures = commands(task_vars, task_vars.get("inventory_hostname", ""))
        problems = (differences if options["only_drift"] else diagnose)(options, planned, found, cures)
        return {
            "changed": False,
            "problems": [problem.data() for problem in problems],
            "lines": [problem.lines() for problem in problems],
            "apps": {name: row(one, found["apps"][name]) for name, one in planned.items()},
            "serving": {name: found["apps"][name].get("release", {}).get("serving", "") for name in planned},
        }
