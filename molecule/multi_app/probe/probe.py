"""The sample app with a page that tries, from inside its worker, to get out: /probe tells which attempts did it.

The same is tried in the build of its release, in a hook (as a program), and in the trial start; a file tells of it.

An attempt is a function that comes to its end when it got out, and raises OSError when something held it. The victim is
the app `shop` of the same host. Nothing that an attempt does when it succeeds does lasting harm.
"""

import contextlib
import ctypes
import glob
import json
import os
import pwd
import resource
import signal
import socket
import subprocess
import sys
import time

from shop import create_app as create_shop

ME, VICTIM = pwd.getpwuid(os.geteuid()).pw_name, "shop"
HOME, THERE = f"/srv/flask_apps/{ME}", f"/srv/flask_apps/{VICTIM}"
DOORS = "/run/emperor-sockets"
SHARED = ("/tmp", "/var/tmp", "/dev/shm")
SLOTS = ("blue", "green")
PIDS, FORKS = 40000, 600
CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x20000, 0x10000000, 0x40000000
AF_ALG, AF_VSOCK, AF_KEY = 38, 40, 15
SYSCALLS = {  # on x86_64, with arguments that do nothing when they are let in
    "bpf": (321, 0, 0, 0),
    "perf_event_open": (298, 0, 0, -1, -1, 0),
    "init_module": (175, 0, 0, 0),
    "kexec_load": (246, 0, 0, 0, 0),
    "swapon": (167, 0, 0),
    "quotactl": (179, 0, 0, 0, 0),
    "syslog": (103, 10, 0, 0),
    "personality": (135, 0x0040000),
    "pivot_root": (155, 0, 0),
    "userfaultfd": (323, 0),
    "acct": (163, 0),
    "iopl": (172, 3),
    "open_by_handle_at": (304, -1, 0, 0),
    "ptrace": (101, 16, 1, 0, 0),
    "clock_settime": (227, 0, 0),
    "sethostname": (170, 0, 0),
}
REFUSED = (1, 13, 38)  # EPERM, EACCES, ENOSYS; any other error comes from arguments, so the call was let in
libc = ctypes.CDLL(None, use_errno=True)


class Held(OSError):
    """Something held it."""


def got(success):
    """Go on only if it came to something."""
    if not success:
        raise Held("nothing came of it")


def read(*patterns):
    """Read a file of a name like these."""
    found = [path for pattern in patterns for path in glob.glob(pattern)] or patterns
    for path in found:
        with open(path, "rb") as file:
            return got(file.read(1))
    raise Held("no such file")


def append(path):
    with open(path, "ab"):
        pass


