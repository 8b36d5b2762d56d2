#!/usr/bin/python
"""Ansible module: what the workers of one app do now."""

from __future__ import annotations

import os
import pwd
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flaskops.emperor.plugins.module_utils import control_group, processes, uwsgi_client
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.slots import SLOTS, Slot

DOCUMENTATION = r"""
module: app_status
short_description: What the workers of one app do now
version_added: 1.0.0
description:
  - Reads the statistics and the memory of an app's instances, of which there are two during a switch.
options:
  name:
    description: Name of the app, also its Unix user.
    type: str
    required: true
  directory:
    description: Directory of the vassal files.
    type: path
    required: true
  run:
    description: Directory of the app's sockets.
    type: path
    required: true
attributes:
  check_mode:
    description: Only reads.
    support: full
author:
  - flaskops maintainers (@flaskops)
"""

EXAMPLES = r"""
- name: Look at the shop
  flaskops.emperor.app_status:
    name: shop
    directory: /etc/emperor/vassals
    run: /run/emperor/shop
"""

RETURN = r"""
workers:
  description: Workers that accept requests.
  type: int
  returned: always
busy:
  description: Requests that run.
  type: int
  returned: always
replaced:
  description: Workers that were started again since their instance was.
  type: int
  returned: always
memory:
  description: Bytes that all processes of the app's instances use; null when the kernel does not tell.
  type: int
  returned: always
killed:
  description: Processes that the kernel killed at the app's memory limit since the Emperor started.
  type: int
  returned: always
"""


def look(name: str, directory: str, run: str) -> dict[str, Any]:
    """Count the workers of an app and what they use."""
    found: dict[str, Any] = {"workers": 0, "busy": 0, "replaced": 0, "memory": None, "killed": 0}
    if group := control_group.of_app(name):
        found["killed"] = control_group.killed(group)
    running = []
    for which in SLOTS:
        slot = Slot(name, which, directory, run)
        if not os.path.exists(slot.file):
            continue
        running += slot.instance()
        try:
            told = uwsgi_client.statistics(slot.stats, timeout=2)
        except (OSError, ValueError):
            continue  # it starts, or it hangs: then it has no workers that accept
        for worker in told["workers"]:
            found["workers"] += worker["accepting"]
            found["busy"] += sum(core["in_request"] for core in worker["cores"])
            found["replaced"] += max(worker["respawn_count"] - 1, 0)
    if running:
        user = pwd.getpwnam(name)
        try:
            found["memory"] = processes.memory(running, user.pw_uid, user.pw_gid).total
        except OSError:  # not told, or one ended meanwhile
            return found
    return found


def main() -> None:
    """Answer what is there now."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "directory": {"type": "path", "required": True},
            "run": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    module.exit_json(changed=False, **look(**module.params))


if __name__ == "__main__":
    main()
