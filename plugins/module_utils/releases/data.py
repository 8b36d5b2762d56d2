"""What a release finds besides its own files: persistent directories and configuration files."""

from __future__ import annotations

import pwd
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils import as_user
from ansible_collections.flaskops.emperor.plugins.module_utils.releases import persistent, settings_files
from ansible_collections.flaskops.emperor.plugins.module_utils.releases.registry import Releases

# Why they cannot be put in place.
FAULTS = (persistent.Unfit, as_user.Failed, OSError)


def place(
    releases: Releases, release: str, links: Sequence[Mapping[str, Any]], files: Sequence[Mapping[str, str]], user: str
) -> bool:
    """Put both in place. Returns whether that changed anything.

    :param links: the links to persistent directories, see the module `release`.
    :param files: the configuration files, see the module `release`.
    """
    account = pwd.getpwnam(user)
    changed = persistent.arrange(releases, release, links, account)
    return settings_files.arrange(releases, release, files, account) or changed


def misplaced(
    releases: Releases, release: str, links: Sequence[Mapping[str, Any]], files: Sequence[Mapping[str, str]]
) -> bool:
    """Whether `place` would change anything."""
    if not persistent.right(releases, release, links):
        return True
    return not settings_files.right(releases, release, files, settings_files.digest_of(files))
