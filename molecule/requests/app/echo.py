"""A WSGI app that answers what it was asked, as JSON, and misbehaves in several ways."""

import ctypes
import hashlib
import json
import os
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs

DATA = Path(os.environ["HOME"])


def text(start_response, status="200 OK", body=b"", *headers):
    """A plain response."""
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body))), *headers])
    return [body]


def early(_environ, start_response, query):
    """Answer before the body is read."""
    return text(start_response, query.get("status", ["401 Unauthorized"])[0], b"early")


def empty(_environ, start_response, _query):
    """The same, without a body of its own."""
    start_response("204 No Content", [])
    return []


def unsized(environ, start_response, query):
    """Read some of the body, then answer without saying how much comes."""
    environ["wsgi.input"].read(10)
    start_response("413 Content Too Large", [("Content-Type", "text/plain")])
    return (piece for piece in [b"x" * int(query.get("size", ["10"])[0])])


def file(environ, start_response, _query):
    """Answer with a file before the body is read."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return environ["wsgi.file_wrapper"](open(__file__, "rb"), 65536)


def leave(_environ, _start_response, _query):
    """End the process, as libraries for the command line do."""
    sys.exit("bye")


def leave_late(_environ, start_response, _query):
    """The same, when the response is asked for."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return (sys.exit("bye") for _piece in [1])


def crash(_environ, _start_response, _query):
    """End the process as a fault in a C extension does."""
    ctypes.string_at(0)


def fail(_environ, start_response, query):
    """Raise an exception."""
    if "late" in query:
        start_response("200 OK", [("Content-Type", "text/plain"), ("X-Late", "yes")])
    raise ValueError("no such thing")


def events(_environ, start_response, query):
    """Three events, one second apart."""
    start_response("200 OK", [("Content-Type", query.get("type", ["text/event-stream"])[0])])
    for number in range(3):
        yield f"data: {number}\n\n".encode()
        time.sleep(1)


def private(_environ, start_response, query):
    """Let nginx deliver a file of the data."""
    (DATA / "private").joinpath("report.txt").write_text("for you alone\n")
    return text(start_response, "200 OK", b"", ("X-Accel-Redirect", query["file"][0]))


def upload(environ, start_response, query):
    """Keep the body as a file that nginx serves."""
    (DATA / "media").joinpath(query["name"][0]).write_bytes(environ["wsgi.input"].read())
    return text(start_response, "201 Created")


def link(_environ, start_response, _query):
    """Put a link that leads out among the files that nginx serves."""
    (DATA / "secret.txt").write_text("secret\n")
    if not (DATA / "media/link.txt").is_symlink():
        (DATA / "media/link.txt").symlink_to("../secret.txt")
    return text(start_response)


def headers(_environ, start_response, query):
    """Answer with headers as the query has them."""
    return text(start_response, "200 OK", b"", *(tuple(pair.split(":", 1)) for pair in query["set"]))


def cut(_environ, start_response, query):
    """Stop in the middle of a response, by an exception or with the worker."""
    sized = [("Content-Length", "20")] if "sized" in query else []
    start_response("200 OK", [("Content-Type", "text/plain"), *sized])
    yield b"1234567890"
    time.sleep(0.2)
    if "crash" in query:
        ctypes.string_at(0)
    raise ValueError("in the middle")


def worker(_environ, start_response, query):
    """Tell which process answers, after a while."""
    time.sleep(float(query.get("seconds", ["0"])[0]))
    return text(start_response, "200 OK", str(os.getpid()).encode())


def endless(_environ, start_response, query):
    """A stream without an end, which leaves a file when it is over."""
    mark = DATA / query["mark"][0]
    mark.unlink(missing_ok=True)
    start_response("200 OK", [("Content-Type", "text/event-stream")])
    try:
        while True:
            yield b"data: more\n\n" * 10_000
            time.sleep(0.1)
    finally:
        mark.touch()


def without_body(_environ, start_response, query):
    """A status that has no body, with one."""
    start_response(query["status"][0], [("Content-Type", "text/plain"), ("ETag", '"a"')])
    return [b"no body belongs here"]


def not_bytes(_environ, start_response, _query):
    """Text in place of bytes."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return ["text"]


HANDLERS = (
    endless,
    without_body,
    not_bytes,
    early,
    empty,
    unsized,
    file,
    leave,
    leave_late,
    crash,
    fail,
    events,
    private,
    upload,
    link,
    headers,
    worker,
    cut,
)
ROUTES = {f"/{handler.__name__}": handler for handler in HANDLERS}


def application(environ, start_response):
    """Tell the environment and the body of a request; ``/big?header=N`` has N bytes in a header of the response."""
    query = parse_qs(environ.get("QUERY_STRING", ""))
    if environ["PATH_INFO"] in ROUTES:
        return ROUTES[environ["PATH_INFO"]](environ, start_response, query)
    body = environ["wsgi.input"].read()
    told = {key: value for key, value in environ.items() if isinstance(value, str)}
    told |= {"length": len(body), "digest": hashlib.sha256(body).hexdigest(), "scheme": environ["wsgi.url_scheme"]}
    headers = [("Content-Type", "application/json")]
    for _time in range(int(query.get("times", ["1"])[0])):
        headers.append(("Set-Cookie", "a=" + "x" * int(query.get("header", ["1"])[0])))
    # The health check comes here, with the escape decoded.
    status = "200 OK" if "%" not in environ["PATH_INFO"] else "500 Not decoded"
    start_response(status, headers)
    return [json.dumps(told).encode()]
