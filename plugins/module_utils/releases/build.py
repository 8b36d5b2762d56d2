"""Building a release: its source, a virtualenv, what it requires, its own build; then all of it is root's."""

from __future__ import annotations

import compileall
import contextlib
import os
import platform
import posixpath
import pwd
import re
import shlex
import shutil
import stat
import sys
import tarfile
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils import as_user, causes, confined, host
from ansible_collections.flaskops.emperor.plugins.module_utils.releases import distributions, install, locks, reuse
from ansible_collections.flaskops.emperor.plugins.module_utils.releases.registry import SOURCE, Releases
from ansible_collections.flaskops.emperor.plugins.module_utils.releases.sandbox import BUILDER, Failed, Sandbox
from ansible_collections.flaskops.emperor.plugins.module_utils.secrets import CREDENTIALS, censor

LOG_LINES = 15  # of a failed command's output
CACHE = "wheels"  # what was downloaded and built, kept for the next releases of the app
CACHE_LIMIT = 1024**3  # bytes that it may have when a release is built
# Options of the module `release` that another host needs to make the same release.
RECIPE = ("interpreter", "requirements", "extras", "groups", "build", "require_hashes", "packages", "static")
UV = {"UV_LINK_MODE": "copy", "UV_COMPILE_BYTECODE": "1", "UV_SYSTEM_CERTS": "1", "UV_NO_PROGRESS": "1",
      "UV_PYTHON_DOWNLOADS": "never", "UV_NO_MANAGED_PYTHON": "1", "NO_COLOR": "1",
      "GIT_TERMINAL_PROMPT": "0"}  # fmt: skip
BUILD_VARIABLE = "a build does not get `environment`, so write `env NAME=value COMMAND`, or use `build_environment`"
CHATTER = re.compile(r"^Using Python .* environment at: .*\n", re.MULTILINE)  # uv's, in each answer


class BuildFailed(Exception):
    """A step of a build failed; the text says which, and shows the end of its output."""


def said(output: str, secrets: Mapping[str, str], missed: str = "") -> str:
    """The end of what a step wrote: the cause first, no passwords.

    :param secrets: variables whose values are hidden if they may be secret.
    :param missed: said behind the cause, a sentence.
    """
    output = CHATTER.sub("", CREDENTIALS.sub("********@", censor(output, secrets)))
    last = "\n".join(output.splitlines()[-LOG_LINES:])
    cause = causes.of_build(output) or causes.of_start(output).replace("set it in `environment`", BUILD_VARIABLE)
    if missed and cause.startswith("the module "):
        cause = ""  # it is one of these files
    told = " ".join(part for part in (f"{cause.rstrip('.')}." if cause else "", missed) if part)
    return f" {told}\n{last}" if told else f"\n{last}"


def missed(output: str, files: Iterable[str]) -> str:
    """A sentence when a step seems to have looked for configuration files of the app, which a build does not get.

    :param files: where the app looks for them.
    """
    for one in files:
        name = posixpath.basename(one)
        stem = re.escape(posixpath.splitext(name)[0])
        seeks = rf"\b{re.escape(name)}\b|\b{stem}\b[\"'`.)]* not found|No module named '(?:[^']+\.)?{stem}'"
        if re.search(seeks, output):
            return (
                f"A build gets neither `files` ({name}) nor `environment`, as their secrets are not its own: give it "
                "settings without secrets (`env NAME=value COMMAND`, or a file that `build` writes), or do this in "
                "`hooks.prepare`, below the app's home."
            )
    return ""


def environment_of(path: str, home: str, params: Mapping[str, Any]) -> dict[str, str]:
    """The environment of every step of a build; that of the app when it runs is not in it."""
    scratch, venv = os.path.join(path, "scratch"), os.path.join(path, "venv")
    found = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    found.update(UV, PATH=f"{venv}/bin:/usr/local/bin:/usr/bin:/bin", LANG="C.UTF-8", HOME=scratch, TMPDIR=scratch)
    found.update(VIRTUAL_ENV=venv, UV_PROJECT_ENVIRONMENT=venv, UV_CACHE_DIR=os.path.join(home, CACHE))
    found.update(RELEASE_ID=params["id"])
    found |= install.pip_settings() | install.split_arguments(params["pip_arguments"])[1]
    found.update(params["environment"])
    return found


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
        # The source of a package is a link into the virtualenv: the directories to open are the real ones. What the
        # build ran may have left links there that lead elsewhere: root opens nothing outside the release.
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
    """Make the directories of a release anew, for the user that builds, with the source in its place."""
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


