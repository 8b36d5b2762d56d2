#!/usr/bin/python
"""Ansible module: change files of nginx's configuration, never to something nginx would refuse."""

from __future__ import annotations

import os
import re

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flaskops.emperor.plugins.module_utils import configuration, host

DOCUMENTATION = r"""
module: nginx_config
short_description: Change files of nginx's configuration, never to something nginx would refuse
version_added: 1.0.0
description:
  - Puts the new files into a copy of the whole configuration and lets nginx test that copy. Only then each file is put
    in its place, in one step. A faulty file therefore never is on disk, not even for a moment or after a killed run.
  - Does not reload nginx, see M(flaskops.emperor.service_current).
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
  root:
    description: Directory of nginx's configuration; its C(nginx.conf) must include the other files by relative paths.
    type: path
    default: /etc/nginx
attributes:
  check_mode:
    description: Tests the file where nginx is installed already.
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
  description: Whether nginx tested the change (not in check mode on a host without nginx).
  type: bool
  returned: always
"""

PID = re.compile(r"^\s*pid\s+[^;]+;", re.MULTILINE)
LOG = re.compile(r"(?<=access_log )(/[^ ;]+)")


def adapted(text: str, copy: str) -> str:
    """A file as nginx can test it in a copy: in a dry run there may be no directory for a log yet."""
    log = os.path.join(os.path.dirname(copy), "log")
    return LOG.sub(lambda found: found[1] if os.path.isdir(os.path.dirname(found[1])) else log, text)


def command(nginx: str, copy: str) -> list[str]:
    """The test of a copy. It opens the pid file it is told of: not the one of the running nginx."""
    main_file = os.path.join(copy, "nginx.conf")
    pid = os.path.join(os.path.dirname(copy), "pid")
    configuration.put(main_file, f"pid {pid};\n" + PID.sub("", host.read(main_file) or ""))
    return [nginx, "-t", "-q", "-c", main_file]


def wanted(module: AnsibleModule) -> configuration.Texts:
    """The text of every file; None for one that is to be absent."""
    root, found = module.params["root"], {}
    for entry in module.params["files"] or [module.params]:
        path, state = entry["path"], entry.get("state") or "present"
        if os.path.relpath(path, root).startswith(".."):
            module.fail_json(msg=f"path is {path}, which is not below {root}: choose a file of nginx's configuration.")
        found[path] = entry.get("content") if state == "present" else None
    return found


def main() -> None:
    """Compare, test, replace."""
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "list", "elements": "dict"},
            "path": {"type": "path"},
            "content": {"type": "str"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "root": {"type": "path", "default": "/etc/nginx"},
        },
        required_one_of=[("files", "path")],
        mutually_exclusive=[("files", "path"), ("files", "content")],
        supports_check_mode=True,
    )
    root = module.params["root"]
    if module.params["path"] and module.params["state"] == "present" and module.params["content"] is None:
        module.fail_json(msg="content is missing: write it, or set state to absent.")
    changes = configuration.differing(wanted(module))
    if not changes:
        module.exit_json(changed=False, tested=False)

    nginx = module.get_bin_path("nginx", opt_dirs=["/usr/sbin"])
    if not nginx and not module.check_mode:
        module.fail_json(msg="nginx is not installed on this host: run the role flaskops.emperor.nginx first.")
    # In check mode on a bare host there is nothing to test with, nor a configuration to test.
    tested = bool(nginx) and os.path.exists(os.path.join(root, "nginx.conf"))
    if tested and (
        reason := configuration.fault(module, root, changes, lambda copy: command(str(nginx), copy), adapted)
    ):
        configuration.refuse(module, "nginx", changes, reason)
    diff = [
        {"before": host.read(path) or "", "after": text or "", "before_header": path, "after_header": path}
        for path, text in changes.items()
    ]
    for path, text in changes.items() if not module.check_mode else ():
        configuration.put(path, text)
    module.exit_json(changed=True, tested=tested, diff=diff if module.params["files"] else diff[0])


if __name__ == "__main__":
    main()
