"""What stands between uWSGI and an app: a WSGI application that calls it.

uWSGI closes the connection as soon as an app has answered. Where the app did not read the request's body to its end,
nginx is still sending it then, gets an error and tells the client 502. And an exception that leaves the app ends the
request without a response or, after `start_response`, with that status and no body (2.0.30, `uwsgi_manage_exception`);
SystemExit ends the whole worker, with the requests of its other threads.
"""

import contextlib
import socket
import sys
import time
import traceback
from functools import partial

LINGER = 10  # seconds that nginx has for closing a connection whose response is complete; it takes milliseconds
PIECE = 65536  # bytes


def unread(environ, body):
    """How many bytes of the request's body have not been read yet.

    :param body: uWSGI's own `wsgi.input`.
    """
    length = environ.get("CONTENT_LENGTH")
    return int(length) - body.tell() if length else 0


def linger(descriptor):
    """Say that the response is complete, and throw away what still comes in, until nginx closes the connection."""
    with contextlib.suppress(OSError), socket.fromfd(descriptor, socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.shutdown(socket.SHUT_WR)
        rest, end = bytearray(PIECE), time.monotonic() + LINGER
        while (left := end - time.monotonic()) > 0:
            connection.settimeout(left)
            if not connection.recv_into(rest):
                return


def waited(environ):
    """For how many seconds a request waited for a worker, as text; empty when nginx does not say since when."""
    since = environ.get("HTTP_X_REQUEST_START", "")
    try:
        return f"{max(time.time() - float(since.removeprefix('t=')), 0):.3f}"
    except ValueError:
        return ""


def named(environ, release):
    """A request for the log: its ID, its method, its path as the client sent it, without the query."""
    path = environ.get("REQUEST_URI", "").partition("?")[0][:200]
    told = f"{environ.get('HTTP_X_REQUEST_ID', '-')} {environ.get('REQUEST_METHOD', '-')} {path}"
    return f"request {told} (release {release})"


def redirected(headers, prefix):
    """Headers of an app below a path of its domain, which names files for nginx as if it had all paths."""
    return [
        (name, prefix + value)
        if name.lower() == "x-accel-redirect" and value.startswith("/") and not value.startswith(prefix + "/")
        else (name, value)
        for name, value in headers
    ]


def starter(start_response, environ, release):
    """What an app calls to start its response. uWSGI's own cannot take an exception (`py_uwsgi_spit`)."""
    # For nginx's access log; clients do not get them.
    own = [("X-Emperor-Release", release), ("X-Emperor-Queue", waited(environ))]
    prefix = environ.get("SCRIPT_NAME")

    def start(status, headers, error=None):
        try:
            if prefix:
                headers = redirected(headers, prefix)
            written = start_response(status, [*headers, *own])
            if status.startswith("500"):
                print(f"{named(environ, release)} got {status}", file=sys.stderr, flush=True)
            return written
        except OSError:  # the response has begun already
            if error:
                raise error[1].with_traceback(error[2]) from None
            raise
        finally:
            error = None  # its traceback refers to this frame

    return start


def failed(start_response):
    """Answer for an app that raised the exception at hand, and log it.

    :param start_response: made by `starter`.
    :raises Exception: the same, which uWSGI logs, when the response has begun already.
    """
    kind, error, where = sys.exc_info()
    if issubclass(kind, SystemExit):  # would end the worker
        kind, error = RuntimeError, RuntimeError("the app called sys.exit() in a request; its worker goes on")
    text = b"Internal Server Error\n"
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(text)))]
    start_response("500 Internal Server Error", headers, (kind, error, where))
    traceback.print_exception(kind, error, where)
    sys.stderr.flush()
    return [text]


class Response:
    """The response of an app, piece by piece."""

    __slots__ = ("body", "end", "environ", "flushed", "pieces", "result", "start_response")

    def __init__(self, result, environ, body, start_response, end):
        self.result, self.environ, self.body, self.start_response = result, environ, body, start_response
        self.end = end
        self.pieces = iter(partial(result.read, PIECE), b"") if hasattr(result, "read") else iter(result)
        self.flushed = False

    def __iter__(self):
        return self

    def __next__(self):
        try:
            return next(self.pieces)
        except StopIteration:
            if unread(self.environ, self.body) > 0:
                if not self.flushed:
                    self.flushed = True
                    return b""  # lets uWSGI send the headers of a response without a body
                linger(self.body.fileno())
            raise
        except BaseException:
            self.pieces = iter(failed(self.start_response))
        return next(self.pieces)

    def close(self):
        """What WSGI lets a server call at the end, however it comes."""
        if self.end:
            self.end(self.environ)
        if hasattr(self.result, "close"):
            try:
                self.result.close()
            except SystemExit as error:
                raise RuntimeError("the app called sys.exit() at the end of a request") from error


class Application:
    """The app as uWSGI calls it.

    :param release: its ID.
    :param slow: told of every request's begin and end, if anything is.
    """

    def __init__(self, app, release="", slow=None):
        self.app, self.release = app, release
        self.begin, self.end = (slow.begin, slow.end) if slow else (None, None)

    def __call__(self, environ, start_response):
        body, end = environ["wsgi.input"], self.end
        start_response = starter(start_response, environ, self.release)
        if self.begin:
            self.begin(environ)
        try:
            result = self.app(environ, start_response)
            if hasattr(result, "read") and unread(environ, body) <= 0:
                if end:
                    end(environ)
                return result  # a file of `wsgi.file_wrapper`, which uWSGI must recognize
            return Response([result] if isinstance(result, bytes) else result, environ, body, start_response, end)
        except BaseException:
            return Response(failed(start_response), environ, body, start_response, end)
