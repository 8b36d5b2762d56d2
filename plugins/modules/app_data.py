#!/usr/bin/python
"""Ansible module: keep or take back the configuration files that came with a release."""

from __future__ import annotations

from ansible_collections.flaskops.emperor.plugins.module_utils.exclusive import Busy, exclusive
from ansible_collections.flaskops.emperor.plugins.module_utils.module import Module
from ansible_collections.flaskops.emperor.plugins.module_utils.releases import settings_files
from ansible_collections.flaskops.emperor.plugins.module_utils.releases.registry import Releases

DOCUMENTATION = r"""
module: app_data
short_description: Keep or take back the configuration files of an app
version_added: 1.0.0
description:
  - The module M(flaskops.emperor.release) replaces the set of an app's configuration files in one step. The set before
    stays until this module forgets it or goes back to it.
options:
  name:
    description: The app's name.
    type: str
    required: true
  home:
    description: Directory of the app, which holds C(releases) and C(shared).
    type: path
    required: true
  state:
    description: V(committed) forgets the files of before; V(reverted) goes back to them instead.
    type: str
    choices: [committed, reverted]
    required: true
attributes:
  check_mode:
    description: Does nothing then, as no file was replaced.
    support: full
author:
  - flaskops maintainers (@flaskops)
"""

EXAMPLES = r"""
- name: Forget the files of before
  flaskops.emperor.app_data:
    name: shop
    home: /srv/flask_apps/shop
    state: committed
"""

RETURN = r"""
# Nothing besides what every module returns.
"""

STATES = {"committed": settings_files.commit, "reverted": settings_files.revert}


def main() -> None:
    """Do it while no other module runs."""
    module = Module(
        argument_spec={
            "name": {"type": "str", "required": True},
            "home": {"type": "path", "required": True},
            "state": {"type": "str", "choices": [*STATES], "required": True},
        },
        supports_check_mode=True,
    )
    params = module.params
    if module.check_mode:
        module.exit_json(changed=False)
    try:
        with exclusive():
            changed = STATES[params["state"]](Releases(params["home"]))
    except Busy as reason:
        module.fail_json(msg=str(reason))
    except OSError as reason:
        module.fail_json(msg=f"The files of {params['name']} stay as they are: {reason}")
    module.exit_json(changed=changed)


if __name__ == "__main__":
    main()