def leave_credentials(home: str, credentials: Sequence[Mapping[str, str]], user: pwd.struct_passwd) -> dict[str, str]:
    """Put them where git, uv and curl look for them, for the user that builds alone; not in a list of processes.

    :param home: of the build, which is removed at its end.
    :returns: the passwords, as variables.
    """
    lines = [f"machine {one['host']} login {one['user']} password {one['password']}\n" for one in credentials]
    if lines:
        host.write(os.path.join(home, ".netrc"), "".join(lines), user.pw_uid, user.pw_gid)
    return {f"PASSWORD_{number}": one["password"] for number, one in enumerate(credentials)}


def contents(source: str) -> set[str]:
    """The files of a source, except those that any build leaves and no app needs."""
    found = set()
    for folder, folders, files in os.walk(source):
        left = ("__pycache__", "build")
        folders[:] = [name for name in folders if name not in left and not name.endswith(".egg-info")]
        found |= {os.path.join(folder, name) for name in files}
    return found


def size_of(path: str) -> int:
    """Bytes of the files below a directory; what is linked several times counts once."""
    found = {}
    for folder, _folders, files in os.walk(path):
        for name in files:
            with contextlib.suppress(FileNotFoundError):
                one = os.lstat(os.path.join(folder, name))
                found[one.st_ino] = one.st_size
    return sum(found.values())


def trim(run: Callable[..., str], installer: str, cache: str) -> None:
    """Keep what was downloaded and compiled within a limit: first what can be downloaded again goes, then all of it.

    Only after something was installed, as nothing else lets it grow. A cache that cannot be trimmed fails no release.
    """
    for command in (("prune", "--ci"), ("clean",)):
        if size_of(cache) <= CACHE_LIMIT:
            return
        with contextlib.suppress(BuildFailed):
            run("trimming the cache", installer, "cache", *command)


def is_this(interpreter: str) -> bool:
    """Whether a Python is the one that runs this module, as Debian's usually is for both."""
    return os.path.realpath(interpreter) == os.path.realpath(sys.executable)


def version_of(run: Callable[..., str], interpreter: str) -> str:
    """The version of a Python.

    :param run: runs a step, see `build`.
    """
    if is_this(interpreter):
        return platform.python_version()
    ask = "import platform; print(platform.python_version())"
    return run(f"asking {interpreter} for its version", interpreter, "-c", ask).split()[-1]


def fill(run: Callable[..., str], releases: Releases, params: dict[str, Any], group: int) -> dict[str, Any]:
    """Make the virtualenv of a release, or take it from an earlier one that was made of the same.

    :param run: runs a step, see `build`.
    :param group: that may read it.
    :returns: the version of the Python, what the virtualenv is made of, and, of one that was taken over, what is in it.
    """
    path = releases.path(params["id"])
    source, venv = os.path.join(path, "src"), os.path.join(path, "venv")
    if params["requirements"] and not os.path.isfile(os.path.join(source, params["requirements"])):
        raise BuildFailed(f"{params['requirements']} is not in the source: correct `python.requirements`.")
    version = version_of(run, params["interpreter"])
    made_of, known = reuse.fingerprint(params, source, version), None
    if earlier := reuse.earlier(releases, made_of):
        os.rmdir(venv)
        reuse.take_over(releases.path(earlier, "venv"), venv)
        known = (releases.describe(earlier) or {}).get(distributions.KEY)
    else:
        before = contents(source)
        install.install(run, params, path)
        trim(run, params["installer"], os.path.join(releases.home, CACHE))
        if contents(source) != before:
            made_of = ""  # a part of what was installed is in the source, where no other release would find it
    if params["bundle"]:
        own_by_root(venv, group)  # what the build may use, but not change: it could not in a virtualenv taken over
    return {"python": version, reuse.KEY: made_of, distributions.KEY: known}


