#!/usr/bin/python
"""Ansible module: what a role must know of a host before it changes anything, in one execution."""

from __future__ import annotations

import glob
import importlib.util
import os
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils import system
from ansible_collections.flaskops.emperor.plugins.module_utils.entries import Entry
from ansible_collections.flaskops.emperor.plugins.module_utils.module import Module

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
  files:
    description: Files and directories to compare, see the module M(flaskops.emperor.files).
    type: list
    elements: dict
    default: []
  services:
    description: For units that are to run, the files from which each takes its configuration.
    type: dict
    default: {}
  tools:
    description: Virtualenvs, each with its C(path) and the C(package) in it, with its version.
    type: list
    elements: dict
    default: []
  role:
    description:
      - The C(name) of a role, the versions of each distribution on which it is C(tested), and whether the user lets it
        run elsewhere (C(allow_untested)). On another system the task fails, with the name of the variable that allows
        it.
      - Its C(faults) are sentences about settings that cannot work. With any, the task fails before it looks.
    type: dict
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
  description:
    - For every unit, those of O(services) too, whether it is C(there), C(active), C(enabled) and C(stale) (changed on
      disk since), and C(since) when it is in its state.
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
differing:
  description: Those of O(files) that are not as they should be.
  type: list
  elements: str
  returned: always
outdated:
  description:
    - Those of O(services) that do not run, do not start at boot, or do not run what is on disk, see the module
      M(flaskops.emperor.service_current).
  type: list
  elements: str
  returned: always
untooled:
  description: Those of O(tools) that are not there.
  type: list
  elements: str
  returned: always
system:
  description: The C(distribution), its C(version), and whether C(systemd) runs the host.
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


def outdated(found: dict[str, dict[str, Any]], services: dict[str, list[str]]) -> list[str]:
    """The services that do not run what is on disk, or would not after a reboot.

    :param found: what `system.units` says of them.
    """
    return [
        name
        for name, files in services.items()
        if found[name]["stale"] or not found[name]["enabled"] or system.outdated(found[name], files)
    ]


def main() -> None:
    """Look, answer."""
    names, entries = ("packages", "units", "paths", "read"), ("files", "tools")
    module = Module(
        argument_spec={
            **{name: {"type": "list", "elements": "str", "default": []} for name in names},
            **{name: {"type": "list", "elements": "dict", "default": []} for name in entries},
            "services": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    params = dict(module.params)
    # The contents would stand in the answer.
    module.params["files"] = [given["path"] for given in params["files"]]
    distribution, version = system.distribution()
    units = system.units([*dict.fromkeys([*params["units"], *params["services"]])])
    module.exit_json(
        changed=False,
        missing=system.missing(params["packages"]),
        units=units,
        paths={pattern: sorted(glob.glob(pattern)) for pattern in params["paths"]},
        read={path: content(path) for path in params["read"]},
        differing=[given["path"] for given in params["files"] if not Entry(given).right()],
        outdated=outdated(units, params["services"]),
        untooled=[one["path"] for one in params["tools"] if not system.has_tool(one["path"], one["package"])],
        system={"distribution": distribution, "version": version, "systemd": os.path.isdir("/run/systemd/system")},
        apt=importlib.util.find_spec("apt") is not None,
    )


if __name__ == "__main__":
    main()
