"""Taking the virtualenv of an earlier release over, when nothing that was installed into it is to change.

Installing the same packages again is most of a build. The files are linked, not copied: they belong to root, and no app
can change one. Each release still has a virtualenv of its own, which stays complete when the other is removed.
"""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Mapping
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils.releases import kinds
from ansible_collections.flaskops.emperor.plugins.module_utils.releases.registry import Releases

KEY = "virtualenv"  # in the description of a release: names what its virtualenv was made of


# Lines of a requirements file that name nothing beside it.
SETTLED = re.compile(
    r"(--index-url|-i|--extra-index-url|--no-index|--find-links|-f|--pre|--only-binary|--no-binary|--prefer-binary"
    r"|--require-hashes|--trusted-host)\b"
)
COMMIT = re.compile(r"git\+[^\s#]+@[0-9a-f]{40}\b")
OTHER_FILE = re.compile(r"(?:-r|-c|--requirements?|--constraints?)[ =]*(\S+)$")
ITSELF = re.compile(r"(-e|--editable)[ =]*\.(\[[^]]*\])?$")
# Files of a project on which it depends what is installed for it.
PROJECT_FILES = ("*.toml", "*.lock", "*.cfg", "*.txt", "*.in", "setup.py", "Pipfile")


def lines_of(text: str) -> list[str]:
    """The requirements and options of a requirements file, without comments and hashes."""
    lines = (re.sub(r"(^|\s)#.*", "", line) for line in text.replace("\\\n", " ").splitlines())
    return [line for line in (re.split(r"\s--hash", one)[0].strip() for one in lines) if line]


def read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def project_texts(directory: str) -> list[str]:
    """The names and texts of the files that say what a project requires.

    :raises OSError: when one cannot be read.
    """
    names = sorted(
        name for name in os.listdir(directory) if any(fnmatch.fnmatch(name, pattern) for pattern in PROJECT_FILES)
    )
    return [part for name in names for part in (name, read(os.path.join(directory, name)))]


def requirement_texts(path: str, source: str, seen: tuple[str, ...] = ()) -> list[str] | None:
    """The texts of a requirements file and of those it names; None when something else decides, too.

    :param source: outside of it nothing is read.
    :raises OSError: when one cannot be read.
    """
    path = os.path.realpath(path)
    if path in seen or not path.startswith(os.path.realpath(source) + os.sep):
        return None
    text = read(path)
    texts = [text]
    for one in lines_of(text):
        if other := OTHER_FILE.match(one):
            found = requirement_texts(os.path.join(os.path.dirname(path), other[1]), source, (*seen, path))
            if found is None:
                return None
            texts += found
        elif ITSELF.match(one):
            texts += project_texts(os.path.dirname(path))
        elif not (SETTLED.match(one) or COMMIT.search(one)) and re.match(r"[-./]|.*(://|@)", one):
            return None
    return texts


def fingerprint(params: Mapping[str, Any], source: str, version: str) -> str:
    """Names what the virtualenv of a release is made of; empty when that cannot be told.

    :param params: of the module `release`.
    :param source: directory of the release's source.
    :param version: of the Python.
    """
    if not params["bundle"]:
        return ""
    texts: list[str] | None = []
    if params["requirements"]:
        path = os.path.join(source, params["requirements"])
        try:
            if kinds.kind_of(path) == kinds.REQUIREMENTS:
                texts = requirement_texts(path, source)
            else:
                texts = project_texts(os.path.dirname(path))
        except (OSError, UnicodeDecodeError):
            return ""
    if texts is None:
        return ""
    options = ("interpreter", "requirements", "extras", "groups", "require_hashes", "packages", "pip_arguments")
    made_of = [version, texts, *(params[name] for name in options)]
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
    # A project that is used from its source is named there, too.
    library = os.path.join(glob.escape(new), "lib*", "python*", "site-packages")
    named = ("*.pth", "__editable__*.py", "*.dist-info/direct_url.json")
    found = [path for pattern in named for path in glob.glob(os.path.join(library, pattern))]
    found += [os.path.join(new, "pyvenv.cfg"), *glob.glob(os.path.join(glob.escape(new), "bin", "*"))]
    before, now = (os.fsencode(os.path.dirname(path) + os.sep) for path in (old, new))
    for path in found:
        if stat.S_ISREG(os.lstat(path).st_mode):
            renamed(path, before, now)


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
