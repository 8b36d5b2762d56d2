#!/usr/bin/python
"""Ansible module: the releases of one app on one host: stage, activate, reject, prune, list."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import pwd
import re
import shutil
import stat
import subprocess
import tarfile
import time
from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flaskops.emperor.plugins.module_utils.exclusive import Busy, exclusive
from ansible_collections.flaskops.emperor.plugins.module_utils.links import link, target

DOCUMENTATION = r"""
module: release
short_description: The releases of one app on one host
version_added: 1.0.0
description:
  - A release is a directory C(releases/ID) with the source in C(src), a virtualenv in C(venv) and its description in
    C(release.json), which is written last. A directory without it is what a killed run left; it is made anew.
  - The ID names the content, so that staging the same content again changes nothing.
  - Requirements are installed by the app's own user. The finished release belongs to root; the app can read but not
    change it.
options:
  home:
    description: Directory of the app, which holds C(releases), C(static), C(shared) and the link C(current).
    type: path
    required: true
  state:
    description:
      - V(staged) makes the release ready to run, without touching the one that runs.
      - V(current) lets the link C(current) and the static files follow the release that now runs, and removes old
        releases.
      - V(rejected) marks a release that failed, so that a rollback never chooses it.
      - V(listed) only reads.
    type: str
    choices: [staged, current, rejected, listed]
    required: true
  id:
    description: The release. Needed unless O(state=listed).
    type: str
  user:
    description: The app's user, who installs the requirements. Needed when O(state=staged).
    type: str
  bundle:
    description:
      - Archive of the source on this host, removed when the release is ready. Without it, O(packages) bring the app.
    type: path
  label:
    description: What a person calls this release.
    type: str
    default: ""
  interpreter:
    description: The Python of the virtualenv.
    type: path
    default: /usr/bin/python3
  requirements:
    description: Requirements file below the source.
    type: str
    default: ""
  require_hashes:
    description: Whether every requirement has to match a hash in that file.
    type: bool
    default: false
  packages:
    description: Requirements to install besides.
    type: list
    elements: str
    default: []
  pip_arguments:
    description: Arguments for every C(pip install).
    type: list
    elements: str
    default: []
  static:
    description: Directories of the source which nginx serves, by URL prefix.
    type: dict
    default: {}
  keep:
    description: How many releases stay when O(state=current), the current one included.
    type: int
    default: 5
  reject_others:
    description: Releases to mark as rejected when O(state=current), as a rollback does with the one it leaves.
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
- name: Stage a release
  flaskops.emperor.release:
    home: /srv/flask_apps/shop
    state: staged
    id: 3f2a9c01d4e5
    user: shop
    bundle: /srv/flask_apps/shop/incoming/bundle.tar.gz
    requirements: requirements.txt
    packages: [pyuwsgi==2.0.30.post1]
"""

RETURN = r"""
releases:
  description:
    - The complete releases, as C(release.json) describes them, newest first, each with the C(size) that the module
      M(flaskops.emperor.vassal) measured, in bytes.
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

DESCRIPTION = "release.json"
SIZE = "size.json"  # written by the module vassal, which measures it

# What a virtualenv has when pip was installed into it and nothing else: where it is kept, how, and how it is brought.
PIP = "pip-{}-of-python-{}"
KEEP_PIP = 'cd "$1" && cp -a --parents bin/pip* lib "$2"'
TAKE_PIP = 'cp -a "$2/." "$1" && sed -i "1s|.*|#!$1/bin/python|" "$1"/bin/pip*'

LOG_LINES = 40  # of a failed command's output; pip tells the cause before its traceback


class StageFailed(Exception):
    """A step of staging failed; the text says which, and shows the end of its output."""


