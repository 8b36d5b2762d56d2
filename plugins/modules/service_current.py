#!/usr/bin/python
"""Ansible module: make a systemd unit run what is on disk."""

from __future__ import annotations

from ansible_collections.flaskops.emperor.plugins.module_utils import service
from ansible_collections.flaskops.emperor.plugins.module_utils.module import Module

DOCUMENTATION = r"""
module: service_current
short_description: Make a systemd unit run what is on disk
version_added: 1.0.0
description:
  - Starts and enables a unit, and reloads or restarts it when one of its files changed after it last did so.
  - A handler is told of a change once. If that run is killed or fails before the handler, the service keeps running
    the old files for ever. This module compares times instead, so that the next run heals it, however it changed.
  - Changes nothing when the unit runs what is on disk.
options:
  name:
    description: The unit, with its suffix.
    type: str
    required: true
  files:
    description:
      - Files, directories (with all that is below them) and globs from which the unit takes its configuration.
      - A directory counts too, so that a removed file is noticed.
    type: list
    elements: str
    required: true
  action:
    description: What makes the unit read its files again.
    type: str
    choices: [reload, restart]
    required: true
  test:
    description:
      - Command that fails when the files are faulty. It runs before anything else; if it fails, the unit is left alone.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description:
      - Runs the test and says what would be done. Faulty files are only a warning, as an earlier task of the same run
        may be what corrects them.
    support: full
author:
  - flaskops maintainers (@flaskops)
"""

EXAMPLES = r"""
- name: Make nginx serve the sites on disk
  flaskops.emperor.service_current:
    name: nginx.service
    files: [/etc/nginx]
    action: reload
    test: [nginx, -t, -q]
"""

RETURN = r"""
done:
  description: What was done to the unit.
  type: list
  elements: str
  returned: always
  sample: [reload]
newer:
  description: A file that changed after the unit last read its files, if there is one.
  type: str
  returned: always
"""


def main() -> None:
    """Read the unit's state, compare, act."""
    module = Module(
        argument_spec={
            "name": {"type": "str", "required": True},
            "files": {"type": "list", "elements": "str", "required": True},
            "action": {"type": "str", "choices": ["reload", "restart"], "required": True},
            "test": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    name, action, test = (module.params[key] for key in ("name", "action", "test"))
    steps, newer = service.make_current(module, name, module.params["files"], action, test)
    module.exit_json(changed=bool(steps), done=steps, newer=newer)


if __name__ == "__main__":
    main()