def make_parts(run: Callable[..., str], releases: Releases, params: Mapping[str, Any]) -> None:
    """Run the release's own build.

    :param run: runs a step, see `build`.
    """
    # An app that these commands import may expect its directories, which the source lacks.
    data = [releases.path(params["id"], link["at"]) for link in params["persistent"] if not link["optional"]]
    if params["build"] and (missing := [path for path in data if not os.path.lexists(path)]):
        run("making the persistent directories", "mkdir", "-p", "--", *missing)
    for command in params["build"]:
        run(f"`{command}` (build)", *shlex.split(command))


def compile_quietly(source: str) -> None:
    """Compile all Python files of a source that can be compiled."""
    warnings.simplefilter("ignore")
    compileall.compile_dir(source, quiet=2)


def compile_source(place: Sandbox, source: str, python: str, interpreter: str, group: int) -> None:
    """Compile a source: later nothing may be written there any more. Faults in it are for the trial start to report.

    No code of the source runs for that. So the user that builds suffices, without the sandbox, which takes longer than
    the compiler.

    :param python: of the virtualenv, made with this ``interpreter``.
    :param group: that may enter the directory of the app.
    """
    if is_this(interpreter):
        with contextlib.suppress(as_user.Failed):
            as_user.call(pwd.getpwnam(BUILDER), lambda: compile_quietly(source), [group], yields=True)
            return
    with contextlib.suppress(Failed):
        place.run([python, "-I", "-m", "compileall", "-q", source], source)


def build(releases: Releases, params: dict[str, Any]) -> None:
    """Make a release ready to run.

    :raises BuildFailed: with the step that failed; nothing but the unfinished directory was touched.
    """
    release, group = params["id"], pwd.getpwnam(params["user"]).pw_gid
    path = releases.path(release)
    source, venv = os.path.join(path, "src"), os.path.join(path, "venv")
    environment = environment_of(path, releases.home, params)
    try:
        place = Sandbox(params["user"], BUILDER, path, [path, environment["UV_CACHE_DIR"]], environment)
    except confined.Unconfined as reason:
        raise BuildFailed(str(reason)) from reason
    place.stop()
    if not os.path.isdir(environment["UV_CACHE_DIR"]):
        os.mkdir(environment["UV_CACHE_DIR"], 0o700)
        os.chown(environment["UV_CACHE_DIR"], pwd.getpwnam(BUILDER).pw_uid, pwd.getpwnam(BUILDER).pw_gid)
    lay_out(path, params["bundle"], pwd.getpwnam(BUILDER))
    secrets = params["environment"] | leave_credentials(
        environment["HOME"], params["credentials"], pwd.getpwnam(BUILDER)
    )

    def run(what: str, *command: str, directory: str = source) -> str:
        try:
            return place.run(command, directory)
        except Failed as failure:
            unknown = missed(str(failure), params["files"]) if what.endswith("(build)") else ""
            raise BuildFailed(f"{what} failed:{said(str(failure), secrets, unknown)}") from failure

    try:
        facts = fill(run, releases, params, group)
    except locks.Unusable as reason:
        raise BuildFailed(f"{reason}.") from reason
    if not params["bundle"]:
        ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
        library = run("asking Python for its library", os.path.join(venv, "bin", "python"), "-c", ask).strip()
        os.rmdir(source)
        os.symlink(os.path.relpath(library, path), source)
    make_parts(run, releases, params)
    if params["bundle"]:
        compile_source(place, source, os.path.join(venv, "bin", "python"), params["interpreter"], group)
    shutil.rmtree(os.path.join(path, "scratch"))
    for tree in (source, venv):
        if not os.path.islink(tree):
            own_by_root(tree, group)
    facts[distributions.KEY] = facts[distributions.KEY] or distributions.installed(venv)
    open_to_nginx(releases, release, list(params["static"].values()))
    if params["bundle"]:
        shutil.move(params["bundle"], releases.path(release, SOURCE))
        os.chown(releases.path(release, SOURCE), 0, 0)
        os.chmod(releases.path(release, SOURCE), 0o600)
    made = {"recipe": {name: params[name] for name in RECIPE}, "source": bool(params["bundle"]), **facts}
    releases.record(release, id=release, label=params["label"], created=time.time(), **made)