def make(path):
    """Make a file, and remove it."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    os.unlink(path)


def connect(path):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(2)
        connection.connect(path)


def any_of(attempt, *paths):
    """Whether one of these can be had."""
    for path in paths:
        with contextlib.suppress(OSError):
            return attempt(path)
    raise Held("none")


def call(name):
    number, *arguments = SYSCALLS[name]
    ctypes.set_errno(0)
    answer = libc.syscall(number, *map(ctypes.c_long, arguments))
    if answer == -1 and ctypes.get_errno() in REFUSED:
        raise Held(os.strerror(ctypes.get_errno()))


def in_a_child(attempt):
    """Try it where its success does not change this worker."""
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            attempt()
            code = 0
        os._exit(code)
    got(os.waitpid(child, 0)[1] == 0)


def checked(function, *arguments):
    if function(*arguments) != 0:
        raise Held(os.strerror(ctypes.get_errno()))


def foreign_process():
    got(any(os.stat(path).st_uid != os.geteuid() for path in glob.glob("/proc/[0-9]*") if os.path.exists(path)))


def signal_somebody():
    for pid in range(1, PIDS):
        with contextlib.suppress(OSError):
            os.kill(pid, 0)
            if not os.path.exists(f"/proc/{pid}") or os.stat(f"/proc/{pid}").st_uid != os.geteuid():
                return
    raise Held("nobody else")


def status(field):
    with open("/proc/self/status") as file:
        return next(line.split()[1] for line in file if line.startswith(field + ":"))


def seen_of_others(directory):
    """Whether something of another user is there."""
    got([one for one in os.scandir(directory) if one.stat(follow_symlinks=False).st_uid not in (0, os.geteuid())])


def forks():
    """Have as many processes as no limit would stop; while they sleep, the others must be able to work."""
    sleepers = []
    try:
        for _one in range(FORKS):
            sleepers.append(subprocess.Popen(["sleep", "60"], stdin=subprocess.DEVNULL))
    finally:
        time.sleep(3)
        for one in sleepers:
            one.kill()
        for one in sleepers:
            one.wait()


def forks_of_a_program():
    """The same of a program that has no worker to make room for: it may have as many as that."""
    sleepers = []
    try:
        for _one in range(FORKS):
            if (child := os.fork()) == 0:
                signal.pause()
            sleepers.append(child)
    finally:
        for one in sleepers:
            os.kill(one, signal.SIGKILL)
            os.waitpid(one, 0)


def change_mode(path):
    os.chmod(path, 0o600)
    append(path)


def file_with_user_bit():
    path = f"{HOME}/shared/probe"
    append(path)
    try:
        os.chmod(path, 0o4755)
    finally:
        os.unlink(path)


def sockets_of(app):
    return [f"{DOORS}/{app}/{name}" for name in ("app.sock", "blue.sock", "green.sock")]


def with_name(path, attempt):
    """Try something that makes a new name, and take that away again."""
    attempt(path)
    os.unlink(path)


def move(path):
    os.rename(path, path + ".away")
    os.rename(path + ".away", path)


def remove(path):
    """Remove a socket: there is no way back, so only the right to do it is asked for."""
    got(os.access(os.path.dirname(path), os.W_OK))


FILES = {
    "read the neighbour's environment": lambda: read(*(f"/etc/emperor/vassals/{VICTIM}.{one}.ini" for one in SLOTS)),
    "read the neighbour's code": lambda: read(f"{THERE}/current/src/shop/__init__.py"),
    "list the neighbour's releases": lambda: os.listdir(f"{THERE}/releases"),
    "list the neighbour's data": lambda: os.listdir(f"{THERE}/shared"),
    "write into the neighbour's data": lambda: make(f"{THERE}/shared/probe"),
    "read the neighbour's package cache": lambda: os.listdir(f"{THERE}/wheels"),
    "change the own code": lambda: append(__file__),
    "put code into the own release": lambda: make(f"{os.path.dirname(__file__)}/more.py"),
    "put code into the own virtualenv": lambda: make(f"{sys.prefix}/bin/more"),
    "replace the own current link": lambda: move(f"{HOME}/current"),
    "replace where nginx sends requests": lambda: move(f"{HOME}/upstream.sock"),
    "change the own vassal file": lambda: any_of(change_mode, *glob.glob(f"/etc/emperor/vassals/{ME}.*.ini")),
    "make a vassal": lambda: make("/etc/emperor/vassals/probe.ini"),
    "read passwords": lambda: read("/etc/shadow"),
    "add a user": lambda: append("/etc/passwd"),
    "add a cron job": lambda: make("/etc/cron.d/probe"),
    "add a unit": lambda: any_of(make, "/etc/systemd/system/probe.service", "/run/systemd/system/probe.service"),
    "put a program into the path": lambda: make("/usr/local/bin/probe"),
    "change the loader of all apps": lambda: append("/usr/local/lib/emperor/emperor_loader.py"),
    "list root's home": lambda: os.listdir("/root"),
    "list homes": lambda: got(os.listdir("/home")),
    "read keys of certificates": lambda: read("/etc/nginx/certificates/*.pem", "/etc/ssl/private/*"),
    "read nginx's log": lambda: read("/var/log/nginx/access.log", f"/var/log/flask_apps/{VICTIM}/access.log"),
    "read the journal": lambda: read("/var/log/journal/*/*", "/run/log/journal/*/*"),
}
SOCKETS = {
    "speak to the neighbour's workers": lambda: any_of(connect, *sockets_of(VICTIM)),
    "take the neighbour's listening sockets": lambda: any_of(
        connect, *(f"{DOORS}/{VICTIM}/{one}" for one in ("holder.sock", "blue.holder", "green.holder"))
    ),
    "read the neighbour's statistics": lambda: any_of(
        connect, *(f"/run/emperor/{VICTIM}/{VICTIM}.{one}.stats" for one in SLOTS)
    ),
    "list the neighbour's own sockets": lambda: os.listdir(f"/run/emperor/{VICTIM}"),
    "rename a socket to which nginx connects": lambda: any_of(move, *sockets_of(ME)),
    "remove a socket to which nginx connects": lambda: remove(sockets_of(ME)[0]),
    "put a link beside it": lambda: with_name(
        f"{DOORS}/{ME}/probe.sock", lambda path: os.symlink(sockets_of(VICTIM)[0], path)
    ),
    "put a hard link beside it": lambda: with_name(
        f"{DOORS}/{ME}/probe.sock", lambda path: os.link(sockets_of(ME)[0], path)
    ),
    "put a directory there": lambda: os.mkdir(f"{DOORS}/{ME}/probe"),
    "listen where another app would": lambda: os.mkdir(f"{DOORS}/probe"),
    "give the directory of sockets other rights": lambda: os.chmod(f"{DOORS}/{ME}", 0o777),
    "list the neighbour's side processes": lambda: os.listdir(f"{DOORS}/{VICTIM}/sides"),
    "list where nginx meets the own side processes": lambda: os.listdir(f"{DOORS}/{ME}/sides"),
    "speak to the neighbour's side process": lambda: any_of(
        connect, *glob.glob(f"{DOORS}/{VICTIM}/sides/*"), *glob.glob(f"/run/emperor/{VICTIM}/side.*.sock")
    ),
    "put a link where nginx meets a side process": lambda: with_name(
        f"{DOORS}/{ME}/sides/probe.sock", lambda path: os.symlink(sockets_of(VICTIM)[0], path)
    ),
    "put another directory there": lambda: move(f"{DOORS}/{ME}/sides"),
    "give that directory other rights": lambda: os.chmod(f"{DOORS}/{ME}/sides", 0o777),
    "speak to systemd": lambda: connect("/run/systemd/private"),
    "let systemd do something": lambda: got(
        subprocess.run(["systemctl", "set-environment", "PROBE=1"], capture_output=True, check=False).returncode == 0
    ),
}
PROCESSES = {
    "see processes of others": foreign_process,
    "signal somebody": signal_somebody,
    "read the environment of the first process": lambda: read("/proc/1/environ"),
    "read the memory of the first process": lambda: read("/proc/1/mem"),
    "leave through the root of the first process": lambda: os.listdir("/proc/1/root"),
    "run before everybody else": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
    "get more processor time": lambda: os.setpriority(os.PRIO_PROCESS, 0, -5),
    "be the last that the kernel kills": lambda: append_text("/proc/self/oom_score_adj", "-900"),
}
KERNEL = {
    "become root": lambda: in_a_child(lambda: os.setuid(0)),
    "get root's group": lambda: in_a_child(lambda: os.setgid(0)),
    "get more groups": lambda: in_a_child(lambda: os.setgroups([0])),
    "gain privileges by a program": lambda: got(status("NoNewPrivs") == "0"),
    "have capabilities": lambda: got(int(status("CapEff"), 16) or int(status("CapAmb"), 16)),
    "make a program that runs as its owner": file_with_user_bit,
    "make a device": lambda: os.mknod(f"{HOME}/shared/probe", 0o020600, os.makedev(1, 1)),
    "read memory or disks": lambda: any_of(
        lambda path: os.close(os.open(path, os.O_RDONLY)), "/dev/mem", "/dev/kmsg", *glob.glob("/dev/[sv]d[a-z]")
    ),
    "make a user namespace": lambda: in_a_child(lambda: checked(libc.unshare, CLONE_NEWUSER)),
    "make a mount namespace": lambda: in_a_child(lambda: checked(libc.unshare, CLONE_NEWNS)),
    "make a network namespace": lambda: in_a_child(lambda: checked(libc.unshare, CLONE_NEWNET)),
    "mount something": lambda: checked(libc.mount, b"none", HOME.encode() + b"/shared", b"tmpfs", 0, None),
    "change the root": lambda: in_a_child(lambda: os.chroot("/tmp")),
    "set a value of the kernel": lambda: append("/proc/sys/kernel/core_pattern"),
    "change control groups": lambda: any_of(append, *glob.glob("/sys/fs/cgroup/**/cgroup.procs", recursive=True)[:50]),
    **{f"call {name}": lambda name=name: in_a_child(lambda: call(name)) for name in SYSCALLS},
}
NETWORK = {
    "open a packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close(),
    "open a raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close(),
    "use the kernel's cryptography": lambda: socket.socket(AF_ALG, socket.SOCK_SEQPACKET).close(),
    "speak to the machine below": lambda: socket.socket(AF_VSOCK, socket.SOCK_STREAM).close(),
    "speak to the kernel's keys": lambda: socket.socket(AF_KEY, socket.SOCK_RAW, 2).close(),
}
LIMITS = {
    "raise the number of open files": lambda: resource.setrlimit(
        resource.RLIMIT_NOFILE, (1 << 20, resource.getrlimit(resource.RLIMIT_NOFILE)[1] + 1)
    ),
    "raise the number of processes": lambda: resource.setrlimit(resource.RLIMIT_NPROC, (resource.RLIM_INFINITY,) * 2),
    "have processes without end": forks,
}
COMMON = {f"see files of others in {one}": lambda one=one: seen_of_others(one) for one in SHARED}


def append_text(path, text):
    with open(path, "w") as file:
        file.write(text)


# What does not depend on whose files they are, and takes no time.
ANYWHERE = {**PROCESSES, **KERNEL, **NETWORK, **COMMON}


def run(attempts=None):
    """Try everything: what got out, by name, and how the others were held."""
    out, held = [], {}
    for name, attempt in (attempts or {**FILES, **SOCKETS, **ANYWHERE, **LIMITS}).items():
        try:
            attempt()
        except (OSError, ValueError) as error:
            held[name] = str(error)
        else:
            out.append(name)
    return {"out": out, "held": held}


def survive():
    """Stay when the kernel needs memory, and has to choose between this and what serves requests."""
    with open("/proc/self/oom_score_adj") as file:
        score = int(file.read())
    if score >= 500:
        raise OSError(f"the score is {score}")


def note(place, path):
    """Try what can be tried where no requests come, and write down how it went."""
    attempts = ANYWHERE if place == "build" else {**FILES, **SOCKETS, **ANYWHERE}
    attempts = {**attempts, "stay when memory is short": survive}
    if place in ("hook", "command"):
        attempts = {**attempts, "have processes without end": forks_of_a_program}
    with open(f"{path}/probe-{place}.json", "w") as file:
        json.dump(run(attempts), file)


def create_app():
    import uwsgi  # noqa: PLC0415 (a program has none)

    if b"/trial.sock" in repr(uwsgi.opt.get("socket")).encode():
        note("trial", os.environ["HOME"])
    app = create_shop()
    app.add_url_rule("/probe", "probe", run)
    return app


if __name__ == "__main__":
    note(*sys.argv[1:])
