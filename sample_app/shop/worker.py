"""What this process can say about itself, under uWSGI or under any other server."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

try:
    import uwsgi  # exists inside a uWSGI process only
except ImportError:
    uwsgi = None


def release() -> str:
    """Return the name of the running release."""
    return os.environ.get("RELEASE_ID", "development")


def worker_id() -> int | None:
    """Return uWSGI's number for this worker, from 1; None under other servers."""
    return uwsgi.worker_id() if uwsgi else None


def uwsgi_version() -> str | None:
    """Return uWSGI's version; None under other servers."""
    return uwsgi.version.decode() if uwsgi else None


def server_name(environ: dict[str, Any]) -> str:
    """Name the WSGI server, from uWSGI itself or from the request's WSGI `environ`."""
    version = uwsgi_version()
    return f"uWSGI {version}" if version else environ.get("SERVER_SOFTWARE", "unknown")


def identity() -> dict[str, Any]:
    """Return who answers a request: release, process and uWSGI worker."""
    return {"release": release(), "pid": os.getpid(), "worker": worker_id()}


def interpreter() -> dict[str, Any]:
    """Return which Python runs, from where, and how. The switch interval is in seconds."""
    return {
        "python": sys.version.split()[0],
        "prefix": sys.prefix,
        "executable": sys.executable,
        "uwsgi": uwsgi_version(),
        "switch_interval": sys.getswitchinterval(),
    }


def rss_kb() -> int | None:
    """Return the resident memory of this process in kB of 1024 bytes; None where there is no /proc."""
    return _status_number("VmRSS")


def thread_count() -> int:
    """Return how many threads this process has."""
    # The kernel also counts uWSGI's own threads, which Python's threading module may not know.
    return _status_number("Threads") or threading.active_count()


def _status_number(field: str) -> int | None:
    """Return the number that /proc/self/status gives for `field`, if there is one."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    values = (line.split()[1] for line in lines if line.startswith(f"{field}:"))
    return next(map(int, values), None)
