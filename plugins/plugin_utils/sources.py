"""Pack the source of an app into one archive whose name is its content, on the controller.

The hosts need neither git nor access to the repository, and no key for it. Equal content gives an equal digest, on
every machine and at any time. Nothing is written except a cache, so this also runs in check mode.
"""

from __future__ import annotations

import contextlib
import fcntl
import fnmatch
import gzip
import hashlib
import io
import json
import lzma
import os
import re
import shutil
import stat
import subprocess
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils.urls import open_url
from ansible_collections.flaskops.emperor.plugins.plugin_utils import credentials, dependencies
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused

# Never part of a release: history, caches, and virtualenvs, which only work on the machine that made them.
ALWAYS_LEFT_OUT = (".git", ".hg", ".svn", "__pycache__", "*.pyc", ".venv", "venv", ".tox", ".nox", "node_modules",
                   ".pytest_cache", ".mypy_cache", ".ruff_cache", ".DS_Store")  # fmt: skip
# What unpacking raises for an archive that is cut off, damaged, encrypted, or none at all.
BROKEN = (tarfile.TarError, shutil.ReadError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError,
          ValueError, RuntimeError)  # fmt: skip
COMMIT = re.compile(r"[0-9a-f]{40}\Z")


def left_out(name: str, patterns: list[str]) -> bool:
    """Whether a file or directory of this name stays behind."""
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def members(root: str, patterns: list[str]) -> Iterator[str]:
    """The paths below a directory that belong to the release, relative to it, parents first, in a fixed order."""
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not left_out(name, patterns))
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in sorted(folders + [name for name in files if not left_out(name, patterns)]):
            yield os.path.relpath(os.path.join(folder, name), root)
        folders[:] = [name for name in folders if name not in links]


def describe(root: str, relative: str) -> tuple[str, bytes]:
    """Kind and content of one member, as they enter digest and archive.

    :raises Refused: for a link that leads out of the source, and for anything but files, directories and links.
    """
    path = os.path.join(root, relative)
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        target = os.readlink(path)
        resolved = os.path.normpath(os.path.join(os.path.dirname(relative), target))
        # By its words and in truth: "link/.." is not where it seems when the link leads up.
        top, end = os.path.realpath(root), os.path.realpath(path)
        if os.path.isabs(target) or resolved.split(os.sep)[0] == ".." or os.path.commonpath([top, end]) != top:
            raise Refused(f"has the link {relative}, which leads out of the source to {target}: replace it by a file.")
        return "link", os.fsencode(target)
    if stat.S_ISDIR(mode):
        return "directory", b""
    if not stat.S_ISREG(mode):
        raise Refused(f"has {relative}, which is neither a file nor a directory nor a link: remove or exclude it.")
    with open(path, "rb") as file:
        return ("program" if mode & stat.S_IXUSR else "file"), file.read()


