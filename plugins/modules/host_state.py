#!/usr/bin/python
"""Ansible module: what a role must know of a host before it changes anything, in one execution."""

from __future__ import annotations

import glob
import importlib.util

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flaskops.emperor.plugins.module_utils import system

DOCUMENTATION = r"""
module: host_state
short_description: What a role must know of a host, in one execution
version_added: 1.0.0
description:
  - Tells which packages are missing, which units run and which files are there, so that the tasks that would change
    them run only where something differs. Changes nothing.
options:
  packages:
    description: Debian packages to look for.
    type: list
    elements: str
    default: []
  units:
    description: Units of systemd to look at; a pattern stands for all loaded units that it matches.
    type: list
    elements: str
    default: []
  paths:
    description: Patterns of paths to look for.
    type: list
    elements: str
    default: []
  read:
    description: Files to read, of a few bytes each.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: Only reads.
    support: full
author:
  - flaskops maintainers (@flaskops)
"""

EXAMPLES = r"""
- name: Look at the host
  flaskops.emperor.host_state:
    packages: [nginx]
    units: [nginx.service]
    paths: [/etc/nginx/sites-enabled/*]
"""

RETURN = r"""
missing:
  description: Packages that are not installed.
  type: list
  elements: str
  returned: always
units:
  description: For every unit whether it is C(there), C(active), C(enabled) and C(stale) (changed on disk since).
  type: dict
  returned: always
paths:
  description: The paths that are there, by pattern.
  type: dict
  returned: always
read:
  description: What the files hold, without white space around it; empty for a file that is not there.
  type: dict
  returned: always
apt:
  description: Whether the module P(ansible.builtin.apt#module) can look up packages, also in check mode.
  type: bool
  returned: always
"""


def content(path: str) -> str:
    """The text of a file; empty when it is not there."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(4096).strip()
    except OSError:
        return ""


def main() -> None:
    """Look, answer."""
    names = ("packages", "units", "paths", "read")
    module = AnsibleModule(
        argument_spec={name: {"type": "list", "elements": "str", "default": []} for name in names},
        supports_check_mode=True,
    )
    module.exit_json(
        changed=False,
        missing=system.missing(module.params["packages"]),
        units=system.units(module.params["units"]),
        paths={pattern: sorted(glob.glob(pattern)) for pattern in module.params["paths"]},
        read={path: content(path) for path in module.params["read"]},
        apt=importlib.util.find_spec("apt") is not None,
    )


if __name__ == "__main__":
    main()
