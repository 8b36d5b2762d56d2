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
NAMES, MOST_NAMES = set(), 1000  # of headers that have no line break


def unread(length, body):
    """Whether a part of the request's body has not been read yet.

    :param length: of the body, as text.
    :param body: uWSGI's own `wsgi.input`.
    """
    return length and body.tell() < int(length)


class Input:
    """The request's body for the app: uWSGI's own, except that it does not claim to be a file in which one can seek.

    Apps that find `tell` read forms and then seek back, which uWSGI refuses with an exception.
    """

    __slots__ = ("_body",)

    def __init__(self, body):
        self._body = body

    def __getattr__(self, name):
        if name in ("tell", "seek"):
            raise AttributeError(name)
        return getattr(self._body, name)

    def __iter__(self):
        return iter(self._body)


def linger(descriptor):
    """Say that the response is complete, and throw away what still comes in, until nginx closes the connection."""
    with contextlib.suppress(OSError), socket.fromfd(descriptor, socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.shutdown(socket.SHUT_WR)
        rest, end = bytearray(PIECE), time.monotonic() + LINGER
        while (left := end - time.monotonic()) > 0:
            connection.settimeout(left)
            if not connection.recv_into(rest):
                return


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


def checked(name, value):
    """Refuse a line break: uWSGI would send it, and a client would read what follows as headers of the response."""
    if "\n" in value or "\r" in value or "\n" in name or "\r" in name:
        raise ValueError(f"the app's header {name!r} has a line break: {value!r}")
    if len(NAMES) < MOST_NAMES:
        NAMES.add(name)


def starter(start_response, environ, release, told, begun):
    """What an app calls to start its response. uWSGI's own cannot take an exception (`py_uwsgi_spit`).

    :param told: headers besides those of the app.
    :param begun: a list, not empty when the app has called it.
    """
    prefix = environ.get("SCRIPT_NAME")

    def start(status, headers, error=None):
        begun.append(True)
        try:
            for name, value in headers:
                if name not in NAMES or "\n" in value or "\r" in value:
                    checked(name, value)
            if prefix:
                headers = redirected(headers, prefix)
            written = start_response(status, [*headers, *told])
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


class Application:
    """The app as uWSGI calls it. Every request pays for each call of Python here, so there are few.

    :param release: its ID.
    :param slow: told of every request's begin and end, if anything is.
    """

    def __init__(self, app, release="", slow=None):
        self.app, self.release = app, release
        self.begin, self.end = (slow.begin, slow.end) if slow else (None, None)
        self.waits = [self.told(milliseconds) for milliseconds in range(100)]

    def told(self, milliseconds):
        """Headers for nginx's access log, which clients do not get: waiting time of the request, and the release."""
        return [("X-Emperor", f"{milliseconds // 1000}.{milliseconds % 1000:03} {self.release}")]

    def waited(self, environ):
        """The same for a request; nothing when nginx does not say since when it waits."""
        try:
            # Of the form t=1796006050.228
            milliseconds = int((time.time() - float(environ["HTTP_X_REQUEST_START"][2:])) * 1000)
        except (KeyError, ValueError, OverflowError):
            return []
        if 0 <= milliseconds < len(self.waits):
            return self.waits[milliseconds]
        return self.told(max(milliseconds, 0))

    def respond(self, environ, start_response):
        """A response with an end that nginx understands, and the call of the app that comes before.

        A generator: uWSGI calls no function of ours for a piece, and in any case asks for a first one.
        """
        length, body, begun = environ.get("CONTENT_LENGTH"), environ["wsgi.input"], []
        if length:
            environ["wsgi.input"] = Input(body)
        start = starter(start_response, environ, self.release, self.waited(environ), begun)
        result = None
        if self.begin:
            self.begin(environ)
        try:
            try:
                result = self.app(environ, start)
                if hasattr(result, "read") or isinstance(result, bytes):
                    pieces = self.whole(result, environ, unread(length, body))
                else:
                    pieces = result
                for piece in pieces:
                    if not isinstance(piece, bytes) and piece is not result:  # uWSGI would send nothing in its place
                        raise TypeError(f"the app's response has a piece of type {type(piece).__name__}, not bytes")
                    if not begun:
                        break
                    yield piece
                if not begun:
                    raise RuntimeError("the app did not call start_response")
            except GeneratorExit:  # the client has gone
                raise
            except BaseException:
                yield from failed(start)
            if unread(length, body):
                yield b""  # lets uWSGI send the headers of a response without a body
                linger(body.fileno())
        finally:
            self.finish(environ, result)

    def whole(self, result, environ, rest):
        """The pieces of a result that is no series of them: bytes, or a file."""
        if isinstance(result, bytes):
            return [result]
        if rest:
            return iter(partial(result.read, PIECE), b"")
        if self.end:
            self.end(environ)  # what follows is not the app's
        return [result]  # a file of `wsgi.file_wrapper`, which uWSGI recognizes and sends

    def finish(self, environ, result):
        """What WSGI lets a server call at the end, however it comes."""
        if self.end:
            self.end(environ)
        if close := getattr(result, "close", None):
            try:
                close()
            except SystemExit as error:
                raise RuntimeError("the app called sys.exit() at the end of a request") from error