def pack(root: str, patterns: list[str], target: str) -> str:
    """Write a directory as a compressed archive and return the digest of its content.

    Owners are left out and times follow from the content: the same source packed anywhere gives the same files on
    every host, and a file that changed gets another time, so that browsers, which compare the time and length that
    nginx tells them, never keep an old asset.
    """
    whole = hashlib.sha256()
    empty = True
    with (
        open(target, "wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, 0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for relative in members(root, patterns):
            kind, content = describe(root, relative)
            own = hashlib.sha256(content)
            for part in (kind.encode(), os.fsencode(relative), own.digest()):
                whole.update(b"%d:" % len(part) + part)
            info = tarfile.TarInfo(relative)
            # Between 2001 and 2017: a time in the past, as HTTP wants it.
            info.mtime = 1_000_000_000 + int.from_bytes(own.digest()[:4], "big") % 500_000_000
            info.mode = 0o755 if kind in ("program", "directory") else 0o644
            if kind == "link":
                info.type, info.linkname = tarfile.SYMTYPE, os.fsdecode(content)
            elif kind == "directory":
                info.type = tarfile.DIRTYPE
            else:
                info.size, empty = len(content), False
            archive.addfile(info, io.BytesIO(content) if info.size else None)
    if empty:
        raise Refused("has no files: name the directory that holds the app.")
    return whole.hexdigest()


def git(*arguments: str, cwd: str | None = None, known: Mapping[str, str] | None = None) -> str:
    """Run git without ever asking a person.

    :param known: variables, see `credentials.for_git`.
    :raises Refused: with git's own words.
    """
    environment = {"GIT_SSH_COMMAND": "ssh -oBatchMode=yes", **os.environ, "GIT_TERMINAL_PROMPT": "0",
                   **(known or {})}  # fmt: skip
    command = ["git", *arguments]
    try:
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise Refused("needs git on the machine that runs Ansible: install it there.") from error
    if done.returncode != 0:
        raise Refused(f"could not be read: `git {arguments[0]}` says: {credentials.hidden(done.stderr.strip())}")
    return done.stdout.strip()


def resolve(repo: str, version: str) -> str:
    """The commit a tag or branch of a repository stands for; an annotated tag stands for the commit it marks."""
    if COMMIT.match(version):
        return version
    address, known = credentials.for_git(repo)
    listing = git("ls-remote", "--", address, known=known)
    commits: dict[str, str] = {}
    for line in listing.splitlines():
        commit, _tab, reference = line.partition("\t")
        commits[reference] = commit
    for reference in (f"refs/tags/{version}^{{}}", f"refs/tags/{version}", f"refs/heads/{version}", version):
        if reference in commits:
            return commits[reference]
    raise Refused(f"has no tag or branch {version!r}: correct source.git.version (a commit needs all its 40 digits).")


def checkout(repo: str, commit: str, target: str) -> None:
    """Bring one commit, its submodules included, into a directory."""
    address, known = credentials.for_git(repo)
    git("clone", "--quiet", "--no-checkout", "--", address, target, known=known)
    git("checkout", "--quiet", "--detach", commit, cwd=target, known=known)
    # git takes a file that it cannot read for no failure.
    if missing := git("ls-files", "--deleted", cwd=target).splitlines():
        raise Refused(
            f"is damaged: git cannot read {missing[0]}{' and others' if missing[1:] else ''} of {commit[:12]}: see "
            "`git fsck` in the repository, and take a whole clone of it."
        )
    git("submodule", "--quiet", "update", "--init", "--recursive", cwd=target, known=known)


def unpack_tar(file: str, target: str) -> None:
    """Unpack a tar archive into a directory, and nothing outside of it.

    :raises tarfile.TarError: when the archive leads out.
    """
    with tarfile.open(file) as archive:
        if hasattr(tarfile, "data_filter"):
            archive.extractall(target, filter="data")
            return
        # Python before 3.11.4, Debian 12's for one. Links come last, so that nothing is written through one.
        members = archive.getmembers()
        links = [member for member in members if member.issym()]
        places = {os.path.normpath(link.name) for link in links}
        for member in members:
            path = os.path.normpath(member.name)
            target_of_link = os.path.normpath(os.path.join(os.path.dirname(path), member.linkname))
            if any(os.path.isabs(one) or one.split(os.sep)[0] == ".." for one in (path, target_of_link)):
                raise tarfile.TarError(f"{member.name} leads out of it")
            if not (member.isfile() or member.isdir() or member.issym()):
                raise tarfile.TarError(f"{member.name} is neither a file nor a directory nor a symbolic link")
            if places.intersection(path[:end] for end, sign in enumerate(path) if sign == os.sep):
                raise tarfile.TarError(f"{member.name} goes through a link")
        archive.extractall(target, [member for member in members if not member.issym()])  # noqa: S202
        archive.extractall(target, links)  # noqa: S202


def unpack(url: str, checksum: str, base: str, scratch: str) -> str:
    """Fetch an archive, compare its checksum, unpack it and return the directory that holds the source.

    An archive whose only content is one directory (as code hosts make them) is the source inside that directory.
    """
    file, shown = os.path.join(scratch, "archive"), credentials.hidden(url)
    try:
        if re.match(r"[a-z]+://", url):
            with open_url(url, timeout=60) as remote, open(file, "wb") as local:
                shutil.copyfileobj(remote, local)
        else:
            shutil.copyfile(os.path.join(base, os.path.expanduser(url)), file)
    except OSError as error:
        raise Refused(f"could not be read from {shown}: {credentials.hidden(str(error))}.") from error
    with open(file, "rb") as local:
        found = "sha256:" + hashlib.sha256(local.read()).hexdigest()
    if found != checksum:
        raise Refused(
            f"at {shown} has the checksum {found}, not {checksum}: check where it comes from, then correct "
            "source.archive.checksum."
        )
    target = os.path.join(scratch, "unpacked")
    os.mkdir(target)
    try:
        # The format is told by the content, as the file has no name of its own here.
        if tarfile.is_tarfile(file):
            unpack_tar(file, target)
        else:
            shutil.unpack_archive(file, target, "zip")
    except BROKEN as error:
        raise Refused(f"at {shown} cannot be unpacked: {error}. Use a tar or zip archive.") from error
    content = os.listdir(target)
    single = os.path.join(target, content[0]) if len(content) == 1 else ""
    return single if os.path.isdir(single) else target


def bundle(source: dict[str, Any], base: str, cache: str) -> dict[str, str]:
    """Make sure the cache holds the archive of a source.

    :raises Refused: with a sentence that follows "flask_apps[NAME].source ".
    """
    kind = source["kind"]
    patterns = [*ALWAYS_LEFT_OUT, *source.get("exclude", [])]
    if kind == "package":
        label = source["package"]
        digest = hashlib.sha256(b"package " + label.encode()).hexdigest()
        return {"digest": digest, "file": "", "label": label, "requirements": "", "git": ""}
    os.makedirs(cache, mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        label = ""
        if kind == "path":
            root = os.path.join(base, os.path.expanduser(source["path"]))
            if not os.path.isdir(root):
                raise Refused(
                    f"is {os.path.normpath(root)}, which is no directory on the machine that runs Ansible: correct "
                    "source.path."
                )
        elif kind == "git":
            label = resolve(source["git"]["repo"], str(source["git"]["version"]))
            root = os.path.join(scratch, "clone")
            checkout(source["git"]["repo"], label, root)
        else:
            url = source["archive"]["url"]
            # What follows a "?" in an address may be secret, as in one that is signed.
            label = os.path.basename(urlsplit(url).path if "://" in url else url)
            root = unpack(source["archive"]["url"], source["archive"]["checksum"], base, scratch)
        root = os.path.join(root, source["directory"]) if source.get("directory") else root
        if not os.path.isdir(root):
            raise Refused(f"has no directory {source['directory']}: correct source.directory.")
        requirements = dependencies.found(root, lambda name: left_out(name, patterns))
        git = "git" if dependencies.wants_git(root, requirements) else ""
        packed = os.path.join(scratch, "bundle.tar.gz")
        digest = pack(root, patterns, packed)
        file = os.path.join(cache, digest + ".tar.gz")
        os.replace(packed, file)
    return {"digest": digest, "file": file, "label": label, "requirements": requirements, "git": git}


KEPT_SECONDS = 30 * 24 * 3600  # for which an archive stays in the cache after its last use


def prune(cache: str) -> None:
    """Remove what no run has used for a month from the cache."""
    for folder, _folders, files in os.walk(cache):
        for name in files:
            path = os.path.join(folder, name)
            with contextlib.suppress(FileNotFoundError):
                if time.time() - os.stat(path).st_mtime > KEPT_SECONDS:
                    os.unlink(path)


def bundles(apps: Iterable[Mapping[str, Any]], base: str, cache: str, run: str) -> dict[str, dict[str, str]]:
    """Pack the sources of apps, each source once in a run.

    The hosts of a run ask at the same time. The first one packs, the others get the same answer: a branch that moves
    meanwhile does not split the fleet.

    :param apps: entries completed by `complete_apps`.
    :param base: directory to which relative paths refer.
    :param cache: directory for the archives, made when it is not there.
    :param run: names the run of ansible-playbook, in letters, digits and dashes.
    :returns: ``digest``, ``file`` (empty for a package), ``label``, ``requirements`` (the file that says what it
        requires, if any) and ``git`` (the Debian package, if that file names a repository) of each app, by its name.
    :raises Refused: with one sentence that names the variable and the cure.
    """
    os.makedirs(os.path.join(cache, "runs"), mode=0o700, exist_ok=True)
    memo = os.path.join(cache, "runs", f"{run}.json")
    with open(os.path.join(cache, "lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(memo):  # once in a run
            prune(cache)
        known: dict[str, dict[str, str]] = {}
        with contextlib.suppress(FileNotFoundError, ValueError), open(memo, encoding="utf-8") as file:
            known = json.load(file)
        found = {}
        for app in apps:
            key = hashlib.sha256(json.dumps([base, app["source"]], sort_keys=True, default=str).encode()).hexdigest()
            if key not in known or (known[key]["file"] and not os.path.exists(known[key]["file"])):
                try:
                    known[key] = bundle(app["source"], base, cache)
                except Refused as refusal:
                    raise Refused(f"flask_apps[{app['name']}].source {refusal}") from refusal
            found[app["name"]] = known[key]
        with open(memo, "w", encoding="utf-8") as file:
            json.dump(known, file)
    return found
