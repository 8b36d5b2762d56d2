#!/usr/bin/python3 -IS
"""Give a vassal temporary directories of its app's own, and the app's user: the Emperor starts all vassals with this.

As root, in a mount namespace made for this vassal, it puts over each of the directories that all programs of a host
share a directory of the app. All instances of an app find the same one there; no other app finds it. Then it becomes
the user whom the vassal file belongs to, for good, and the program that starts vassals (emperor-wrapper).

The Emperor has these directories for itself (PrivateTmp= and TemporaryFileSystem= of its unit), and no app is where it
sees them whole. They end with the Emperor.
"""

import ctypes
import errno
import os
import stat
import sys

SHARED = ("/tmp", "/var/tmp", "/dev/shm")
WRAPPER = "/usr/local/libexec/emperor-wrapper"
CLONE_NEWNS, MS_BIND, MS_REC, MS_SLAVE = 0x20000, 0x1000, 0x4000, 0x80000  # see unshare(2), mount(2)


def call(function: str, *arguments: object) -> None:
    """Call a function of the C library.

    :raises OSError: when it fails.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}")


def own(shared: str, name: str) -> str:
    """The directory of an app below one of the shared ones; made when it is not there.

    :raises OSError: when it cannot be made, or is not root's.
    """
    path = f"{shared}/{name}"
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        found = os.lstat(path)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise OSError(errno.EPERM, f"{path} is there, and is not root's") from None
    os.chmod(path, 0o1777)
    return path


def enclose(name: str) -> bool:
    """Put the app's own directories over the shared ones, for this process and those it starts.

    :returns: False where this host does not let its services have namespaces, as systemd then gives them none either.
    :raises OSError: when it fails for another reason.
    """
    try:
        call("unshare", CLONE_NEWNS)
    except PermissionError:
        return False
    # What is mounted from here on is seen here alone.
    call("mount", None, b"/", None, MS_REC | MS_SLAVE, None)
    for shared in SHARED:
        call("mount", own(shared, name).encode(), shared.encode(), None, MS_BIND, None)
    return True


def become(uid: int, gid: int) -> None:
    """Be that user for good: no way leads back."""
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def main() -> None:
    """Replace this process by the program that starts vassals, as the app's user."""
    file = sys.argv[sys.argv.index("--ini") + 1]
    # The directory of the vassal files is root's, so what is here is what root has put there: NAME.SLOT.ini.
    owner, name = os.stat(file), os.path.basename(file).split(".")[0]
    if 0 in (owner.st_uid, owner.st_gid):
        sys.exit(f"{file} is root's, and no app runs as root: give it to the app's user and group.")
    try:
        if not enclose(name):
            print(f"{name} shares {', '.join(SHARED)} with other apps: the host allows no namespaces.", file=sys.stderr)
    except OSError as error:
        sys.exit(f"{name} does not start, as it gets no temporary directories of its own: {error}")
    become(owner.st_uid, owner.st_gid)
    os.execv(WRAPPER, [WRAPPER, *sys.argv[1:]])


if __name__ == "__main__":
    main()