class Releases:
    """The releases below one app's directory.

    :param home: the app's directory.
    """

    def __init__(self, home: str) -> None:
        self.home = home
        self.root = os.path.join(home, "releases")

    def path(self, release: str, *parts: str) -> str:
        """A path inside a release."""
        return os.path.join(self.root, release, *parts)

    def describe(self, release: str) -> dict[str, Any] | None:
        """What is known of a release; None when it is not there or not complete."""
        try:
            with open(self.path(release, DESCRIPTION), encoding="utf-8") as file:
                description: dict[str, Any] = json.load(file)
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        return description

    def size(self, release: str) -> dict[str, int]:
        """Bytes that a release uses with one worker; empty when that is not known."""
        try:
            with open(self.path(release, SIZE), encoding="utf-8") as file:
                return json.load(file)["size"] or {}
        except (FileNotFoundError, ValueError):
            return {}

    def record(self, release: str, **facts: Any) -> None:
        """Add facts to the description of a release, in one step."""
        path = self.path(release, DESCRIPTION)
        description = {**(self.describe(release) or {}), **facts}
        with open(path + ".new", "w", encoding="utf-8") as file:
            json.dump(description, file, indent=1, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        os.replace(path + ".new", path)

    def all(self) -> list[dict[str, Any]]:
        """The complete releases, newest first."""
        names = os.listdir(self.root) if os.path.isdir(self.root) else []
        found = [{**description, "size": self.size(name)} for name in names if (description := self.describe(name))]
        return sorted(found, key=lambda one: (one["created"], one["id"]), reverse=True)

    def incomplete(self) -> list[str]:
        """What killed runs left."""
        names = os.listdir(self.root) if os.path.isdir(self.root) else []
        return sorted(name for name in names if os.path.isdir(self.path(name)) and not self.describe(name))

    def current(self) -> str:
        """ID of the release that runs, as far as the last complete run knows; empty when there is none."""
        try:
            return os.path.basename(os.readlink(os.path.join(self.home, "current")))
        except OSError:
            return ""

    def previous(self) -> str:
        """The release that was last active before the current one and did not fail; empty when there is none."""
        others = [one for one in self.all() if one["id"] != self.current()]
        good = [one for one in others if one.get("activated") and not one.get("rejected")]
        return max(good, key=lambda one: float(one["activated"]))["id"] if good else ""

    def slots(self, current: str, coming: str = "") -> list[str]:
        """Releases in the order in which nginx looks for a static file: from new to old, but those that never ran last.

        :param current: the release that runs, which comes first.
        :param coming: the release about to run, which comes next.
        """
        others = sorted(self.all(), key=lambda one: not one.get("activated"))
        return [name for name in dict.fromkeys([current, coming, *(one["id"] for one in others)]) if name]

    def superfluous(self, current: str, keep: int) -> list[str]:
        """Releases to remove. ``keep`` stay: the current one, the one to return to, the newest that did not fail."""
        order = [current, self.previous()] if self.current() == current else [current, self.current()]
        order += [one["id"] for one in sorted(self.all(), key=lambda one: bool(one.get("rejected")))]
        kept = [name for name in dict.fromkeys(order) if name][: max(keep, 1)]  # never the one that runs
        return [one["id"] for one in self.all() if one["id"] not in kept] + self.incomplete()


def arrange(root: str, slots: list[str]) -> bool:
    """Let ``0``, ``1`` and so on link to the given releases, the last to the same as the first.

    In an order in which at every moment each release is found under one of them: the next to change is one whose
    release has another link, or needs none any more. When the rest only change places, the last link, which is one too
    many, holds one of them meanwhile.

    :returns: whether anything changed.
    """
    last = len(slots) - 1
    have = [os.path.join(root, str(number)) for number in range(len(slots))]
    linked = [target(path) for path in have]
    wrong = [number for number, name in enumerate(slots) if linked[number] != name]
    changed = bool(wrong)
    while wrong:
        free = [number for number in wrong if linked[number] not in slots or linked.count(linked[number]) > 1]
        # The last one only when no other is free: it may be holding a release for another one.
        number = max(free, key=lambda number: (number != last, number), default=last)
        name = slots[number] if free else linked[wrong[0]]
        link(name, have[number])
        linked[number] = name
        wrong = [number for number, name in enumerate(slots) if linked[number] != name]
    return changed


def publish(releases: Releases, current: str, static: dict[str, str] | None = None, of: str = "") -> bool:
    """Let nginx find the static files of every release.

    ``static/ID/URL-PREFIX`` links to the directory in the release. ``static/0`` links to the current release's,
    ``static/1`` and so on to the others: a page of an old release still finds its assets. The last one links to the
    current release once more, which gives the others room to move.
    """
    root = os.path.join(releases.home, "static")
    changed = False
    for prefix, directory in (static or {}).items():
        path = os.path.join(root, of, prefix.strip("/"))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        changed |= link(releases.path(of, "src", directory), path)
    slots = [name for name in releases.slots(current, of) if os.path.isdir(os.path.join(root, name))]
    slots += slots[:1]
    changed |= arrange(root, slots)
    for name in os.listdir(root):
        path = os.path.join(root, name)
        if (name.isdigit() and os.path.islink(path) and int(name) >= len(slots)) or name.endswith(".new"):
            os.unlink(path)
            changed = True
        elif not name.isdigit() and name not in slots:
            shutil.rmtree(path)
            changed = True
    return changed


def run_as(user: pwd.struct_passwd, what: str, command: list[str], home: str, path: str) -> str:
    """Run one step of staging a release in its source, with the rights of the app's user; return the output.

    :raises StageFailed: with the last lines of the output.
    """
    scratch = os.path.join(path, "scratch")
    environment = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    environment.update(PATH="/usr/local/bin:/usr/bin:/bin", LANG="C.UTF-8", HOME=scratch, TMPDIR=scratch)
    environment.update(PIP_CACHE_DIR=os.path.join(home, "cache"), PIP_NO_INPUT="1", PIP_DISABLE_PIP_VERSION_CHECK="1")
    try:
        done = subprocess.run(
            command, cwd=os.path.join(path, "src"), env=environment,
            user=user.pw_uid, group=user.pw_gid, extra_groups=[], umask=0o022,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            check=False,
        )  # fmt: skip
    except OSError as error:  # no such interpreter, or not for this user
        raise StageFailed(f"{what} failed: {error}") from error
    if done.returncode != 0:
        raise StageFailed(f"{what} failed:\n" + "\n".join(done.stdout.strip().splitlines()[-LOG_LINES:]))
    return done.stdout


def own_by_root(path: str, group: int) -> None:
    """Give a tree to root, readable for one group, for nobody else."""
    for folder, folders, files in os.walk(path):
        for name in [".", *files, *(one for one in folders if os.path.islink(os.path.join(folder, one)))]:
            one = os.path.join(folder, name)
            os.lchown(one, 0, group)
            mode = os.lstat(one).st_mode
            if not stat.S_ISLNK(mode):
                os.chmod(one, 0o750 if mode & stat.S_IXUSR else 0o640)


def open_to_nginx(releases: Releases, release: str, directories: list[str]) -> None:
    """Let everybody read the static directories and pass through (not list) the directories above them."""
    root = os.path.realpath(releases.path(release))
    for directory in directories:
        # The source of a package is a link into the virtualenv: the directories to open are the real ones. What pip
        # ran may have left links there that lead elsewhere: root opens nothing outside the release.
        path = os.path.realpath(releases.path(release, "src", directory))
        if not os.path.isdir(path) or not path.startswith(root + os.sep):
            raise StageFailed(f"the static directory {directory} is not in the source: correct `static`.")
        above = path
        while above != root:
            os.chmod(above, os.stat(above).st_mode | stat.S_IXOTH)
            above = os.path.dirname(above)
        for folder, _folders, files in os.walk(path):
            os.chmod(folder, 0o755)
            for name in files:
                if not os.path.islink(os.path.join(folder, name)):
                    os.chmod(os.path.join(folder, name), 0o644)


def lay_out(path: str, bundle: str | None, user: pwd.struct_passwd) -> None:
    """Make the directories of a release anew, for the app's user to fill, with the source in its place."""
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path, mode=0o711)
    for name in ("src", "venv", "scratch"):
        os.mkdir(os.path.join(path, name), 0o700)
    if bundle:
        with tarfile.open(bundle) as archive:
            # Our own archive: regular files, directories and links that stay inside.
            archive.extraction_filter = staticmethod(lambda member, _path: member)
            archive.extractall(os.path.join(path, "src"))  # noqa: S202
    for folder, folders, files in os.walk(path):
        for name in [".", *folders, *files]:
            os.lchown(os.path.join(folder, name), user.pw_uid, user.pw_gid)
    os.chown(path, 0, 0)


