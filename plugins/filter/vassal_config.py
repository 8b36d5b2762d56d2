"""Filters: the vassal of an app as data, the environment of a command in one of its releases, its side processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"vassal_config": vassal_config, "app_environment": app_environment, "app_sides": sides}
