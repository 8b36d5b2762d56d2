"""What the memory guard sees of a host: its memory, the apps' instances and workers; and the signal to one of them.

What a worker has of its own is counted as its anonymous memory, swapped or not, less that of its master, from which it
was forked. /proc/PID/status tells that to every process; the exact number, in smaps_rollup, only to one that may trace
the process. Source: https://docs.kernel.org/filesystems/proc.html.
"""

import contextlib
import json
import os
import re
import signal
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import emperor_host
from emperor_host import Process

TIMEOUT = 2  # seconds for the statistics of one instance


class Memory(NamedTuple):
    """The host's memory.

    :ivar total: bytes.
    :ivar available: bytes a new program could use without swapping (MemAvailable, see proc_meminfo(5)).
    :ivar stalled: percent of the last 10 s in which all processes waited for memory; 0 where the kernel does not tell.
    """

    total: int
    available: int
    stalled: float


class Worker(NamedTuple):
    """A worker that accepts requests.

    :ivar number: uWSGI's number for it, from 1.
    :ivar own: bytes that it does not share with its master.
    :ivar age: seconds since its start.
    :ivar idle: whether none of its threads has a request.
    """

    number: int
    process: Process
    own: int
    age: float
    idle: bool


class Instance(NamedTuple):
    """An instance of an app: a master and its workers.

    :ivar name: name of its vassal file, without `.ini`.
    :ivar workers: those that accept requests.
    :ivar cheap: the numbers of those that uWSGI keeps stopped until they are needed (option `cheaper`).
    :ivar complete: whether all others accept requests.
    """

    name: str
    app: str
    master: Process
    workers: tuple[Worker, ...]
    cheap: frozenset[int]
    complete: bool


class Host:
    """What the kernel and the apps tell, and the signal.

    :param vassals: directory of the vassal files, and of the notes NAME.before which the module `vassal` keeps
        during a switch.
    :param run: directory of the apps' directories with sockets.
    :param lock: the file that a deploy's modules lock while they run.
    :param proc: where /proc is.
    """

    def __init__(self, vassals: str, run: str, lock: str, proc: str = "/proc") -> None:
        self.vassals, self.run, self.lock, self.proc = vassals, run, lock, proc

    def now(self) -> float:
        """Seconds since boot."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def read(self, path: str) -> str:
        """A file below /proc.

        :raises OSError: when it is not there, or no longer.
        """
        with open(f"{self.proc}/{path}", encoding="utf-8", errors="replace") as file:
            return file.read()

    def memory(self) -> Memory:
        """The host's memory now.

        :raises OSError: when the kernel does not tell.
        """
        sizes = _sizes(self.read("meminfo"))
        if "MemAvailable" not in sizes:
            raise OSError("/proc/meminfo has no MemAvailable")
        stalled = None
        with contextlib.suppress(OSError):  # a kernel without it
            stalled = re.search(r"^full avg10=([\d.]+)", self.read("pressure/memory"), re.MULTILINE)
        return Memory(sizes["MemTotal"], sizes["MemAvailable"], float(stalled[1]) if stalled else 0.0)

    def deploying(self) -> bool:
        """Whether a module of a deploy runs. Only looked up: a lock of ours would be in its way."""
        try:
            found = os.stat(self.lock)
        except FileNotFoundError:
            return False
        device = found.st_dev
        return f" {os.major(device):02x}:{os.minor(device):02x}:{found.st_ino} " in self.read("locks")

    def switching(self, app: str) -> bool:
        """Whether an app is on its way to another release, or was when a run was killed."""
        return os.path.exists(f"{self.vassals}/{app}.before")

    def instances(self) -> Iterator[Instance]:
        """All instances that answer."""
        for file in sorted(os.listdir(self.vassals)):
            if file.endswith(".ini"):
                instance = self.instance(file.removesuffix(".ini"))
                if instance:
                    yield instance

    def instance(self, name: str) -> Instance | None:
        """One instance; None when it does not answer, or makes no sense."""
        app = name.rpartition(".")[0] or name
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
            return self._instance(name, app, *self._statistics(f"{self.run}/{app}/{name}.stats"))
        return None

    def _statistics(self, path: str) -> tuple[dict[str, Any], int, int]:
        """What an instance says of itself, and the process and the user that say it.

        :raises OSError: when nothing listens, or there is no answer in time, or too long a one.
        :raises ValueError: when the answer is no JSON.
        """
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TIMEOUT)
            connection.connect(path)
            pid, uid = self.listener(connection)
            answer = emperor_host.receive(connection, TIMEOUT, emperor_host.STATISTICS)
        return json.loads(answer.decode("utf-8", "replace")), pid, uid

    def listener(self, connection: socket.socket) -> tuple[int, int]:
        """The process that listens where we are connected, and its user (SO_PEERCRED, see unix(7))."""
        pid, uid, _gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return pid, uid

    def _instance(self, name: str, app: str, told: dict[str, Any], pid: int, uid: int) -> Instance:
        """Make sense of statistics.

        An app may tell us anything. So only children of the process that tells it, and of the same user, are believed
        to be its workers: an app can harm only itself.
        """
        master, base = self.process(pid), self._anonymous(pid)
        workers, cheap, complete = [], set(), True
        for one in told["workers"]:
            if one["status"] == "cheap":
                cheap.add(one["id"])
                continue
            try:
                process = self.process(one["pid"])
                status = self.read(f"{process.pid}/status")
            except OSError:
                complete = False
                continue
            parent, real = (re.search(rf"^{field}:\s+(\d+)", status, re.MULTILINE) for field in ("PPid", "Uid"))
            family = parent and real and (int(parent[1]), int(real[1])) == (pid, uid) and uid != 0
            if not (one["accepting"] and family):
                complete = False
                continue
            own = max(_anonymous(status) - base, 0)
            age = self.now() - process.started / os.sysconf("SC_CLK_TCK")
            idle = not any(core["in_request"] for core in one["cores"])
            workers.append(Worker(one["id"], process, own, age, idle))
        return Instance(name, app, master, tuple(workers), frozenset(cheap), complete)

    def _anonymous(self, pid: int) -> int:
        return _anonymous(self.read(f"{pid}/status"))

    def process(self, pid: int) -> Process:
        """The process that has this number now.

        :raises OSError: when there is none, or it is dead.
        """
        found = emperor_host.look(pid, self.proc)
        if found.dead:
            raise ProcessLookupError(f"process {pid} is dead")
        return found.process

    def alive(self, process: Process) -> bool:
        """Whether this very process still runs."""
        return emperor_host.alive(process, self.proc)

    def ask(self, process: Process) -> None:
        """Ask a worker to end after its requests.

        uWSGI would lose the signal in a worker that is just starting. One that accepts requests has its handler.

        :raises OSError: when it is gone, or we may not.
        """
        descriptor = os.pidfd_open(process.pid)  # from here on its number cannot go to another one
        try:
            if not self.alive(process):
                raise ProcessLookupError(f"process {process.pid} is gone")
            signal.pidfd_send_signal(descriptor, signal.SIGHUP)
        finally:
            os.close(descriptor)


def _sizes(text: str) -> dict[str, int]:
    """The sizes in a file of /proc, in bytes, by name."""
    return {name: int(size) * 1024 for name, size in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}


def _anonymous(status: str) -> int:
    """Bytes of anonymous memory, swapped or not, that a process has according to its /proc/PID/status."""
    sizes = _sizes(status)
    return sizes["RssAnon"] + sizes["VmSwap"]