def keep_pip(run: Callable[..., str], path: str, kept: str, user: pwd.struct_passwd) -> None:
    """Keep the pip of a release for the next ones: installing it takes as long as what a small app requires.

    It belongs to root: an app that was broken into cannot change what installs its next release.

    :param path: the release, in whose virtualenv is nothing but pip.
    :param kept: the directory to be, which is complete as soon as it is there.
    """
    copy = os.path.join(path, "pip")
    os.mkdir(copy, 0o700)
    os.chown(copy, user.pw_uid, user.pw_gid)
    run("keeping pip", "sh", "-c", KEEP_PIP, "sh", os.path.join(path, "venv"), copy)
    own_by_root(copy, user.pw_gid)
    for old in glob.glob(os.path.join(os.path.dirname(kept), PIP.format("*", "*"))):
        os.rename(old, os.path.join(path, "scratch", os.path.basename(old)))
    os.rename(copy, kept)


def stage(releases: Releases, params: dict[str, Any]) -> None:
    """Make a release ready to run.

    :raises StageFailed: with the step that failed; nothing but the unfinished directory was touched.
    """
    release, user = params["id"], pwd.getpwnam(params["user"])
    path = releases.path(release)
    source, venv = os.path.join(path, "src"), os.path.join(path, "venv")
    lay_out(path, params["bundle"], user)

    def run(what: str, *command: str) -> str:
        return run_as(user, what, list(command), releases.home, path)

    python = os.path.join(venv, "bin", "python")
    # In two steps: venv hides what pip's own installation complains about, a full disk for example.
    run(f"making a virtualenv with {params['interpreter']}", params["interpreter"], "-m", "venv", "--without-pip", venv)
    ask = "import ensurepip, platform; print(platform.python_version(), ensurepip.version())"
    version, pip_version = run("asking Python for its version and its pip's", python, "-c", ask).split()[-2:]
    kept = os.path.join(releases.home, PIP.format(pip_version, version))
    if os.path.isdir(kept):
        run("installing pip", "sh", "-c", TAKE_PIP, "sh", venv, kept)
    else:
        run("installing pip", python, "-m", "ensurepip", "--default-pip")
        keep_pip(run, path, kept, user)
    pip = [python, "-m", "pip", "install", "--quiet", "--no-input", "--prefer-binary", *params["pip_arguments"]]
    if params["requirements"]:
        file = os.path.join(source, params["requirements"])
        if not os.path.isfile(file):
            raise StageFailed(f"{params['requirements']} is not in the source: correct `python.requirements`.")
        hashes = ["--require-hashes"] if params["require_hashes"] else []
        run(f"installing {params['requirements']}", *pip, *hashes, "--requirement", file)
    if params["packages"]:
        run(f"installing {', '.join(params['packages'])}", *pip, *params["packages"])
    if not params["bundle"]:
        ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
        library = run("asking Python for its library", python, "-c", ask).strip()
        os.rmdir(source)
        os.symlink(os.path.relpath(library, path), source)
    else:
        # Later nobody may write here any more. Files that do not compile are for the preflight to report.
        subprocess.run([python, "-m", "compileall", "-q", source], check=False, capture_output=True,
                       user=user.pw_uid, group=user.pw_gid, extra_groups=[])  # fmt: skip
    shutil.rmtree(os.path.join(path, "scratch"))
    for tree in (source, venv):
        if not os.path.islink(tree):
            own_by_root(tree, user.pw_gid)
    open_to_nginx(releases, release, list(params["static"].values()))
    releases.record(release, id=release, label=params["label"], created=time.time(), python=version)


