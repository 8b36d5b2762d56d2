#!/usr/bin/python
"""Ansible module: the archive of an app: pack it, read it piece by piece, and unpack it on an empty host."""

from __future__ import annotations

import base64
import contextlib
import grp
import hashlib
import json
import os
import pwd
import shutil
import tempfile
import time
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils import archive, as_user, host
from ansible_collections.flaskops.emperor.plugins.module_utils.exclusive import Busy, exclusive
from ansible_collections.flaskops.emperor.plugins.module_utils.links import target
from ansible_collections.flaskops.emperor.plugins.module_utils.module import Module
from ansible_collections.flaskops.emperor.plugins.module_utils.releases import persistent, settings_files
from ansible_collections.flaskops.emperor.plugins.module_utils.releases.registry import Releases

DOCUMENTATION = r"""
module: app_archive
short_description: The archive of an app's data, files and settings
version_added: 1.0.0
description:
  - Packs the data of an app while it runs. Databases of SQLite are copied by SQLite itself, so that the copy is
    consistent.
  - The action plugin brings the archive to the machine that runs Ansible, and from there to a host.
options:
  name:
    description: The app's user.
    type: str
    required: true
  home:
    description: Directory of the app.
    type: path
    required: true
  state:
    description:
      - V(begun) makes a directory for the app's hooks; V(packed) makes the archive, with what they put there; V(read)
        reads a piece of it; V(absent) removes it.
      - V(restored) unpacks an archive where the app has no data yet; V(done) ends that.
    type: str
    choices: [begun, packed, read, absent, restored, done]
    required: true
  hooks:
    description: The directory that V(begun) returned.
    type: path
    default: ""
  settings:
    description: What else is to be in the archive.
    type: dict
    default: {}
  path:
    description: The archive on the host, or, in a task with O(state=restored), on the machine that runs Ansible.
    type: path
    default: ""
  to:
    description: In a task with O(state=packed), the file on the machine that runs Ansible.
    type: path
  offset:
    description: Where the piece begins.
    type: int
    default: 0
  size:
    description: Bytes of the piece.
    type: int
    default: 8388608
  web_group:
    description: Group of nginx, to which files of the app may belong.
    type: str
    default: www-data
attributes:
  check_mode:
    description: Says what would be done.
    support: full
author:
  - flaskops maintainers (@flaskops)
"""

EXAMPLES = r"""
- name: Bring the data of the shop here
  flaskops.emperor.app_archive:
    name: shop
    home: /srv/flask_apps/shop
    state: packed
    to: /var/backups/shop.tar.gz
"""

RETURN = r"""
path:
  description: The directory that was made, or the archive.
  type: str
  returned: when O(state=begun), O(state=packed) or O(state=restored)
size:
  description: Bytes of the archive.
  type: int
  returned: when O(state=packed)
digest:
  description: Its SHA-256 digest.
  type: str
  returned: when O(state=packed)
problems:
  description: Sentences about what is not in it, or not as it should be.
  type: list
  elements: str
  returned: when O(state=packed)
piece:
  description: A piece of it in base64.
  type: str
  returned: when O(state=read)
"""

OLD = 24 * 3600  # seconds after which what a killed run left is removed
MARK = "archive"  # in the directory of a restore: the digest of the archive that is being restored


class Refused(Exception):
    """It may not be done; the text is a sentence."""


def forget_old(folder: str) -> None:
    """Remove what killed runs left in a directory."""
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if name.startswith("backup-") and time.time() - os.lstat(path).st_mtime > OLD:
            host.remove(path)


def scratch(home: str, user: pwd.struct_passwd) -> str:
    """A directory in which the app's user may write, beside the archives, which it cannot read."""
    folder = os.path.join(home, "backups")
    os.makedirs(folder, exist_ok=True)
    os.chmod(folder, 0o711)
    forget_old(folder)
    path = tempfile.mkdtemp(prefix="backup-", dir=folder)
    os.chown(path, user.pw_uid, user.pw_gid)
    return path


def begun(params: dict[str, Any], user: pwd.struct_passwd) -> dict[str, Any]:
    """Make a directory for the hooks of the app."""
    return {"path": scratch(params["home"], user)}


def packed(params: dict[str, Any], user: pwd.struct_passwd) -> dict[str, Any]:
    """Make the archive."""
    home = params["home"]
    work = scratch(home, user)
    releases = Releases(home)
    described = releases.describe(releases.current()) or {}
    about = {
        **params["settings"],
        "name": params["name"],
        "release": releases.current(),
        "label": described.get("label", ""),
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "filled": persistent.filled(releases),
        "web_group": grp.getgrnam(params["web_group"]).gr_gid,
    }
    root = settings_files.root_of(releases)
    current = os.path.join(root, settings_files.CURRENT)
    sources = archive.Sources(
        os.path.join(home, "shared"), os.path.realpath(current) if target(current) else "", params["hooks"],
        json.dumps(about, indent=1, sort_keys=True).encode(), work,
    )  # fmt: skip
    descriptor, path = tempfile.mkstemp(prefix="backup-", dir=os.path.dirname(work))
    try:
        problems = as_user.call(user, lambda: archive.pack(descriptor, sources, root))
    except BaseException:
        host.remove(path)
        raise
    finally:
        os.close(descriptor)
        for left in filter(None, (work, params["hooks"])):
            shutil.rmtree(left, ignore_errors=True)  # follows no link
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"path": path, "size": os.stat(path).st_size, "digest": digest, "problems": problems}


