#!/usr/bin/python
"""Ansible module: a virtualenv of root's with one tool in it."""

from __future__ import annotations

import os

from ansible_collections.flaskops.emperor.plugins.module_utils.module import Module
from ansible_collections.flaskops.emperor.plugins.module_utils.releases.install import split_arguments
from ansible_collections.flaskops.emperor.plugins.module_utils.system import has_tool

DOCUMENTATION = r"""
module: tool_virtualenv
short_description: A virtualenv with one tool in it
version_added: 1.0.0
description:
  - Makes a virtualenv, and installs one version of one package into it.
  - The address of an index may have a password. pip gets it in its environment, which root alone can read, and not as
    an argument, which every user of the host finds in the list of processes.
  - Changes nothing when that version is there.
options:
  path:
    description: Directory of the virtualenv.
    type: path
    required: true
  package:
    description: The package and its version, like C(uv==0.9.2).
    type: str
    required: true
  interpreter:
    description: The Python from which the virtualenv is made.
    type: path
    default: /usr/bin/python3
  arguments:
    description: Further arguments for C(pip install). They are not logged.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: Says whether it would install something.
    support: full
author:
  - flaskops maintainers (@flaskops)
"""

EXAMPLES = r"""
- name: Install uv
  flaskops.emperor.tool_virtualenv:
    path: /opt/tools
    package: uv==0.9.2
    arguments: [--index-url, "https://robot:{{ index_password }}@packages.example.com/simple"]
"""

RETURN = r"""
# Nothing besides what every module returns.
"""

VARIABLES = {"UV_DEFAULT_INDEX": "PIP_INDEX_URL", "UV_INDEX": "PIP_EXTRA_INDEX_URL"}


def main() -> None:
    """Look, make, install."""
    module = Module(
        argument_spec={
            "path": {"type": "path", "required": True},
            "package": {"type": "str", "required": True},
            "interpreter": {"type": "path", "default": "/usr/bin/python3"},
            "arguments": {"type": "list", "elements": "str", "default": [], "no_log": True},
        },
        supports_check_mode=True,
    )
    path, package = module.params["path"], module.params["package"]
    if has_tool(path, package):
        module.exit_json(changed=False)
    if module.check_mode:
        module.exit_json(changed=True)
    words, indexes = split_arguments(module.params["arguments"])
    variables = {VARIABLES[variable]: value for variable, value in indexes.items()}
    pip = os.path.join(path, "bin/pip")
    commands = [[pip, "install", "--quiet", "--disable-pip-version-check", package, *words]]
    if not os.path.exists(pip):
        commands.insert(0, [module.params["interpreter"], "-m", "venv", path])
    for command in commands:
        code, output, errors = module.run_command(command, environ_update=variables)
        if code != 0:
            module.fail_json(msg=f"{package} cannot be installed into {path}: {(errors or output).strip()}")
    module.exit_json(changed=True)


if __name__ == "__main__":
    main()