def activate(releases: Releases, params: dict[str, Any]) -> bool:
    """Let `current` and the static files follow a release that runs. Returns whether that changed anything."""
    release = params["id"]
    changed = link(os.path.join("releases", release), os.path.join(releases.home, "current"))
    description = releases.describe(release) or {}
    if changed or not description.get("activated") or description.get("rejected"):
        releases.record(release, activated=time.time(), rejected=False)
        changed = True
    for other in params["reject_others"]:
        if other != release and releases.describe(other):
            releases.record(other, rejected=True)
            changed = True
    return changed


def bring(module: AnsibleModule, releases: Releases) -> tuple[bool, list[str]]:
    """Bring the releases into the wanted state. Returns whether that changed anything, and the IDs removed."""
    state, release = module.params["state"], module.params["id"]
    known = releases.describe(release) if release else None
    changed, removed = False, []

    if state == "staged":
        changed = known is None
        if changed and not module.check_mode:
            try:
                stage(releases, module.params)
            except (StageFailed, OSError) as failure:
                shutil.rmtree(releases.path(release), ignore_errors=True)
                module.fail_json(msg=f"Release {release} could not be staged, nothing that runs was touched: {failure}")
            finally:
                if module.params["bundle"]:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(module.params["bundle"])
        if not module.check_mode:
            changed |= publish(releases, releases.current(), module.params["static"], release)
    elif state == "current":
        if known is None and not module.check_mode:
            module.fail_json(msg=f"Release {release} is not on this host: stage it first.")
        removed = releases.superfluous(release, module.params["keep"])
        if module.check_mode:
            changed = bool(removed) or releases.current() != release
        else:
            changed = activate(releases, module.params)
            removed = releases.superfluous(release, module.params["keep"])
            for one in removed:
                shutil.rmtree(releases.path(one))
            changed |= publish(releases, release) or bool(removed)
    elif state == "rejected" and known and not known.get("rejected"):
        changed = True
        if not module.check_mode:
            releases.record(release, rejected=True)
    return changed, removed


