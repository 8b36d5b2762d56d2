#!/usr/bin/python
"""Ansible module: change files of nginx's configuration, never to something nginx would refuse."""

from __future__ import annotations

import os

from ansible_collections.flaskops.emperor.plugins.module_utils import configuration, nginx
from ansible_collections.flaskops.emperor.plugins.module_utils.module import Module

DOCUMENTATION = r"""
module: nginx_config
short_description: Change files of nginx's configuration, never to something nginx would refuse
version_added: 1.0.0
description:
  - Puts the new files into a copy of the whole configuration and lets nginx test that copy. Only then each file is put
    in its place, in one step. A faulty file therefore never is on disk, not even for a moment or after a killed run.
  - Only O(reload) lets nginx read them, see M(flaskops.emperor.service_current).
options:
  files:
    description:
      - Several files, each with the C(path), C(content) and C(state) of one. They are tested together.
    type: list
    elements: dict
  path:
    description: The file, below O(root). Needed without O(files).
    type: path
  content:
    description: Its content. Needed when O(state=present).
    type: str
  state:
    description: Whether the file is there.
    type: str
    choices: [present, absent]
    default: present
  reload:
    description: Whether nginx reloads its configuration when a file of it changed since it last did.
    type: bool
    default: false
  root:
    description: Directory of nginx's configuration; its C(nginx.conf) must include the other files by relative paths.
    type: path
    default: /etc/nginx
attributes:
  check_mode:
    description:
      - Tests the files where nginx is installed already. Where nginx refuses what is on disk now, nothing is tested, as
        an earlier task of the same run may be what corrects that.
    support: full
  diff_mode:
    description: Shows the change of the file.
    support: full
author:
  - flaskops maintainers (@flaskops)
"""

EXAMPLES = r"""
- name: Write a site
  flaskops.emperor.nginx_config:
    path: /etc/nginx/sites-enabled/shop.conf
    content: "{{ lookup('ansible.builtin.template', 'site.conf.j2') }}"
"""

RETURN = r"""
tested:
  description: Whether nginx tested the change. In check mode it may not be able to.
  type: bool
  returned: always
"""


def wanted(module: Module) -> configuration.Texts:
    """The text of every file; None for one that is to be absent."""
    root, found = module.params["root"], nginx.texts(module.params["files"] or [module.params])
    for path in found:
        if os.path.relpath(path, root).startswith(".."):
            module.fail_json(msg=f"path is {path}, which is not below {root}: choose a file of nginx's configuration.")
    return found


def main() -> None:
    """Compare, test, replace."""
    module = Module(
        argument_spec={
            "files": {"type": "list", "elements": "dict"},
            "path": {"type": "path"},
            "content": {"type": "str"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "reload": {"type": "bool", "default": False},
            "root": {"type": "path", "default": "/etc/nginx"},
        },
        required_one_of=[("files", "path")],
        mutually_exclusive=[("files", "path"), ("files", "content")],
        supports_check_mode=True,
    )
    root = module.params["root"]
    if module.params["path"] and module.params["state"] == "present" and module.params["content"] is None:
        module.fail_json(msg="content is missing: write it, or set state to absent.")
    changes, tested = nginx.tested(module, root, wanted(module), pending=False)
    diff = nginx.write(module, changes)
    done = nginx.reload(module, root) if module.params["reload"] else []
    shown = {"diff": diff if module.params["files"] else diff[0]} if changes else {}
    module.exit_json(changed=bool(changes or done), tested=tested, **shown)


if __name__ == "__main__":
    main()
