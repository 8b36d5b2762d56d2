"""Say what a slow request does: the Python stack of its thread, once, at the moment when it has taken too long."""

import signal
import sys
import threading
import time
import traceback


class Watch:
    """The running requests of this process.

    :param seconds: after which one is slow.
    :param describe: names a request, from its WSGI environment.
    """

    def __init__(self, seconds, describe):
        self.seconds, self.describe = seconds, describe
        self.running = {}  # of each: its thread, when it began, its environment

    def begin(self, environ):
        """A request begins in this thread."""
        self.running[id(environ)] = [threading.get_ident(), time.monotonic(), environ]

    def end(self, environ):
        """It is over."""
        self.running.pop(id(environ), None)

    def look(self):
        """Report those that have become slow. Returns what it wrote."""
        told, end = [], time.monotonic() - self.seconds
        for key, (thread, began, environ) in list(self.running.items()):
            if began > end:
                continue
            self.running.pop(key, None)  # told once
            frame = sys._current_frames().get(thread)
            stack = "".join(traceback.format_stack(frame)) if frame else "  (its thread has ended)\n"
            told.append(f"{self.describe(environ)} takes more than {self.seconds} s. What it does:\n{stack}")
        return "".join(told)

    def start(self):
        """Look from now on, in a thread of this process."""
        self.running = {}

        def run():
            # Signals are for the thread that serves: one in `accept` would not notice them.
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            while True:
                time.sleep(min(1, self.seconds / 4))
                if told := self.look():
                    sys.stderr.write(told)
                    sys.stderr.flush()

        threading.Thread(target=run, name="slow-requests", daemon=True).start()
