"""Filters: the vassal of an app as data, all that is told of it, the environment of a command, side processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.workers import steady, worker_plan
from ansible_collections.flaskops.emperor.plugins.plugin_utils.side_processes import sides
from ansible_collections.flaskops.emperor.plugins.plugin_utils.vassal_options import app_environment, vassal_config

DOCUMENTATION = r"""
name: vassal_config
short_description: The vassal of an app as data
version_added: 1.0.0
description:
  - Makes what the module M(flaskops.emperor.vassal) takes as O(flaskops.emperor.vassal#module:config) from the settings
    of an app.
positional: _input, plan, release
options:
  _input:
    description: An app, as the filter P(flaskops.emperor.apps#filter) completes it.
    type: dict
    required: true
  plan:
    description: Its workers, as the filter P(flaskops.emperor.worker_plan#filter) plans them.
    type: dict
    required: true
  release:
    description: ID of the release.
    type: str
    required: true
  uwsgi:
    description: Which uWSGI runs it.
    type: str
    choices: [pyuwsgi, distro]
    default: pyuwsgi
  backlog:
    description: Connections that wait for a free worker.
    type: int
    default: 1024
author:
  - flaskops maintainers (@flaskops)
"""

EXAMPLES = r"""
- name: Let the release run
  flaskops.emperor.vassal:
    name: shop
    directory: /etc/emperor/vassals
    run: /run/emperor/shop
    config: "{{ app | flaskops.emperor.vassal_config(plan=workers, release='3f2a9c01d4e5') }}"
"""

RETURN = r"""
_value:
  description: C(launch), a dict, and C(options), a list of name and value.
  type: dict
"""


AT_ONCE = 16  # health checks at a time, at most


def instance_options(
    apps: Sequence[Mapping[str, Any]],
    name: str,
    planned: Mapping[str, Any],
    machine: Mapping[str, Any],
    *,
    reserve: int,
    uwsgi: str,
    backlog: int,
    size: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """All that the module `vassal` is told of an instance, whatever it is to do.

    :param apps: all apps of the host, completed by `complete_apps`.
    :param planned: what the plan says of this app.
    :param machine: what it says of the host.
    :param reserve: MiB of memory that are for no app.
    :param uwsgi: which uWSGI runs it.
    :param backlog: connections that wait for a free worker.
    :param size: what its release uses with one worker; falsy before it is measured.
    :raises AnsibleFilterError: when its workers do not fit, with one sentence.
    """
    app = next(app for app in apps if app["name"] == name)
    try:
        workers = worker_plan(apps, name, machine["cpus"], steady(machine["memory"]), int(reserve), size)
    except Refused as refusal:
        raise AnsibleFilterError(str(refusal)) from refusal
    told = {
        **planned["instance"],
        "config": vassal_config(app, workers, planned["release"], uwsgi=uwsgi, backlog=int(backlog)),
        "memory_limit": workers["share"],
        # One more check than it answers at a time, so that the old instance cannot take them all; a large one needs
        # fewer.
        "through": {
            "port": planned["port"],
            "tls": planned["tls"],
            "at_once": min(AT_ONCE, workers["processes"] * workers["threads"] + 1),
        },
    }
    if app["workers"]["lazy_apps"] is None:  # with these options each worker loads the app itself
        lazy = vassal_config(app, {**workers, "lazy_apps": True}, planned["release"], uwsgi=uwsgi, backlog=int(backlog))
        told["lazily"] = lazy["options"]
    return told


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "vassal_config": vassal_config,
            "instance_options": instance_options,
            "app_environment": app_environment,
            "app_sides": sides,
        }
