#!/usr/bin/python
"""Ansible module: the Python packages of the releases that run."""

from __future__ import annotations

import os
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils.module import Module
from ansible_collections.flaskops.emperor.plugins.module_utils.releases.distributions import KEY, installed
from ansible_collections.flaskops.emperor.plugins.module_utils.releases.registry import Releases

DOCUMENTATION = r"""
module: app_packages
short_description: The Python packages of the releases that run
version_added: 1.0.0
description:
  - Reads what is installed in the virtualenv of each app's current release, and compares it with what the release's
    C(release.json) says. Changes nothing.
options:
  apps:
    description: Names of the apps. One without a release is left out of the answer.
    type: list
    elements: str
    required: true
  root:
    description: Directory below which every app has one of its own.
    type: path
    default: /srv/flask_apps
  metadata:
    description: Whether to return what each package says of itself, as an SBOM needs it.
    type: bool
    default: false
attributes:
  check_mode:
    description: Only reads.
    support: full
author:
  - flaskops maintainers (@flaskops)
"""

EXAMPLES = r"""
- name: List the packages of the shop
  flaskops.emperor.app_packages:
    apps: [shop]
"""

RETURN = r"""
apps:
  description:
    - Of each app the C(release), its C(label) and its C(packages). A package has C(name), C(version) and C(sha256), a
      digest of its files; C(local) instead when it is used from the source of the release. C(changed) says that the
      files are not those of the build.
  type: dict
  returned: success
"""


def packages(home: str, metadata: bool) -> dict[str, Any]:
    """The current release of an app and its packages; empty when there is none."""
    releases = Releases(home)
    release = releases.current()
    described = releases.describe(release) if release else None
    if described is None:
        return {}
    # One that was built before they were written down has nothing to compare with.
    built = {one["name"]: one for one in described.get(KEY) or []}
    found = installed(releases.path(release, "venv"), metadata)
    for one in found:
        if built and one.get("sha256") != built.get(one["name"], {}).get("sha256"):
            one["changed"] = True
    return {"release": release, "label": described.get("label", ""), "packages": found}


def main() -> None:
    """Look at each app."""
    module = Module(
        argument_spec={
            "apps": {"type": "list", "elements": "str", "required": True},
            "root": {"type": "path", "default": "/srv/flask_apps"},
            "metadata": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    params = module.params
    found = {name: packages(os.path.join(params["root"], name), params["metadata"]) for name in params["apps"]}
    module.exit_json(changed=False, apps={name: one for name, one in found.items() if one})


if __name__ == "__main__":
    main()
