"""Building a release: its source, a virtualenv and everything that pip installs, then all of it root's."""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import stat
import subprocess
import tarfile
import time
from collections.abc import Callable
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils import processes
from ansible_collections.flaskops.emperor.plugins.module_utils.releases import reuse
from ansible_collections.flaskops.emperor.plugins.module_utils.releases.registry import Releases

# What a virtualenv has when pip was installed into it and nothing else: where it is kept, how, and how it is brought.
PIP = "pip-{}-of-python-{}"
KEEP_PIP = 'cd "$1" && cp -a --parents bin/pip* lib "$2"'
TAKE_PIP = 'cp -a "$2/." "$1" && sed -i "1s|.*|#!$1/bin/python|" "$1"/bin/pip*'

LOG_LINES = 40  # of a failed command's output; pip tells the cause before its traceback


class BuildFailed(Exception):
    """A step of a build failed; the text says which, and shows the end of its output."""


def run_as(user: pwd.struct_passwd, what: str, command: list[str], home: str, path: str) -> str:
    """Run one step of a build in the source of a release, with the rights of the app's user; return the output.

    :raises BuildFailed: with the last lines of the output.
    """
    scratch = os.path.join(path, "scratch")
    environment = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    environment.update(PATH="/usr/local/bin:/usr/bin:/bin", LANG="C.UTF-8", HOME=scratch, TMPDIR=scratch)
    environment.update(PIP_CACHE_DIR=os.path.join(home, "cache"), PIP_NO_INPUT="1", PIP_DISABLE_PIP_VERSION_CHECK="1")
    try:
        done = subprocess.run(
            [*processes.TAMED, *command], cwd=os.path.join(path, "src"), env=environment,
            user=user.pw_uid, group=user.pw_gid, extra_groups=[], umask=0o022,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            check=False,
        )  # fmt: skip
    except OSError as error:  # no such interpreter, or not for this user
        raise BuildFailed(f"{what} failed: {error}") from error
    if done.returncode != 0:
        raise BuildFailed(f"{what} failed:\n" + "\n".join(done.stdout.strip().splitlines()[-LOG_LINES:]))
    return done.stdout


def own_by_root(path: str, group: int) -> None:
    """Give a tree to root, readable for one group and no other user.

    Its owner may be at work in it, for example by a worker of the release that runs. So from the top down, and what is
    in a directory is looked at when it is root's: from then on nobody else can put a link in the place of something.
    """
    folders = [path]
    while folders:
        folder = folders.pop()
        os.lchown(folder, 0, group)
        os.chmod(folder, 0o750)
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                    continue
                os.lchown(entry.path, 0, group)
                mode = os.lstat(entry.path).st_mode
                if not stat.S_ISLNK(mode):
                    os.chmod(entry.path, 0o750 if mode & stat.S_IXUSR else 0o640)


def open_to_nginx(releases: Releases, release: str, directories: list[str]) -> None:
    """Let every user read the static directories and pass through (not list) the directories above them."""
    root = os.path.realpath(releases.path(release))
    for directory in directories:
        # The source of a package is a link into the virtualenv: the directories to open are the real ones. What pip
        # ran may have left links there that lead elsewhere: root opens nothing outside the release.
        path = os.path.realpath(releases.path(release, "src", directory))
        if not os.path.isdir(path) or not path.startswith(root + os.sep):
            raise BuildFailed(f"the static directory {directory} is not in the source: correct `static`.")
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
    # From the bottom up: what is above is still root's, so that the user, who may be at work, can put no link there.
    for folder, folders, files in os.walk(path, topdown=False):
        for name in [*folders, *files]:
            os.lchown(os.path.join(folder, name), user.pw_uid, user.pw_gid)


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


def install(run: Callable[..., str], params: dict[str, Any], home: str, path: str, user: pwd.struct_passwd) -> None:
    """Make the virtualenv of a release and install what it requires.

    :param run: runs a step as the app's user, see `run_as`.
    :raises BuildFailed: with the step that failed.
    """
    venv = os.path.join(path, "venv")
    python = os.path.join(venv, "bin", "python")
    # In two steps: venv hides what pip's own installation complains about, a full disk for example.
    run(f"making a virtualenv with {params['interpreter']}", params["interpreter"], "-m", "venv", "--without-pip", venv)
    ask = "import ensurepip, platform; print(platform.python_version(), ensurepip.version())"
    version, pip_version = run("asking Python for its version and its pip's", python, "-c", ask).split()[-2:]
    kept = os.path.join(home, PIP.format(pip_version, version))
    if os.path.isdir(kept):
        run("installing pip", "sh", "-c", TAKE_PIP, "sh", venv, kept)
    else:
        run("installing pip", python, "-m", "ensurepip", "--default-pip")
        keep_pip(run, path, kept, user)
    pip = [python, "-m", "pip", "install", "--quiet", "--no-input", "--prefer-binary", *params["pip_arguments"]]
    if params["requirements"]:
        file = os.path.join(path, "src", params["requirements"])
        if not os.path.isfile(file):
            raise BuildFailed(f"{params['requirements']} is not in the source: correct `python.requirements`.")
        hashes = ["--require-hashes"] if params["require_hashes"] else []
        run(f"installing {params['requirements']}", *pip, *hashes, "--requirement", file)
    if params["packages"]:
        run(f"installing {', '.join(params['packages'])}", *pip, *params["packages"])


def build(releases: Releases, params: dict[str, Any]) -> None:
    """Make a release ready to run.

    :raises BuildFailed: with the step that failed; nothing but the unfinished directory was touched.
    """
    release, user = params["id"], pwd.getpwnam(params["user"])
    path = releases.path(release)
    source, venv = os.path.join(path, "src"), os.path.join(path, "venv")
    lay_out(path, params["bundle"], user)

    def run(what: str, *command: str) -> str:
        return run_as(user, what, list(command), releases.home, path)

    python = os.path.join(venv, "bin", "python")
    ask = "import platform; print(platform.python_version())"
    version = run(f"asking {params['interpreter']} for its version", params["interpreter"], "-c", ask).split()[-1]
    made_of = reuse.fingerprint(params, source, version)
    if earlier := reuse.earlier(releases, made_of):
        os.rmdir(venv)
        reuse.take_over(releases.path(earlier, "venv"), venv)
        own_by_root(venv, user.pw_gid)  # root's, but open to the app's user, which compiles the source with it
    else:
        install(run, params, releases.home, path, user)
    if not params["bundle"]:
        ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
        library = run("asking Python for its library", python, "-c", ask).strip()
        os.rmdir(source)
        os.symlink(os.path.relpath(library, path), source)
    else:
        # Later nothing may be written here any more. Files that do not compile are for the trial start to report.
        subprocess.run([*processes.TAMED, python, "-m", "compileall", "-q", source], check=False, capture_output=True,
                       user=user.pw_uid, group=user.pw_gid, extra_groups=[])  # fmt: skip
    shutil.rmtree(os.path.join(path, "scratch"))
    for tree in (source, venv):
        if not os.path.islink(tree):
            own_by_root(tree, user.pw_gid)
    open_to_nginx(releases, release, list(params["static"].values()))
    facts = {"label": params["label"], "created": time.time(), "python": version, reuse.KEY: made_of}
    releases.record(release, id=release, **facts)
