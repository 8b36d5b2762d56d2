#!/usr/bin/python
"""Ansible module: change files of nginx's configuration, never to something nginx would refuse."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule

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


def there(log: str, scratch: str) -> str:
    """A log that nginx can open when it tests: in a dry run there may be no directory for it yet."""
    return log if os.path.isdir(os.path.dirname(log)) else f"{scratch}/log"


def fault(run: Any, nginx: str, root: str, changes: dict[str, str | None], scratch: str) -> str:
    """What nginx has against the configuration with these changes; empty when it has nothing.

    :param run: ``AnsibleModule.run_command``.
    :param changes: the new text of each file; None where one is removed.
    :param scratch: an empty directory for the copy.
    """
    copy = os.path.join(scratch, "nginx")
    shutil.copytree(root, copy, symlinks=True)
    for path, content in changes.items():
        candidate = os.path.join(copy, os.path.relpath(path, root))
        if content is not None:
            write(candidate, LOG.sub(lambda log: there(log[1], scratch), content))
        elif os.path.lexists(candidate):
            os.unlink(candidate)
    main = os.path.join(copy, "nginx.conf")
    # The test opens the pid file it is told of: not the one of the running nginx.
    write(main, f"pid {scratch}/pid;\n" + PID.sub("", read(main) or ""))
    rc, out, err = run([nginx, "-t", "-q", "-c", main])
    return "" if rc == 0 else (err or out).strip().replace(copy, root)


def wanted(module: AnsibleModule) -> dict[str, str | None]:
    """The text of every file; None for one that is to be absent."""
    root, found = module.params["root"], {}
    for entry in module.params["files"] or [module.params]:
        path, state = entry["path"], entry.get("state") or "present"
        if os.path.relpath(path, root).startswith(".."):
            module.fail_json(msg=f"path is {path}, which is not below {root}: choose a file of nginx's configuration.")
        found[path] = entry.get("content") if state == "present" else None
    return found


def differs(path: str, text: str | None) -> bool:
    """Whether a file is not as it should be. A link to nothing has no text, but nginx stumbles over it: it must go."""
    return read(path) != text or (text is None and os.path.lexists(path))


def put(module: AnsibleModule, path: str, text: str | None) -> None:
    """Let a file have this text, in one step."""
    if text is None:
        os.unlink(path)
        return
    new = os.path.join(module.tmpdir, "nginx_config")
    write(new, text)
    os.chmod(new, 0o644)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    module.atomic_move(new, path)


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
    changes = {path: text for path, text in wanted(module).items() if differs(path, text)}
    if not changes:
        module.exit_json(changed=False, tested=False)

    nginx = module.get_bin_path("nginx", opt_dirs=["/usr/sbin"])
    if not nginx and not module.check_mode:
        module.fail_json(msg="nginx is not installed on this host: run the role flaskops.emperor.nginx first.")
    # In check mode on a bare host there is nothing to test with, nor a configuration to test.
    tested = bool(nginx) and os.path.exists(os.path.join(root, "nginx.conf"))
    if tested:
        with tempfile.TemporaryDirectory(dir=module.tmpdir) as scratch:
            reason = fault(module.run_command, nginx, root, changes, scratch)
        if reason:
            names = ", ".join(changes)
            module.fail_json(msg=f"{names} was not changed: nginx refuses the new configuration. {reason}")
    diff = [
        {"before": read(path) or "", "after": text or "", "before_header": path, "after_header": path}
        for path, text in changes.items()
    ]
    for path, text in changes.items() if not module.check_mode else ():
        put(module, path, text)
    module.exit_json(changed=True, tested=tested, diff=diff if module.params["files"] else diff[0])


if __name__ == "__main__":
    main()
