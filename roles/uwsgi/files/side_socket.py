#!/usr/bin/python3 -IS
"""Put the socket of a side process where nginx looks for it: emperor-side-socket APP PART INSTANCE

systemd runs this as root whenever a process that serves a path starts. The process makes its socket in a directory of
the app, where the app may also put a link to anything. nginx may use the sockets of all apps, so it must not look
there: in a directory of root's it gets a hard link, which leads to this one socket, whatever becomes of its first name.
"""

import contextlib
import json
import os
import pwd
import socket
import stat
import sys
import time
from pathlib import Path

SIDES = "/etc/emperor/sides"
PATIENCE = 1  # seconds for connecting
PAUSE = 0.05  # seconds between two looks


def listens(path: str) -> bool:
    """Whether a process listens on a socket. Of one that was killed the file is left."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        try:
            client.connect(path)
        except OSError:
            return False
        return True


def hold(own: str, held: str, uid: int) -> bool:
    """Give a socket its second name. Returns whether it has it; else it is not there yet, or it is something else.

    :param own: its first name, in a directory of the app.
    :param held: its second one, in a directory of root's.
    :param uid: the app's user.
    """
    new = f"{held}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)
    try:
        os.link(own, new, follow_symlinks=False)
    except FileNotFoundError:
        return False
    # Here nobody else can change it any more: now it is looked at.
    found = os.lstat(new)
    if not (stat.S_ISSOCK(found.st_mode) and found.st_uid == uid and listens(new)):
        os.unlink(new)
        return False
    os.replace(new, held)
    with contextlib.suppress(FileNotFoundError):  # two names of one file: then a rename does nothing
        os.unlink(new)
    return True


def make(directory: str, group: int) -> None:
    """Make the directory of root's, closed to all but a group: what mode a socket has is the app's affair.

    :param group: that of nginx, as the app's directory has it. The app could only give that its own one.
    """
    os.makedirs(directory, 0o700, exist_ok=True)
    os.chown(directory, 0, group)
    os.chmod(directory, 0o710)


def main() -> None:
    """Wait until the process listens, as long as it runs."""
    app, part, instance = sys.argv[1:]
    generation = instance.rpartition("-")[0]
    job = json.loads(Path(SIDES, app, f"{part}@{generation}.json").read_text("utf-8"))
    own, held = (f"{job[name]}.{instance}.sock" for name in ("socket", "held"))
    make(os.path.dirname(held), os.stat(os.path.dirname(own)).st_gid)
    process = f"/proc/{os.environ['MAINPID']}"
    while os.path.exists(process) and not hold(own, held, pwd.getpwnam(app).pw_uid):
        time.sleep(PAUSE)


if __name__ == "__main__":
    main()
