"""Files and directories as they should be on a host: compared with what is there, and made so."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import stat
from typing import Any


def ownership(found: os.stat_result) -> str:
    """Owner, group and mode of what is there, as a diff shows them."""
    return f"{found.st_uid}:{found.st_gid} {stat.S_IMODE(found.st_mode):04o}\n"


class Entry:
    """One file or directory.

    :param given: what the user said of it.
    """

    def __init__(self, given: dict[str, Any]) -> None:
        self.path: str = given["path"]
        self.state: str = given.get("state") or "file"
        content = given.get("content")
        self.content = None if content is None else str(content).encode("utf-8", "surrogateescape")
        self.owner, self.group = given.get("owner") or "root", given.get("group") or "root"
        self.mode = int(str(given.get("mode") or ("0755" if self.state == "directory" else "0644")), 8)

    @property
    def found(self) -> os.stat_result | None:
        """What is there, a link itself and not where it leads."""
        try:
            return os.lstat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return None

    @property
    def before(self) -> bytes | None:
        """The content that is there; None when it is no file."""
        found = self.found
        if not found or not stat.S_ISREG(found.st_mode):
            return None
        with open(self.path, "rb") as file:
            return file.read()

    def fits(self, found: os.stat_result) -> bool:
        """Whether what is there has the right type."""
        return stat.S_ISDIR(found.st_mode) if self.state == "directory" else stat.S_ISREG(found.st_mode)

    def belongs(self, found: os.stat_result) -> bool:
        """Whether it has the right owner, group and mode. A user that is not there yet owns nothing."""
        try:
            uid, gid = pwd.getpwnam(self.owner).pw_uid, grp.getgrnam(self.group).gr_gid
        except KeyError:
            return False
        return (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (uid, gid, self.mode)

    def right(self) -> bool:
        """Whether all is as it should be."""
        found = self.found
        if self.state == "absent" or found is None:
            return found is None and self.state == "absent"
        return self.fits(found) and self.belongs(found) and (self.state == "directory" or self.before == self.content)

    def own(self, path: str) -> None:
        """Give a path its owner, group and mode."""
        os.chown(path, pwd.getpwnam(self.owner).pw_uid, grp.getgrnam(self.group).gr_gid)
        os.chmod(path, self.mode)

    def clear(self) -> None:
        """Remove what is in the way."""
        found = self.found
        if found is None:
            return
        if not stat.S_ISDIR(found.st_mode):
            os.unlink(self.path)
        elif self.state == "absent":
            shutil.rmtree(self.path)
        else:
            os.rmdir(self.path)

    def make(self) -> None:
        """Let it be as it should be.

        :raises OSError: when that is not possible.
        """
        found = self.found
        if self.state == "absent" or (found and not self.fits(found)):
            self.clear()
        if self.state == "absent":
            return
        if self.state == "directory":
            os.makedirs(self.path, exist_ok=True)
            self.own(self.path)
            return
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        new = f"{self.path}.ansible-new"
        if os.path.lexists(new):  # of a killed run
            os.unlink(new)
        # Closed to all others until it has its owner.
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:
            file.write(self.content or b"")
            self.own(new)
        os.replace(new, self.path)

    def shown(self) -> tuple[str, str]:
        """What was there and what is to be, as a diff shows it. Not the content of a file that is closed to others."""
        found = self.found
        told = ownership(found) if found else ""
        before = (self.before or b"").decode("utf-8", "replace") or told
        after = (self.content or b"").decode("utf-8", "replace")
        if self.state == "directory" or before == after:
            return told, "" if self.state == "absent" else f"{self.owner}:{self.group} {self.mode:04o}\n"
        modes = [self.mode] if self.state == "file" else []
        modes += [found.st_mode] if found and stat.S_ISREG(found.st_mode) else []
        if any(not mode & 0o077 for mode in modes):
            return told, "" if self.state == "absent" else "other content, which is not shown\n"
        return before, after
