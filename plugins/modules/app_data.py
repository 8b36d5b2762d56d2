#!/usr/bin/python
"""Ansible module: what an app has besides its releases: persistent directories and configuration files."""

from __future__ import annotations

import pwd
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flaskops.emperor.plugins.module_utils import as_user
from ansible_collections.flaskops.emperor.plugins.module_utils.exclusive import Busy, exclusive
from ansible_collections.flaskops.emperor.plugins.module_utils.releases import persistent, settings_files
from ansible_collections.flaskops.emperor.plugins.module_utils.releases.registry import Releases

DOCUMENTATION = r"""
module: app_data
short_description: Persistent directories and configuration files of an app
version_added: 1.0.0
description:
  - A persistent directory is a link in the release to a directory of the app's data (C(shared)), which belongs to the
    app. It is filled once with what the source brings.
  - Configuration files belong to root and are readable by the app alone. The app finds them by links. A set of files is
    replaced in one step, and the set before stays until V(committed).
options:
  name:
    description: The app's user.
    type: str
    required: true
  home:
    description: Directory of the app, which holds C(releases) and C(shared).
    type: path
    required: true
  id:
    description: The release. Needed when O(state=placed).
    type: str
    default: ""
  state:
    description:
      - V(placed) lets the release find its data and its files.
      - V(committed) forgets the files of before; V(reverted) goes back to them instead.
    type: str
    choices: [placed, committed, reverted]
    default: placed
  persistent:
    description:
      - The links. Of each where it is in the release (C(at)), the directory below C(shared) (C(data)), whether code may
        be in its place (C(optional)), and what must be in the release for it to have a use (C(beside)).
    type: list
    elements: dict
    default: []
  files:
    description:
      - The files. Of each its C(content), its name among all of them (C(key)), and where the app looks for it (C(at)),
        in the release or below C(shared).
    type: list
    elements: dict
    default: []
attributes:
  check_mode:
    description: Says whether something would be done.
    support: full
author:
  - flaskops maintainers (@flaskops)
"""

EXAMPLES = r"""
- name: Keep what users upload
  flaskops.emperor.app_data:
    name: shop
    home: /srv/flask_apps/shop
    id: 3f2a9c01d4e5
    persistent:
      - {at: src/uploads, data: uploads, optional: false, beside: ""}
"""

RETURN = r"""
# Nothing besides what every module returns.
"""


def change(params: dict[str, Any], files: list[dict[str, str]]) -> bool:
    """Bring the data into the wanted state. Returns whether that changed anything."""
    releases = Releases(params["home"])
    if params["state"] == "committed":
        return settings_files.commit(releases)
    if params["state"] == "reverted":
        return settings_files.revert(releases)
    user = pwd.getpwnam(params["name"])
    changed = persistent.arrange(releases, params["id"], params["persistent"], user)
    return settings_files.arrange(releases, params["id"], files, user) or changed


def wrong(params: dict[str, Any], files: list[dict[str, str]]) -> bool:
    """Whether something is to be done."""
    releases = Releases(params["home"])
    if params["state"] != "placed":
        return False
    if not persistent.right(releases, params["id"], params["persistent"]):
        return True
    return not settings_files.right(releases, params["id"], files, settings_files.digest_of(files))


def main() -> None:
    """Do it while no other module runs."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "home": {"type": "path", "required": True},
            "id": {"type": "str", "default": ""},
            "state": {"type": "str", "choices": ["placed", "committed", "reverted"], "default": "placed"},
            "persistent": {"type": "list", "elements": "dict", "default": []},
            "files": {"type": "list", "elements": "dict", "default": [], "no_log": True},
        },
        supports_check_mode=True,
    )
    files = module.params["files"]
    # Every text in it would be replaced in every answer: nothing that this module says has a content in it.
    module.params["files"] = [one["at"] for one in files]
    module.no_log_values.clear()
    params = module.params
    if module.check_mode:
        module.exit_json(changed=wrong(params, files))
    try:
        with exclusive():
            changed = change(params, files)
    except Busy as reason:
        module.fail_json(msg=str(reason))
    except (persistent.Unfit, as_user.Failed, OSError) as reason:
        module.fail_json(msg=f"The data of {params['name']} could not be put in place: {reason}")
    module.exit_json(changed=changed)


if __name__ == "__main__":
    main()
