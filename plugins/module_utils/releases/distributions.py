"""What is installed in a virtualenv: each distribution with its version, and a digest of its files."""

from __future__ import annotations

import base64
import csv
import glob
import hashlib
import importlib.metadata
import json
import os
import re
import stat
from collections.abc import Iterator
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils.secrets import CREDENTIALS

KEY = "distributions"  # in the description of a release
# Written by the installer, so not the same wherever the same was installed; compiled code is none of a distribution.
NOTES = re.compile(r".*\.pyc|[^/]+\.dist-info/(RECORD|INSTALLER|REQUESTED|direct_url\.json|uv_\w+\.json)")


def libraries(venv: str) -> list[str]:
    """The directories of a virtualenv in which distributions are."""
    return sorted(glob.glob(os.path.join(glob.escape(venv), "lib", "python3*", "site-packages")))


def source_of(found: importlib.metadata.Distribution) -> dict[str, Any]:
    """Where it is from when it is from no package index, see PEP 610."""
    try:
        told = json.loads(found.read_text("direct_url.json") or "{}")
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def is_local(source: dict[str, Any]) -> bool:
    """Whether it was installed from a directory, as the project of the release itself is."""
    return "dir_info" in source or str(source.get("url", "")).startswith("file:")


def files_of(library: str, record: str) -> Iterator[tuple[str, str]]:
    """The files of a distribution that are in the library, and their paths on the host.

    What the build ran may have written the record: nothing else is opened, no link and no device either.
    """
    root = os.path.realpath(library) + os.sep
    for row in csv.reader(record.splitlines()):
        name = os.path.normpath(row[0]) if row else ""
        path = os.path.join(library, name)
        if name in ("", ".") or NOTES.fullmatch(name) or not os.path.realpath(path).startswith(root):
            continue
        if os.path.lexists(path) and stat.S_ISREG(os.lstat(path).st_mode):
            yield name, path


def digest_of(library: str, record: str) -> str:
    """A digest of all files of a distribution: that of the sorted lines PATH,sha256=DIGEST as RECORD has them."""
    lines = []
    for name, path in files_of(library, record):
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").digest()
        lines.append(f"{name},sha256={base64.urlsafe_b64encode(found).decode().rstrip('=')}\n")
    return hashlib.sha256("".join(sorted(lines)).encode("utf-8", "surrogateescape")).hexdigest()


def headers(text: str) -> str:
    """What METADATA says without the description, which is most of it."""
    return CREDENTIALS.sub("", text.replace("\r\n", "\n").partition("\n\n")[0]) + "\n"


def installed(venv: str, metadata: bool = False) -> list[dict[str, Any]]:
    """The distributions of a virtualenv, by name: ``name``, ``version``, and a digest of the files (``sha256``).

    One that is used from a directory has no digest, and is ``local``. Nobody but root may change the virtualenv now.

    :param metadata: whether to return what each says of itself and of its source, too.
    """
    found = {}
    for library in libraries(venv):
        for one in importlib.metadata.distributions(path=[library]):
            said, source = one.metadata, source_of(one)
            if not said["Name"] or not said["Version"]:
                continue  # what a killed process left
            facts: dict[str, Any] = {"name": said["Name"], "version": said["Version"]}
            record = one.read_text("RECORD")
            if is_local(source):
                facts["local"] = True
            elif record:
                facts["sha256"] = digest_of(library, record)
            if metadata:
                facts["metadata"] = headers(one.read_text("METADATA") or str(said))
                facts["source"] = CREDENTIALS.sub("", json.dumps(source)) if source else ""
            found[said["Name"]] = facts
    return sorted(found.values(), key=lambda one: one["name"].lower())