def inside(params: dict[str, Any]) -> str:
    """The archive, which is one of ours."""
    path: str = os.path.realpath(params["path"])
    if os.path.dirname(path) != os.path.realpath(os.path.join(params["home"], "backups")):
        raise Refused(f"{path} is no archive of this app.")
    return path


def read(params: dict[str, Any], _user: pwd.struct_passwd) -> dict[str, Any]:
    """Read a piece of the archive."""
    with open(inside(params), "rb") as file:
        file.seek(params["offset"])
        return {"changed": False, "piece": base64.b64encode(file.read(params["size"])).decode("ascii")}


def absent(params: dict[str, Any], _user: pwd.struct_passwd) -> dict[str, Any]:
    """Remove the archive."""
    host.remove(inside(params))
    return {}


def restored(params: dict[str, Any], user: pwd.struct_passwd) -> dict[str, Any]:
    """Unpack an archive where the app has no data yet."""
    home, name = params["home"], params["name"]
    folder, shared = os.path.join(home, "restore"), os.path.join(home, "shared")
    unpacked, mark = os.path.join(folder, "unpacked"), os.path.join(folder, MARK)
    with open(params["path"], "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    answer = {"path": os.path.join(unpacked, archive.HOOKS)}
    if host.read(mark) != digest:
        if os.path.isdir(shared) and os.listdir(shared):
            raise Refused(
                f"The app {name} has data on this host, which a restore would replace: make a backup if you need it, "
                f"then remove the app (playbooks/remove.yml -e app={name} -e confirm=yes) and restore again."
            )
        about = archive.settings_of(params["path"])
        host.remove(folder)  # of a killed run
        os.makedirs(folder, 0o711)
        os.mkdir(unpacked, 0o700)
        os.chown(unpacked, user.pw_uid, user.pw_gid)
        web = grp.getgrnam(params["web_group"]).gr_gid
        descriptor = os.open(params["path"], os.O_RDONLY)
        try:
            groups = {about.get("web_group", -1): web}
            as_user.call(user, lambda: archive.unpack(descriptor, unpacked, groups), [web])
        finally:
            os.close(descriptor)
        host.write(
            os.path.join(home, persistent.FILLED), json.dumps([str(one) for one in about.get("filled", [])]), 0, 0
        )
        host.write(mark, digest, 0, 0)
    elif not os.path.isdir(os.path.join(unpacked, archive.DATA)):
        return {"changed": False, **answer}
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(shared)
    os.rename(os.path.join(unpacked, archive.DATA), shared)
    return answer


def done(params: dict[str, Any], _user: pwd.struct_passwd) -> dict[str, Any]:
    """End a restore."""
    folder = os.path.join(params["home"], "restore")
    changed = os.path.isdir(folder)
    host.remove(folder)
    return {"changed": changed}


STATES = {"begun": begun, "packed": packed, "read": read, "absent": absent, "restored": restored, "done": done}


def main() -> None:
    """Check what was asked, and do it."""
    module = Module(
        argument_spec={
            "name": {"type": "str", "required": True},
            "home": {"type": "path", "required": True},
            "state": {"type": "str", "choices": list(STATES), "required": True},
            "hooks": {"type": "path", "default": ""},
            "settings": {"type": "dict", "default": {}, "no_log": True},
            "path": {"type": "path", "default": ""},
            "to": {"type": "path"},
            "offset": {"type": "int", "default": 0},
            "size": {"type": "int", "default": 8388608},
            "web_group": {"type": "str", "default": "www-data"},
        },
        supports_check_mode=True,
    )
    params = dict(module.params)
    module.params["settings"] = sorted(params["settings"])
    module.no_log_values.clear()
    if module.check_mode:
        module.exit_json(changed=True)
    # What only reads may take as long as it takes: a deploy beside it does no harm.
    lock = exclusive() if params["state"] in ("restored", "done") else contextlib.nullcontext()
    try:
        with lock:
            answer = STATES[params["state"]](params, pwd.getpwnam(params["name"]))
    except Busy as reason:
        module.fail_json(msg=str(reason))
    except Refused as reason:
        module.fail_json(msg=str(reason))
    except KeyError as reason:
        module.fail_json(msg=f"The app {params['name']} is not on this host: {reason.args[0]}.")
    except (as_user.Failed, OSError, ValueError) as reason:
        verb = "restored" if params["state"] in ("restored", "done") else "packed"
        module.fail_json(msg=f"The data of {params['name']} could not be {verb}: {reason}")
    module.exit_json(**{"changed": True, **answer})


if __name__ == "__main__":
    main()
