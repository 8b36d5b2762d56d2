"""Work on demand: requests that wait, burn CPU or keep memory."""

from __future__ import annotations

import os
import signal
import threading
import time

from flask import Blueprint, Response, abort, jsonify

from shop import worker
from shop.query import whole_number

SLOW_MAX_MS = 60_000
CPU_MAX_MS = 10_000
LEAK_MAX_KB = 1024  # per request; the sum of all requests has no bound, that is the point
HOG_MAX_MB = 4096

blueprint = Blueprint("load", __name__)

_leaked: list[bytes] = []


@blueprint.route("/slow", methods=["GET", "POST"])
def slow() -> Response:
    """Sleep `ms` milliseconds. Start and finish are in seconds since 1970 (wall clock)."""
    wait_ms = whole_number("ms", SLOW_MAX_MS)
    started = time.time()
    time.sleep(wait_ms / 1000)
    return jsonify(
        {
            **worker.identity(),
            "thread": threading.get_ident(),
            "ms": wait_ms,
            "started": started,
            "finished": time.time(),
        }
    )


@blueprint.get("/cpu")
def cpu() -> Response:
    """Burn `ms` milliseconds of CPU time; on a busy host that takes longer by the wall clock."""
    burn_ms = whole_number("ms", CPU_MAX_MS)
    started = time.time()
    # CPU time of this thread, so that the amount of work is the same however busy the host is.
    deadline = time.thread_time() + burn_ms / 1000
    rounds = 0
    while time.thread_time() < deadline:
        sum(range(1000))
        rounds += 1
    return jsonify({**worker.identity(), "ms": burn_ms, "rounds": rounds, "started": started, "finished": time.time()})


@blueprint.get("/leak")
def leak() -> Response:
    """Keep `kb` kilobytes (of 1024 bytes) in this worker until it ends."""
    size_kb = whole_number("kb", LEAK_MAX_KB)
    # Ones, not zeros: the kernel only gives real memory to pages that were written.
    _leaked.append(b"\x01" * (size_kb * 1024))
    total_kb = sum(map(len, _leaked)) // 1024
    return jsonify({**worker.identity(), "kb": size_kb, "leaked_kb": total_kb, "rss_kb": worker.rss_kb()})


@blueprint.post("/restart")
def restart() -> Response:
    """End this worker after its requests; uWSGI starts another one. Other servers have no such signal: 501."""
    if not worker.worker_id():
        abort(501, "Only a worker of uWSGI can be replaced.")
    # As worker_recycle does: the worker takes no more requests, and ends when those it has are answered.
    os.kill(os.getpid(), signal.SIGHUP)
    return jsonify(worker.identity())


@blueprint.get("/hog")
def hog() -> Response:
    """Use `mb` megabytes (of 1024 kB) during one request: nothing recycles a worker before it has answered."""
    size_mb = whole_number("mb", HOG_MAX_MB)
    # Piece by piece, as what runs away does.
    pieces = [b"\x01" * (1024 * 1024) for _ in range(size_mb)]
    return jsonify({**worker.identity(), "mb": len(pieces), "rss_kb": worker.rss_kb()})
