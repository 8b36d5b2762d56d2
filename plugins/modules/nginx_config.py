#!/usr/bin/python
"""Ansible module: change one file of nginx's configuration, never to something nginx would refuse."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: nginx_config
short_description: Change one file of nginx's configuration, never to something nginx would refuse
version_added: 1.0.0
description:
  - Puts the new file into a copy of the whole configuration and lets nginx test that copy. Only then the file is put in
    its place, in one step. A faulty file therefore never is on disk, not even for a moment or after a killed run.
  - Does not reload nginx, see M(flaskops.emperor.service_current).
options:
  path:
    description: The file, below O(root).
    type: path
    required: true
  content:
    description: Its content. Needed when O(state=present).
    type: str
  state:
    description: Whether the file is there.
    type: str
    choices: [present, absent]
    default: present
  root:
    description: Directory of nginx's configuration; its C(nginx.conf) has to include the other files by relative paths.
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


def read(path: str) -> str | None:
    """The text of a file, or None where there is none."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            return file.read()
    except FileNotFoundError:
        return None


def write(path: str, text: str) -> None:
    """Write a file, its directories included."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.islink(path):  # never through a link out of the copy
        os.unlink(path)
    with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        file.write(text)


def fault(run: Any, nginx: str, root: str, path: str, content: str | None, scratch: str) -> str:
    """What nginx has against the configuration with this one file changed; empty when it has nothing.

    :param run: ``AnsibleModule.run_command``.
    :param content: the new text of ``path``; None when it is removed.
    :param scratch: an empty directory for the copy.
    """
    copy = os.path.join(scratch, "nginx")
    shutil.copytree(root, copy, symlinks=True)
    candidate = os.path.join(copy, os.path.relpath(path, root))
    if content is not None:
        write(candidate, content)
    elif os.path.lexists(candidate):
        os.unlink(candidate)
    main = os.path.join(copy, "nginx.conf")
    # The test opens the pid file it is told of: not the one of the running nginx.
    write(main, f"pid {scratch}/pid;\n" + PID.sub("", read(main) or ""))
    rc, out, err = run([nginx, "-t", "-q", "-c", main])
    return "" if rc == 0 else (err or out).strip().replace(copy, root)


def main() -> None:
    """Compare, test, replace."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "content": {"type": "str"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "root": {"type": "path", "default": "/etc/nginx"},
        },
        required_if=[("state", "present", ["content"])],
        supports_check_mode=True,
    )
    path, root = module.params["path"], module.params["root"]
    if os.path.relpath(path, root).startswith(".."):
        module.fail_json(msg=f"path is {path}, which is not below {root}: choose a file of nginx's configuration.")
    wanted = module.params["content"] if module.params["state"] == "present" else None
    before = read(path)
    # A link to nothing has no text, but nginx stumbles over it: to be absent, it has to go.
    if before == wanted and not (wanted is None and os.path.lexists(path)):
        module.exit_json(changed=False, tested=False)

    nginx = module.get_bin_path("nginx", opt_dirs=["/usr/sbin"])
    if not nginx and not module.check_mode:
        module.fail_json(msg="nginx is not installed on this host: run the role flaskops.emperor.nginx first.")
    # In check mode on a bare host there is nothing to test with, nor a configuration to test.
    tested = bool(nginx) and os.path.exists(os.path.join(root, "nginx.conf"))
    if tested:
        with tempfile.TemporaryDirectory(dir=module.tmpdir) as scratch:
            reason = fault(module.run_command, nginx, root, path, wanted, scratch)
        if reason:
            module.fail_json(msg=f"{path} was not changed: nginx refuses the new configuration. {reason}")
    if not module.check_mode:
        if wanted is None:
            os.unlink(path)
        else:
            staged = os.path.join(module.tmpdir, "nginx_config")
            write(staged, wanted)
            os.chmod(staged, 0o644)
            module.atomic_move(staged, path)
    diff = {"before": before or "", "after": wanted or "", "before_header": path, "after_header": path}
    module.exit_json(changed=True, tested=tested, diff=diff)


if __name__ == "__main__":
    main()
