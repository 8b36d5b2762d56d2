"""What the process was given, and what it can start: environment and child processes."""

from __future__ import annotations

import base64
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from flask import Blueprint, Response, jsonify
from werkzeug.exceptions import Forbidden, NotFound

from shop import worker
from shop.query import required_text

ENV_PREFIX = "SHOP_"
CHILD_TIMEOUT_SECONDS = 10

blueprint = Blueprint("process", __name__)


@blueprint.get("/env")
def env() -> Response:
    """Show one environment variable, as text and as the exact bytes."""
    name = required_text("name")
    if not name.startswith(ENV_PREFIX):
        raise Forbidden(f"Only names that start with {ENV_PREFIX} may be read.")
    # Not os.fsencode: a worker started in the C locale could not encode every name.
    value = os.environb.get(name.encode())
    if value is None:
        raise NotFound(f"The environment variable {name} is not set.")
    return jsonify(name=name, value=os.fsdecode(value), base64=base64.b64encode(value).decode())


@blueprint.get("/spawn")
def spawn() -> tuple[Response, int]:
    """Start two Python children the two usual ways; both must live in this worker's virtualenv."""
    answer = {name: _attempt(child) for name, child in CHILDREN.items()}
    works = all(result.get("prefix") == sys.prefix for result in answer.values())
    body = jsonify({**worker.identity(), **worker.interpreter(), "works": works, **answer})
    return body, 200 if works else 500


def _attempt(child: Callable[[], str]) -> dict[str, Any]:
    """Return the sys.prefix that `child` reports, or why it could not."""
    try:
        return {"prefix": child()}
    except (OSError, EOFError, subprocess.SubprocessError) as error:
        return {"error": f"{type(error).__name__}: {error}"}


def _subprocess_prefix() -> str:
    """Ask a Python that is started as `sys.executable -c`."""
    command = [sys.executable, "-c", "import sys; print(sys.prefix)"]
    child = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        timeout=CHILD_TIMEOUT_SECONDS,
    )
    return child.stdout.strip()


def _multiprocessing_prefix() -> str:
    """Ask a Python that is started by multiprocessing with the spawn method."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_send_prefix, args=(theirs,), daemon=True)
    with ours:
        with theirs:
            child.start()
        # Our copy of the far end is closed now: a child that dies early gives EOFError, not a long wait.
        try:
            if not ours.poll(CHILD_TIMEOUT_SECONDS):
                raise TimeoutError(f"no answer within {CHILD_TIMEOUT_SECONDS} seconds")
            return ours.recv()
        finally:
            child.kill()
            child.join()


def _send_prefix(connection: Connection) -> None:
    """Run in the child: report where it lives."""
    connection.send(sys.prefix)


CHILDREN = {"subprocess": _subprocess_prefix, "multiprocessing": _multiprocessing_prefix}
