"""For tests: a web server that wants a name and a password, and a look at the arguments of all processes meanwhile."""

from __future__ import annotations

import base64
import contextlib
import glob
import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Guarded(SimpleHTTPRequestHandler):
    """Serves files to whoever knows the password, or the token in the query."""

    def __init__(self, *rest: Any, user: str, password: str, token: str, **more: Any) -> None:
        self.wanted = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        self.token = f"?token={token}"
        super().__init__(*rest, **more)

    def do_GET(self) -> None:
        if self.path.endswith(self.token) or self.headers["Authorization"] == self.wanted:
            super().do_GET()
            return
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="sources"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_what: Any) -> None:
        pass


@contextlib.contextmanager
def serving(directory: Path, user: str, password: str, token: str) -> Iterator[str]:
    """Serve a directory; gives the address without its scheme."""
    handler = partial(Guarded, directory=str(directory), user=user, password=password, token=token)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def arguments(pattern: bytes) -> set[str]:
    """The arguments of processes of this machine in which a pattern is."""
    found = set()
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            text = Path(path).read_bytes()
            if re.search(pattern, text):
                found.add(text.replace(b"\0", b" ").decode("utf-8", "replace"))
    return found


class Watch:
    """Looks at the arguments of all processes of this machine in a `with` block.

    :ivar seen: those in which the pattern was.
    """

    def __init__(self, pattern: bytes) -> None:
        self.pattern, self.seen, self._end = pattern, set[str](), threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._end.wait(0.02):
            self.seen |= arguments(self.pattern)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._end.set()
        self._thread.join()
