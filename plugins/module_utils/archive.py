"""The archive of an app: its data, its configuration files, what its hooks made, and its settings.

Packed and unpacked as the app's user: what an app may have put among its data then harms nobody but itself. Only the
standard library.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sqlite3
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from typing import IO, Any, NamedTuple
from urllib.parse import quote

SETTINGS, DATA, FILES, HOOKS = "settings.json", "data", "files", "hooks"
SQLITE = b"SQLite format 3\0"
BESIDE = ("-wal", "-shm", "-journal")  # what SQLite keeps beside a database while it is in use
SPOOL = 8 * 1024 * 1024  # bytes of a file that are kept in memory


class Sources(NamedTuple):
    """What goes into an archive.

    :ivar data: directory of the app's data.
    :ivar files: directory of its configuration files; empty for none.
    :ivar hooks: directory that its hooks filled; empty for none.
    :ivar settings: what is known of it, as text.
    :ivar scratch: a directory in which the app's user may write.
    """

    data: str
    files: str
    hooks: str
    settings: bytes
    scratch: str


def opened(path: str) -> IO[bytes]:
    """A regular file, open to be read.

    :raises OSError: when it is none, or may not be read.
    """
    # Not through a link, and not waiting for the other end of a pipe, which may have taken its place.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is no regular file")
    return os.fdopen(descriptor, "rb")


def is_database(path: str) -> bool:
    """Whether a file is a database of SQLite."""
    try:
        with opened(path) as file:
            return file.read(len(SQLITE)) == SQLITE
    except OSError:
        return False


@contextlib.contextmanager
def copied(path: str, scratch: str) -> Iterator[tuple[IO[bytes], int, str]]:
    """A copy of a file that changes no more, its length, and what is wrong with it.

    Of a database it is a state that was committed, while others write on.
    """
    problem = ""
    with tempfile.TemporaryDirectory(prefix="backup-", dir=scratch) as folder:
        if is_database(path):
            copy = os.path.join(folder, "copy")
            try:
                with (
                    contextlib.closing(sqlite3.connect(f"file:{quote(path)}?mode=rw", uri=True, timeout=60)) as source,
                    contextlib.closing(sqlite3.connect(copy)) as target,
                ):
                    source.backup(target)
                path = copy
            except sqlite3.Error as error:
                problem = f"{path} is no sound database ({error}): it was copied as it is."
        with opened(path) as file, tempfile.SpooledTemporaryFile(SPOOL, dir=folder) as spool:
            shutil.copyfileobj(file, spool)
            length = spool.tell()
            spool.seek(0)
            yield spool, length, problem


def member(path: str, name: str) -> tarfile.TarInfo | None:
    """A file, directory or link as it stands in the archive; None for anything else."""
    found = os.lstat(path)
    info = tarfile.TarInfo(name)
    info.mode, info.mtime, info.gid = stat.S_IMODE(found.st_mode), int(found.st_mtime), found.st_gid
    if stat.S_ISDIR(found.st_mode):
        info.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(found.st_mode):
        info.type, info.linkname = tarfile.SYMTYPE, os.readlink(path)
    elif not stat.S_ISREG(found.st_mode):
        return None
    return info


def add_tree(archive: tarfile.TarFile, root: str, name: str, files: str, scratch: str) -> Iterator[str]:
    """Add a directory with all that is in it; tell what could not be added.

    :param files: where links to configuration files lead: they are made anew by a deploy.
    """
    for folder, folders, names in os.walk(root):
        databases = {one for one in names if is_database(os.path.join(folder, one))}
        beside = {database + ending for database in databases for ending in BESIDE}
        here = os.path.normpath(os.path.join(name, os.path.relpath(folder, root)))
        archive.addfile(member(folder, here) or tarfile.TarInfo(here))
        links = [one for one in folders if os.path.islink(os.path.join(folder, one))]
        for one in sorted([*names, *links]):
            path = os.path.join(folder, one)
            if one in beside or (os.path.islink(path) and os.readlink(path).startswith(files + os.sep)):
                continue
            try:
                info = member(path, os.path.join(here, one))
                if info is None:
                    continue
                if not info.isreg():
                    archive.addfile(info)
                    continue
                with copied(path, scratch) as (copy, info.size, problem):
                    archive.addfile(info, copy)
                if problem:
                    yield problem
            except FileNotFoundError:  # it was removed meanwhile
                continue
            except PermissionError as error:
                yield f"{path} was left out: {error.strerror}."


def pack(descriptor: int, sources: Sources, files: str) -> list[str]:
    """Write the archive of an app. Returns what is wrong with it.

    :param descriptor: where to.
    :param files: see `add_tree`.
    """
    told: list[str] = []
    with (
        os.fdopen(descriptor, "wb") as raw,
        tarfile.open(fileobj=raw, mode="w:gz", format=tarfile.PAX_FORMAT) as archive,
    ):
        info = tarfile.TarInfo(SETTINGS)  # first: it tells what the archive is
        info.size, info.mode = len(sources.settings), 0o600
        archive.addfile(info, io.BytesIO(sources.settings))
        for root, name in ((sources.data, DATA), (sources.files, FILES), (sources.hooks, HOOKS)):
            if root and os.path.isdir(root):
                told += add_tree(archive, root, name, files, sources.scratch)
    return told


def settings_of(path: str) -> dict[str, Any]:
    """What an archive says of itself.

    :raises ValueError: when it is no archive of an app.
    """
    try:
        with tarfile.open(path, "r:gz") as archive:
            first = archive.next()
            file = archive.extractfile(first) if first and first.name == SETTINGS else None
            found: dict[str, Any] = json.load(file) if file else {}
    except (tarfile.TarError, OSError, EOFError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from error
    if not isinstance(found, dict) or not isinstance(found.get("name"), str):
        raise ValueError("it has no settings of an app")
    return found


def unpack(descriptor: int, target: str, groups: dict[int, int]) -> None:
    """Unpack data and what hooks made into a directory of the app's user. Nothing goes outside of it.

    :param groups: groups to which files may belong, by the number they had in the archive.
    :raises ValueError: when a member leads outside.
    """
    os.umask(0o027)
    directories = []
    with os.fdopen(descriptor, "rb") as raw, tarfile.open(fileobj=raw, mode="r|gz") as archive:
        for info in archive:
            name = os.path.normpath(info.name)
            path = os.path.join(target, name)
            if name.split(os.sep)[0] not in (DATA, HOOKS):
                continue
            # Links come as they are, but nothing is written through one.
            if os.path.realpath(os.path.dirname(path)) != os.path.normpath(os.path.dirname(path)):
                raise ValueError(f"{info.name} leads out of the archive")
            if info.isdir():
                os.makedirs(path, exist_ok=True)
                directories.append((path, info))
            elif info.issym():
                os.symlink(info.linkname, path)
            elif info.isreg():
                content = archive.extractfile(info)
                with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    shutil.copyfileobj(content or io.BytesIO(), file)
                restore(path, info, groups)
    for path, info in reversed(directories):  # last: one may not be writable
        restore(path, info, groups)


def restore(path: str, info: tarfile.TarInfo, groups: dict[int, int]) -> None:
    """Give a file or directory its group, mode and time."""
    if info.gid in groups:
        os.chown(path, -1, groups[info.gid])
    os.chmod(path, info.mode & (0o2777 if info.isdir() else 0o777))
    os.utime(path, (info.mtime, info.mtime))
