"""Requests passed on to Flask's own server with one thread, to compare it with the server that runs this app.

SHOP_OWN_SERVER is its address, such as http://127.0.0.1:5001. Without it there is nothing to compare with.
"""

from __future__ import annotations

import os
import urllib.error
import urllib.request

from flask import Blueprint, Response, abort

from shop.load import SLOW_MAX_MS
from shop.query import whole_number

blueprint = Blueprint("own_server", __name__)


def address() -> str | None:
    """Return the address of Flask's own server; None when there is none."""
    return os.environ.get("SHOP_OWN_SERVER")


@blueprint.get("/own-server/slow")
def slow() -> Response:
    """Let the other server sleep `ms` milliseconds, and return its answer."""
    wait_ms = whole_number("ms", SLOW_MAX_MS)
    if not (base := address()):
        abort(404, "SHOP_OWN_SERVER is not set: there is no server to compare with.")
    try:
        with urllib.request.urlopen(f"{base}/slow?ms={wait_ms}", timeout=120) as answer:
            return Response(answer.read(), content_type="application/json")
    except (OSError, urllib.error.URLError) as error:
        abort(502, f"The server at SHOP_OWN_SERVER does not answer: {error}.")
