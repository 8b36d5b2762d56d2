#!/usr/bin/python
"""Ansible module: who may change a host; the action plugin of the same name decides who waits and who takes over."""

from __future__ import annotations

from ansible_collections.flaskops.emperor.plugins.module_utils import lock
from ansible_collections.flaskops.emperor.plugins.module_utils.module import Module

DOCUMENTATION = r"""
module: deploy_lock
short_description: Let one run of Ansible at a time change a host
version_added: 1.0.0
description:
  - A second run waits until the first one has ended, and fails with a sentence when that takes too long.
  - A run that was killed blocks no other run on the machine it was started on, where its process is seen to be gone.
    For runs of other machines its lock lapses after 15 minutes in which no module ran on the host.
  - The lock is a file that says who holds it. That is no change of the host, so nothing is ever reported as changed.
options:
  state:
    description:
      - V(held) takes the lock for this run of C(ansible-playbook), or keeps it.
      - V(free) gives it back. The lock of another run is left alone. The action plugin does that without the module.
    type: str
    choices: [held, free]
    required: true
  path:
    description: The file.
    type: path
    default: /run/flask_apps.json
  wait:
    description: Seconds to wait for another run.
    type: int
    default: 300
  owner:
    description: The run. Set by the action plugin.
    type: dict
  replace:
    description: Token of a lock whose run is gone. Set by the action plugin.
    type: str
    default: ""
attributes:
  check_mode:
    description: Does nothing, for such a run changes nothing.
    support: full
author:
  - flaskops maintainers (@flaskops)
"""

EXAMPLES = r"""
- name: Change the host, one run at a time
  block:
    - name: Wait for other runs
      flaskops.emperor.deploy_lock:
        state: held

    - name: Change it
      ansible.builtin.include_tasks: change.yml
  always:
    - name: Let other runs go on
      flaskops.emperor.deploy_lock:
        state: free
"""

RETURN = r"""
held:
  description: Whether this run holds the lock now.
  type: bool
  returned: always
holder:
  description: The other run that holds it; empty when its file says nothing of the kind.
  type: dict
  returned: when another run holds it
busy:
  description: Why nothing was decided, because another module runs on the host; empty when it was.
  type: str
  returned: always
"""


def main() -> None:
    """Take the lock, or keep it."""
    module = Module(
        argument_spec={
            "path": {"type": "path", "default": lock.PATH},
            "wait": {"type": "int", "default": 300},
            "owner": {"type": "dict"},
            "replace": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=False, held=False, busy="")
    try:
        answer = lock.decide(**module.params)
    except lock.Refused as reason:
        module.fail_json(msg=str(reason))
    module.exit_json(changed=False, **answer)


if __name__ == "__main__":
    main()
