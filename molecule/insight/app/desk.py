"""A WSGI app that fails, waits or answers, as it is asked, and is traced."""

import time
from urllib.parse import parse_qs

from tracing import Traced


def slow(seconds):
    """What a slow request does."""
    time.sleep(seconds)


def application(environ, start_response):
    """``/fail`` raises, ``/slow?seconds=N`` waits, everything else is fine."""
    query = parse_qs(environ.get("QUERY_STRING", ""))
    if environ["PATH_INFO"] == "/fail":
        raise ValueError("the drawer is stuck")
    if environ["PATH_INFO"] == "/slow":
        slow(float(query["seconds"][0]))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"fine\n"]


application = Traced(application)
