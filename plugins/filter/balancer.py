"""Filters: what a load balancer must know of the apps and hosts behind it, complete and checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings import balancer as settings
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused

DOCUMENTATION = r"""
name: balancer
short_description: What a load balancer must know of the apps and hosts behind it
version_added: 1.0.0
description:
  - Where settings do not go together, it gives one sentence that names the variable and the cure instead.
positional: _input
options:
  _input:
    description: The settings of the role load_balancer, without their prefix.
    type: dict
    required: true
  hosts:
    description: The variables of the hosts behind it, by name.
    type: dict
    required: true
author:
  - flaskops maintainers (@flaskops)
"""

EXAMPLES = r"""
- name: Show the apps that are balanced
  ansible.builtin.debug:
    msg: "{{ settings | flaskops.emperor.balancer(hosts=web_hosts) }}"
"""

RETURN = r"""
_value:
  description:
    - The C(apps), each with its C(servers), the app that is the C(default), the C(longest) request, and what is
      C(virtual), empty unless balancers share addresses.
    - Or C(fault) alone, the sentence.
  type: dict
"""


def balancer(given: Mapping[str, Any], hosts: Mapping[str, Any]) -> dict[str, Any]:
    """Complete and check the settings of a balancer, see `complete_balancer`; or what is wrong, as ``fault``."""
    try:
        settings.certificate_names(given["certificates"])
        return settings.complete_balancer(given, hosts)
    except Refused as refusal:
        return {"fault": str(refusal)}


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"balancer": balancer}
