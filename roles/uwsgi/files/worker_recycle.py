"""End a uWSGI worker, after its requests, when its resident memory has reached a limit.

Every worker runs this when it begins to accept requests (see `vassal.ini.j2`). uWSGI's own way, `reload-on-rss`, reads
the memory after every single request, and knows one limit for all workers.
"""

import os
import signal
import threading
import time

PAGE = os.sysconf("SC_PAGESIZE")
# Seconds. A worker that has too much from its start on would else be replaced without an end.
YOUNG, INTERVAL = 10, 1


def resident():
    """The resident memory of this process, shared pages included, in bytes."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * PAGE


def watch(limit, mercy):
    """Wait for the limit, then ask this process to end.

    :param limit: resident memory in bytes.
    :param mercy: seconds that it has for its requests; what then remains hangs, and is killed.
    """
    # Signals are for the thread that serves: one in `accept` would not notice them.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    time.sleep(YOUNG)
    while resident() < limit:
        time.sleep(INTERVAL)
    # What uWSGI's own chain reload sends; its master starts another one.
    os.kill(os.getpid(), signal.SIGHUP)
    time.sleep(mercy)
    os.kill(os.getpid(), signal.SIGKILL)


def start(megabytes, mercy):
    """Watch this process from now on.

    :param megabytes: the limit, in MiB.
    """
    threading.Thread(target=watch, args=(megabytes << 20, mercy), name="worker-recycle", daemon=True).start()