def main() -> None:
    """Check what was asked, and do it while no other module is at work."""
    module = AnsibleModule(
        argument_spec={
            "home": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["staged", "current", "rejected", "listed"], "required": True},
            "id": {"type": "str"},
            "user": {"type": "str"},
            "bundle": {"type": "path"},
            "label": {"type": "str", "default": ""},
            "interpreter": {"type": "path", "default": "/usr/bin/python3"},
            "requirements": {"type": "str", "default": ""},
            "require_hashes": {"type": "bool", "default": False},
            "packages": {"type": "list", "elements": "str", "default": []},
            "pip_arguments": {"type": "list", "elements": "str", "default": []},
            "static": {"type": "dict", "default": {}},
            "keep": {"type": "int", "default": 5},
            "reject_others": {"type": "list", "elements": "str", "default": []},
        },
        required_if=[
            ("state", "staged", ["id", "user"]),
            ("state", "current", ["id"]),
            ("state", "rejected", ["id"]),
        ],
        supports_check_mode=True,
    )
    releases, state, release = Releases(module.params["home"]), module.params["state"], module.params["id"]
    if release and not re.match(r"[0-9a-z][0-9a-z._-]*\Z", release):
        module.fail_json(msg=f"id is {release!r}, but has to be letters, digits, '.', '_' and '-'.")
    reads_only = module.check_mode or state == "listed"
    try:
        with contextlib.nullcontext() if reads_only else exclusive():
            changed, removed = bring(module, releases)
    except Busy as reason:
        module.fail_json(msg=str(reason))
    facts = {"releases": releases.all(), "current": releases.current(), "previous": releases.previous()}
    module.exit_json(changed=changed, removed=removed, **facts)


if __name__ == "__main__":
    main()
