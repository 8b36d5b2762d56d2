"""The page, and the small answers that say what is running."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, render_template, request

from shop import own_server, worker
from shop.load import CPU_MAX_MS, LEAK_MAX_KB, SLOW_MAX_MS

blueprint = Blueprint("pages", __name__)

# The forms on the page. Their limits are the ones that the endpoints enforce.
JOBS = (
    {
        "endpoint": "load.slow",
        "title": "Wait",
        "text": "Occupies one thread, and no CPU.",
        "label": "Milliseconds",
        "parameter": "ms",
        "maximum": SLOW_MAX_MS,
        "value": 3000,
    },
    {
        "endpoint": "load.cpu",
        "title": "Compute",
        "text": "Burns CPU time on one core.",
        "label": "Milliseconds",
        "parameter": "ms",
        "maximum": CPU_MAX_MS,
        "value": 500,
    },
    {
        "endpoint": "load.leak",
        "title": "Leak",
        "text": "Keeps memory in one worker until that worker ends.",
        "label": "Kilobytes",
        "parameter": "kb",
        "maximum": LEAK_MAX_KB,
        "value": LEAK_MAX_KB,
    },
)


@blueprint.get("/")
def index() -> str:
    """Show the worker that happened to answer."""
    return render_template(
        "index.html",
        who=worker.identity(),
        interpreter=worker.interpreter(),
        server=worker.server_name(request.environ),
        rss_kb=worker.rss_kb(),
        threads=worker.thread_count(),
        jobs=JOBS,
        compared=own_server.address() is not None,
    )


@blueprint.get("/healthz")
def healthz() -> Response:
    """Say that this worker can answer."""
    return jsonify(status="ok")


@blueprint.get("/version")
def version() -> Response:
    """Say exactly what is running."""
    return jsonify({**worker.identity(), **worker.interpreter()})
