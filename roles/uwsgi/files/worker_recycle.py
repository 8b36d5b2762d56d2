"""End a uWSGI worker, after its requests, when its memory has reached a limit, or one of its requests takes too long.

Every worker runs this after its fork (see `emperor_loader.py`). uWSGI's own way for the memory,
`reload-on-rss`, reads it after every single request, and knows one limit for all workers. Its `harakiri` has one
deadline for all threads of a worker: each of them sets it when a request begins, and takes it away when one ends
(2.0.30, core/utils.c, `set_harakiri`). So it comes only where no other request ends meanwhile; and it kills the others.
"""

import faulthandler
import functools
import importlib.util
import os
import signal
import threading
import time

LIBRARY = "/usr/local/lib/emperor/emperor_host.py"
PAGE = os.sysconf("SC_PAGESIZE")
# Seconds. A worker that has too much from its start on would else be replaced without an end.
YOUNG, INTERVAL = 10, 1
TIMEOUT = 2  # seconds for each piece of the statistics


def resident():
    """The resident memory of this process, shared pages included, in bytes."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * PAGE


@functools.cache
def library():
    """What programs on a host share. Not by its name: an app sees nothing of it in its modules and search path."""
    specification = importlib.util.spec_from_file_location("emperor_host", LIBRARY)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def at_work(stats):
    """The requests that the instance's workers are processing, and whether every worker has begun to take some.

    A request is the second in which it began, 0 when that is not known, its worker's process and its thread's number.

    :param stats: the socket of the instance's statistics.
    :raises OSError: nothing answers in time.
    :raises ValueError: the answer is no JSON.
    """
    workers = [one for one in library().statistics(stats, TIMEOUT)["workers"] if one["status"] != "cheap"]
    requests = {
        (core["req_info"].get("request_start", 0), worker["pid"], core["id"])
        for worker in workers
        for core in worker["cores"]
        if core["in_request"]
    }
    return requests, all(worker["accepting"] for worker in workers)


class Requests:
    """How long the running requests have taken so far.

    :ivar turn: whether this process must end because one of its own takes too long. One worker after the other does:
        when all have one that hangs, none would accept requests.
    :ivar done: whether this process has none left but such that take too long.
    """

    def __init__(self, stats, seconds):
        self.stats, self.seconds = stats, seconds
        self.seen = {}  # since when; not by the wall clock, which may be set
        self.turn = self.done = False

    def look(self):
        """Read which requests run now."""
        now = time.monotonic()
        self.turn = self.done = False
        try:
            requests, all_there = at_work(self.stats)
        except (OSError, ValueError):
            return
        self.seen = {one: self.seen.get(one, now) for one in requests}
        late = {one for one, since in self.seen.items() if now - since >= self.seconds and one[0]}
        # The one that began first is so for all who look, and until its worker has ended.
        self.turn = all_there and bool(late) and min(late)[1] == os.getpid()
        own = {one for one in requests if one[1] == os.getpid()}
        self.done = bool(own) and own <= late


def watch(limit, seconds, mercy, stats):
    """Wait for the limit, or a request that takes too long, then ask this process to end.

    :param limit: resident memory in bytes.
    :param seconds: how long a request may take.
    :param mercy: seconds that it has for its requests; what then remains hangs, and is killed.
    :param stats: the socket of the instance's statistics.
    """
    # Signals are for the thread that serves: one in `accept` would not notice them.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    time.sleep(YOUNG)
    requests, looked = Requests(stats, seconds), time.monotonic()
    while resident() < limit and not requests.turn:
        time.sleep(INTERVAL)
        if time.monotonic() - looked >= seconds / 10:
            requests.look()
            looked = time.monotonic()
    if requests.turn:
        cause = f"a request takes more than {seconds} s (max_request_seconds), so its worker is replaced"
        os.write(2, f"{cause}. What that does:\n".encode())
        faulthandler.dump_traceback(2)
    else:
        os.write(2, f"this worker has {resident() >> 20} MiB (memory.worker_recycle), so it is replaced\n".encode())
    # What uWSGI's own chain reload sends; its master starts another one.
    os.kill(os.getpid(), signal.SIGHUP)
    end = time.monotonic() + mercy
    while time.monotonic() < end:
        time.sleep(INTERVAL)
        requests.look()
        if requests.done:
            break
    os.kill(os.getpid(), signal.SIGKILL)


def start(megabytes, seconds, options):
    """Watch this process from now on.

    :param megabytes: the limit, in MiB.
    :param seconds: how long a request may take.
    :param options: the instance's options, as uWSGI tells them.
    """
    arguments = (megabytes << 20, seconds, int(options["worker-reload-mercy"]), options["stats"].decode())
    threading.Thread(target=watch, args=arguments, name="worker-recycle", daemon=True).start()
