#!/usr/bin/python
"""Ansible module: a set of files and directories of a host, in one execution."""

from __future__ import annotations

from ansible_collections.flaskops.emperor.plugins.module_utils.entries import Entry
from ansible_collections.flaskops.emperor.plugins.module_utils.module import Module

DOCUMENTATION = r"""
module: files
short_description: A set of files and directories, in one execution
version_added: 1.0.0
description:
  - Lets files and directories have the content, owner, group and mode that they are given, or be absent.
  - One task with many files needs one execution on the host; each of P(ansible.builtin.copy#module) or
    P(ansible.builtin.template#module) needs two.
  - A file is replaced in one step. What has a wrong type (a link, a directory in place of a file) is removed
    first; a directory in place of a file only when it is empty.
options:
  files:
    description:
      - The files, in this order. Each has its C(path), a C(mode) (by default 0644, of a directory 0755), an C(owner)
        and a C(group) (by default root).
      - Its content is C(content), the file C(src) of the role, or the C(template) of the role. Without any of them its
        C(state) is C(directory) or C(absent).
    type: list
    elements: dict
    required: true
attributes:
  check_mode:
    description: Says what would change, also on a host without the users and directories that are named.
    support: full
  diff_mode:
    description: Shows the change of every file.
    support: full
author:
  - flaskops maintainers (@flaskops)
"""

EXAMPLES = r"""
- name: Write the configuration
  flaskops.emperor.files:
    files:
      - {path: /etc/emperor, state: directory}
      - {path: /etc/emperor/emperor.ini, template: emperor.ini.j2}
      - {path: /usr/local/libexec/emperor-wrapper, src: emperor_wrapper.py, mode: "0755"}
"""

RETURN = r"""
paths:
  description: What changed.
  type: list
  elements: str
  returned: always
"""


def main() -> None:
    """Compare, change."""
    module = Module(
        argument_spec={"files": {"type": "list", "elements": "dict", "required": True}}, supports_check_mode=True
    )
    entries = [Entry(given) for given in module.params["files"]]
    # All of it would stand in every answer.
    module.params["files"] = [entry.path for entry in entries]
    paths, diffs = [], []
    for entry in entries:
        if entry.state == "file" and entry.content is None:
            module.fail_json(msg=f"{entry.path} has neither content nor a state: name one of them.")
        if entry.right():
            continue
        before, after = entry.shown()
        header = {"before_header": entry.path, "after_header": entry.path}
        diffs.append({"before": before, "after": after, **header})
        paths.append(entry.path)
        if not module.check_mode:
            try:
                entry.make()
            except (KeyError, OSError) as error:
                module.fail_json(
                    msg=f"{entry.path} could not be made as it should be: {error}", paths=paths, diff=diffs
                )
    module.exit_json(changed=bool(paths), paths=paths, diff=diffs)


if __name__ == "__main__":
    main()
