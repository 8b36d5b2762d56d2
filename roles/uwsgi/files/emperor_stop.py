#!/usr/bin/python3 -IS
"""Stop the Emperor after the running requests of its apps: emperor-stop PID (see emperor.service).

The Emperor tells its vassals, and they their workers. uWSGI loses that signal in a worker that is just starting, and
the vassal then waits for it until the Emperor kills both. So the workers are told again and again.
"""

import contextlib
import os
import signal
import sys
import time

sys.path.insert(0, "/usr/local/lib/emperor")  # root's alone

import emperor_host

AGAIN = 2  # seconds after which a worker that still runs is told again
PAUSE = 0.1  # seconds between two looks


def children(parents: set[int]) -> list[emperor_host.Process]:
    """The processes that these have started."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            one = emperor_host.look(int(name))
            if one.parent in parents:
                found.append(one.process)
    return found


def main(pid: int) -> None:
    """Return when the Emperor has ended. How long that may take is systemd's business."""
    emperor = emperor_host.look(pid).process
    os.kill(pid, signal.SIGQUIT)
    told = time.monotonic()
    while emperor_host.alive(emperor):
        if time.monotonic() - told > AGAIN:
            told = time.monotonic()
            for worker in children({vassal.pid for vassal in children({pid})}):
                if emperor_host.alive(worker):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(worker.pid, signal.SIGHUP)
        time.sleep(PAUSE)


if __name__ == "__main__":
    # There is none when it ended by itself.
    with contextlib.suppress(IndexError, OSError):
        main(int(sys.argv[1]))
