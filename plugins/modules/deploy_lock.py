#!/usr/bin/python
"""Ansible module: who may change a host; the action plugin of the same name decides who waits and who takes over."""

from __future__ import annotations

import json
import os
import time
import uuid
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flaskops.emperor.plugins.module_utils import exclusive, host

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
      - V(free) gives it back. The lock of another run is left alone.
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

# Seconds. A run that lives seldom leaves a host alone for longer: what takes long (requirements, the start of an app,
# hooks) are modules which mark their end, see `exclusive`, and a host only idles while slower ones catch up.
LAPSE = 15 * 60
RUN: dict[str, Any] = {"controller": str, "system": str, "user": str, "pid": int, "start": int}  # what tells runs apart
FIELDS = {**RUN, "token": str, "since": (int, float)}


def read(path: str) -> dict[str, Any] | None:
    """The holder of the lock: None when there is none, an empty dictionary when the file is not one of ours."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            holder = json.load(file)
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    ours = isinstance(holder, dict) and all(isinstance(holder.get(name), kind) for name, kind in FIELDS.items())
    return holder if ours else {}


def write(path: str, holder: dict[str, Any]) -> None:
    """Put the file in its place in one step, readable for root alone."""
    host.write(path, json.dumps(holder, indent=1, sort_keys=True), os.getuid(), os.getgid(), mode=0o600)


def same(holder: dict[str, Any], owner: dict[str, Any]) -> bool:
    """Whether both are one run."""
    return all(holder.get(name) == owner[name] for name in RUN)


def take(path: str, owner: dict[str, Any], replace: str) -> dict[str, Any] | None:
    """Take the lock, or keep it, unless another run has it. Returns that one, or None.

    :param replace: token of a lock to take from its holder.
    """
    holder = read(path)
    if holder is not None:
        if same(holder, owner):
            os.utime(path)
            return None
        idle = time.time() - max(os.stat(path).st_mtime, exclusive.last_used())
        if idle <= LAPSE and not (replace and holder.get("token") == replace):
            return holder
    write(path, {**{name: owner[name] for name in RUN}, "token": uuid.uuid4().hex, "since": time.time()})
    return None


def main() -> None:
    """Take the lock, or give it back, while no other module runs."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["held", "free"], "required": True},
            "path": {"type": "path", "default": "/run/flask_apps.json"},
            "wait": {"type": "int", "default": 300},
            "owner": {"type": "dict"},
            "replace": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    path, owner = module.params["path"], module.params["owner"]
    if module.check_mode:
        module.exit_json(changed=False, held=False, busy="")
    if owner is None or not all(isinstance(owner.get(name), kind) for name, kind in RUN.items()):
        module.fail_json(msg="owner is missing: call this module as a task, so that its action plugin can fill it in.")
    answer: dict[str, Any] = {"changed": False, "held": False, "busy": ""}
    try:
        with exclusive.exclusive(seconds=module.params["wait"], mark=False):
            if module.params["state"] == "held":
                holder = take(path, owner, module.params["replace"])
                answer["held"] = holder is None
            else:
                holder = read(path)
                if holder is not None and same(holder, owner):
                    os.unlink(path)
                    holder = None
    except exclusive.Busy as reason:
        holder = read(path)
        answer["busy"] = str(reason)
    except PermissionError as error:
        module.fail_json(msg=f"Only root may change this host ({error}): set `become: true`.")
    if holder is not None:
        answer["holder"] = holder
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
