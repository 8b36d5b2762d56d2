#!/usr/bin/python
"""Ansible module: the releases of one app on one host: build, activate, mark as failed, prune."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import shutil
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils.exclusive import Busy, exclusive
from ansible_collections.flaskops.emperor.plugins.module_utils.module import Module
from ansible_collections.flaskops.emperor.plugins.module_utils.releases import activation, data
from ansible_collections.flaskops.emperor.plugins.module_utils.releases.build import BuildFailed, build
from ansible_collections.flaskops.emperor.plugins.module_utils.releases.registry import Releases, python_runs
from ansible_collections.flaskops.emperor.plugins.module_utils.releases.static_links import publish

DOCUMENTATION = r"""
module: release
short_description: The releases of one app on one host
version_added: 1.0.0
description:
  - A release is a directory C(releases/ID) with the source in C(src), a virtualenv in C(venv) and its description in
    C(release.json), which is written last. A directory without it is what a killed run left; it is made anew.
  - The archive of its source stays beside them in C(source.tar.gz), for root alone.
  - The ID names the content, so that building the same content again changes nothing.
  - It is built by a user that is no app's (C(emperor-build)), in a sandbox. The finished release belongs to root; the
    app can read but not change it.
  - As a task it also takes C(trial), the options of M(flaskops.emperor.vassal) for a trial start that follows the build
    in the same execution, C(workers), those of the filter P(flaskops.emperor.worker_plan#filter), and C(current), the
    ID of a release that is never marked as failed. Any other that fails its trial start is, and one whose workers do
    not fit into the memory of the host. With C(state=tried) nothing is built before.
options:
  home:
    description: Directory of the app, which holds C(releases), C(static), C(shared) and the link C(current).
    type: path
    required: true
  state:
    description:
      - V(built) makes the release ready to run, without touching the one that runs.
      - V(current) lets the link C(current) and the static files follow the release that now runs, and removes old
        releases.
      - V(failed) marks a release that failed, so that a rollback never chooses it.
    type: str
    choices: [built, current, failed]
    required: true
  id:
    description: The release.
    type: str
    required: true
  user:
    description: The app's user, whose group may read the release. Needed when O(state=built).
    type: str
  bundle:
    description:
      - Archive of the source on the machine that runs Ansible; the action plugin brings it to the host, where it
        becomes C(source.tar.gz). Without it, O(packages) bring the app.
    type: path
  archive:
    description: The same archive in base64. Set by the action plugin.
    type: str
  label:
    description: What a person calls this release.
    type: str
    default: ""
  interpreter:
    description: The Python of the virtualenv.
    type: path
    default: /usr/bin/python3
  requirements:
    description: File below the source that says what to install, of one of the kinds that the role flask_apps knows.
    type: str
    default: ""
  extras:
    description: Extras of the project to install.
    type: list
    elements: str
    default: []
  groups:
    description: Dependency groups of the project to install.
    type: list
    elements: str
    default: []
  build:
    description: Commands that run in the source when all is installed. Words as a shell takes them, but there is none.
    type: list
    elements: str
    default: []
  environment:
    description: Environment of the installation and of O(build), besides what they always have. It may be secret.
    type: dict
    default: {}
  credentials:
    description: Who the build is for hosts from which it downloads. Each has its C(host), C(user) and C(password).
    type: list
    elements: dict
    default: []
  installer:
    description: The program uv.
    type: path
    default: /opt/emperor-tools/bin/uv
  require_hashes:
    description:
      - Whether every requirement must match a hash in that file. By default when a requirements file has any, and when
        all packages of a C(poetry.lock) or C(Pipfile.lock) have one.
    type: bool
  packages:
    description: Requirements to install besides those of the file.
    type: list
    elements: str
    default: []
  pip_arguments:
    description: Arguments for every C(uv pip install). Those that name an index may hold a password.
    type: list
    elements: str
    default: []
  static:
    description: Directories of the source which nginx serves, by URL prefix.
    type: dict
    default: {}
  persistent:
    description:
      - Links to persistent directories. Each has where it is in the release (C(at)), the directory below C(shared)
        (C(data)), whether code may be in its place (C(optional)), and what must be in the release for it to have a use
        (C(beside)). The directory belongs to the app, and is filled once with what the source brings.
    type: list
    elements: dict
    default: []
  files:
    description:
      - Configuration files. Each has its C(content), its name among all of them (C(key)), and where the app looks for
        it (C(at)), in the release or below C(shared). They belong to root and are readable by the app alone. The set is
        replaced in one step, see M(flaskops.emperor.app_data).
    type: list
    elements: dict
    default: []
  keep:
    description: How many releases stay when O(state=current), the current one included.
    type: int
    default: 5
  fail_others:
    description: Releases to mark as failed when O(state=current), as a rollback does with the one it leaves.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: Says what would be done.
    support: full
author:
  - flaskops maintainers (@flaskops)
"""

EXAMPLES = r"""
- name: Build a release
  flaskops.emperor.release:
    home: /srv/flask_apps/shop
    state: built
    id: 3f2a9c01d4e5
    user: shop
    bundle: /srv/flask_apps/shop/incoming/bundle.tar.gz
    requirements: requirements.txt
    packages: [pyuwsgi==2.0.30.post1]
"""

RETURN = r"""
releases:
  description:
    - The complete releases, as C(release.json) describes them, newest first, each with what the module
      M(flaskops.emperor.vassal) C(tried), and the C(size) that it measured, in bytes.
  type: list
  elements: dict
  returned: always
current:
  description: ID of the release that C(current) names; empty when there is none.
  type: str
  returned: always
previous:
  description: ID of the release to which a rollback would return; empty when there is none.
  type: str
  returned: always
removed:
  description: IDs of the releases that were removed.
  type: list
  elements: str
  returned: when O(state=current)
"""


def bring_archive(module: Module, archive: str | None) -> None:
    """Put the archive that came with the arguments beside the releases, for root alone."""
    if archive is None:
        return
    path = os.path.join(module.params["home"], "bundle.tar.gz")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(base64.b64decode(archive))
    module.params["bundle"] = path


def put_data(module: Module, releases: Releases, files: list[dict[str, str]]) -> bool:
    """Let a release that is built find its data and its files. Returns whether that changed anything."""
    release, links, user = (module.params[name] for name in ("id", "persistent", "user"))
    if module.check_mode:
        return data.misplaced(releases, release, links, files)
    changed = False
    try:
        changed = data.place(releases, release, links, files, user)
    except data.FAULTS as reason:
        module.fail_json(msg=f"The data of {user} could not be put in place: {reason}")
    return changed


def bring(
    module: Module, releases: Releases, secret: dict[str, Any], files: list[dict[str, str]]
) -> tuple[bool, list[str]]:
    """Bring the releases into the wanted state. Returns whether that changed anything, and the IDs removed.

    :param secret: options for the build, and the archive.
    :param files: the configuration files; what they hold is secret.
    """
    state, release = module.params["state"], module.params["id"]
    known = releases.describe(release)
    changed = False

    if state == "built":
        # Its Python may be gone since.
        changed = known is None or not python_runs(releases.path(release, "venv"))
        if changed and not module.check_mode:
            try:
                bring_archive(module, secret.pop("archive"))
                build(releases, {**module.params, **secret})
            except (BuildFailed, OSError) as failure:
                shutil.rmtree(releases.path(release), ignore_errors=True)
                told = f"Release {release} of {module.params['user']} could not be built, nothing that runs was touched"
                module.fail_json(msg=f"{told}: {failure}")
            finally:
                if module.params["bundle"]:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(module.params["bundle"])
        if not module.check_mode:
            changed |= publish(releases, releases.current(), module.params["static"], release)
        changed |= put_data(module, releases, files)
    elif state == "current":
        if known is None and not module.check_mode:
            module.fail_json(msg=f"Release {release} is not on this host: build it first.")
        keep, fail_others = module.params["keep"], module.params["fail_others"]
        if module.check_mode:
            return activation.would_change(releases, release, keep)
        return activation.make_current(releases, release, keep, fail_others)
    elif state == "failed" and known and not known.get("failed"):
        changed = True
        if not module.check_mode:
            releases.record(release, failed=True)
    return changed, []


def main() -> None:
    """Check what was asked, and do it while no other module runs."""
    module = Module(
        argument_spec={
            "home": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["built", "current", "failed"], "required": True},
            "id": {"type": "str", "required": True},
            "user": {"type": "str"},
            "bundle": {"type": "path"},
            "archive": {"type": "str", "no_log": True},  # megabytes, and its source is nobody else's business
            "label": {"type": "str", "default": ""},
            "interpreter": {"type": "path", "default": "/usr/bin/python3"},
            "requirements": {"type": "str", "default": ""},
            "extras": {"type": "list", "elements": "str", "default": []},
            "groups": {"type": "list", "elements": "str", "default": []},
            "build": {"type": "list", "elements": "str", "default": []},
            "environment": {"type": "dict", "default": {}, "no_log": True},
            "credentials": {"type": "list", "elements": "dict", "default": [], "no_log": True},
            "installer": {"type": "path", "default": "/opt/emperor-tools/bin/uv"},
            "require_hashes": {"type": "bool"},
            "packages": {"type": "list", "elements": "str", "default": []},
            "pip_arguments": {
                "type": "list",
                "elements": "str",
                "default": [],
                "no_log": True,
            },  # passwords of an index
            "static": {"type": "dict", "default": {}},
            "persistent": {"type": "list", "elements": "dict", "default": []},
            "files": {"type": "list", "elements": "dict", "default": [], "no_log": True},
            "keep": {"type": "int", "default": 5},
            "fail_others": {"type": "list", "elements": "str", "default": []},
        },
        required_if=[("state", "built", ["user"])],
        supports_check_mode=True,
    )
    # Each of them would be replaced in every answer, "--pre" too; the build hides the passwords in what it says, and
    # nothing that this module says has the content of a file in it.
    secret = {name: module.params.pop(name) for name in ("pip_arguments", "environment", "credentials", "archive")}
    files, module.params["files"] = module.params["files"], [one["at"] for one in module.params["files"]]
    module.no_log_values.clear()
    releases, release = Releases(module.params["home"]), module.params["id"]
    if not re.match(r"[0-9a-z][0-9a-z._-]*\Z", release):
        module.fail_json(msg=f"id is {release!r}, but must be letters, digits, '.', '_' and '-'.")
    try:
        with contextlib.nullcontext() if module.check_mode else exclusive():
            changed, removed = bring(module, releases, secret, files)
    except Busy as reason:
        module.fail_json(msg=str(reason))
    facts = {"releases": releases.all(), "current": releases.current(), "previous": releases.previous()}
    module.exit_json(changed=changed, removed=removed, **facts)


if __name__ == "__main__":
    main()
