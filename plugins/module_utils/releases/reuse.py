"""Taking the virtualenv of an earlier release over, when nothing that was installed into it is to change.

Installing the same packages again is most of a build. The files are linked, not copied: they belong to root, and no app
can change one. Each release still has a virtualenv of its own, which stays complete when the other is removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Mapping
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils.releases.registry import Releases

KEY = "virtualenv"  # in the description of a release: names what its virtualenv was made of


def plain(text: str) -> bool:
    """Whether a requirements file names all it needs by itself: no other files, no directories, no addresses."""
    for line in text.replace("\\\n", " ").splitlines():
        words = line.split("#")[0].strip()
        requirement = words.split(" --hash")[0].split("--hash")[0].strip()
        if requirement.startswith(("-", ".", "/")) or "://" in requirement or "@" in requirement:
            return False
    return True


def fingerprint(params: Mapping[str, Any], source: str, version: str) -> str:
    """Names what the virtualenv of a release is made of; empty when that cannot be told.

    :param params: of the module `release`.
    :param source: directory of the release's source.
    :param version: of the Python.
    """
    text = ""
    if params["requirements"]:
        try:
            with open(os.path.join(source, params["requirements"]), encoding="utf-8") as file:
                text = file.read()
        except (OSError, UnicodeDecodeError):
            return ""
    if not params["bundle"] or not plain(text):
        return ""
    made_of = [
        params["interpreter"],
        version,
        text,
        params["require_hashes"],
        params["packages"],
        params["pip_arguments"],
    ]
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:12]


def earlier(releases: Releases, wanted: str) -> str:
    """The newest complete release whose virtualenv is made of the same; empty when there is none."""
    return next((one["id"] for one in releases.all() if wanted and one.get(KEY) == wanted), "")


def link_or_copy(old: str, new: str) -> None:
    """Link a file, or copy it where that is not possible."""
    try:
        os.link(old, new, follow_symlinks=False)
    except OSError:
        shutil.copy2(old, new, follow_symlinks=False)


def take_over(old: str, new: str) -> None:
    """Make a virtualenv like another one.

    :param old: the other one, all of it root's.
    :param new: the directory to be.
    :raises OSError: for a full disk, for instance.
    """
    shutil.copytree(old, new, symlinks=True, copy_function=link_or_copy)
    scripts = os.path.join(new, "bin")
    for path in [os.path.join(new, "pyvenv.cfg"), *(os.path.join(scripts, name) for name in os.listdir(scripts))]:
        if stat.S_ISREG(os.lstat(path).st_mode):
            renamed(path, os.fsencode(old), os.fsencode(new))


def renamed(path: str, old: bytes, new: bytes) -> None:
    """Let a file name the new directory where it names the old one: in a copy, as the old release has it as well."""
    with open(path, "rb") as file:
        text = file.read()
    if old not in text:
        return
    mode = stat.S_IMODE(os.stat(path).st_mode)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    with open(path, "wb") as file:
        file.write(text.replace(old, new))
    os.chmod(path, mode)
