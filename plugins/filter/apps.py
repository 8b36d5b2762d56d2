"""Filter: the `flask_apps` list a user wrote, complete and checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings import apps as settings
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.building import build_options
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused

DOCUMENTATION = r"""
name: apps
short_description: Complete and check a list of WSGI applications
version_added: 1.0.0
description:
  - Fills in the default of every option and derives the paths, limits and timeouts of each app.
  - Fails with one sentence that names the variable and the cure when the list contradicts itself.
positional: _input
options:
  _input:
    description: The value of C(flask_apps).
    type: list
    elements: dict
    required: true
  root:
    description: Directory under which every app gets a directory of its own.
    type: str
    default: /srv/flask_apps
  run:
    description: Directory under which every app gets a directory for its sockets.
    type: str
    default: /run/emperor
  headers:
    description: The value of C(flask_apps_security_headers).
    type: dict
  tls:
    description: The value of C(flask_apps_tls).
    type: dict
    default: {}
author:
  - flaskops maintainers (@flaskops)
"""

EXAMPLES = r"""
- name: Show what the roles make of the list
  ansible.builtin.debug:
    msg: "{{ flask_apps | flaskops.emperor.apps }}"
"""

RETURN = r"""
_value:
  description: The same apps, complete, in the same order.
  type: list
  elements: dict
"""


def apps(entries: Iterable[Mapping[str, Any]], **options: Any) -> list[dict[str, Any]]:
    """Complete and check a list of apps, see `complete_apps`.

    :raises AnsibleFilterError: with one sentence naming the variable and the cure.
    """
    try:
        return settings.complete_apps(entries, **options)
    except Refused as refusal:
        raise AnsibleFilterError(str(refusal)) from refusal


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"apps": apps, "build_options": build_options}
