"""What stands between uWSGI and an app, with a server that behaves as uWSGI does."""

import contextlib
import re
import socket
import threading
import time
from pathlib import Path

import pytest
from role_program import load

PROGRAM = Path(__file__).parents[2] / "roles/uwsgi/files/emperor_wsgi.py"
emperor_wsgi = load(PROGRAM)


class Body:
    """uWSGI's `wsgi.input`: it counts what was read from the connection."""

    def __init__(self, connection, length):
        self.connection, self.length, self.read_so_far = connection, length, 0

    def fileno(self):
        return self.connection.fileno()

    def tell(self):
        return self.read_so_far

    def seek(self, _position):
        raise OSError("seeking wsgi.input without post_buffering is IMPOSSIBLE !!!")

    def __iter__(self):
        return iter([self.read(self.length)])

    def read(self, size):
        piece = self.connection.recv(min(size, self.length - self.read_so_far))
        self.read_so_far += len(piece)
        return piece


class Server:
    """uWSGI, as far as a response is concerned.

    :ivar sent: what the client got: the status, then the pieces.
    :ivar rest: bytes of the body that were read and thrown away until the client closed the connection.
    """

    def __init__(self, app):
        self.app = emperor_wsgi.Application(app).respond
        self.sent, self.status, self.begun = [], "", False

    def start_response(self, *arguments):
        assert len(arguments) == 2, "uWSGI's own cannot take an exception"
        if self.begun:
            raise OSError("headers already sent")
        self.status = arguments[0]

    def serve(self, size=0, length=None):
        """Answer a request whose client sends a body of this size, and closes when the response is complete."""
        ours, theirs = socket.socketpair()
        ours.settimeout(10)

        def client():
            with theirs, contextlib.suppress(BrokenPipeError):
                theirs.settimeout(10)
                theirs.sendall(b"x" * size)
                while theirs.recv(65536):
                    pass

        thread = threading.Thread(target=client)
        with ours:
            thread.start()
            text = length if length is not None else str(size) if size else ""
            environ = {"CONTENT_LENGTH": text, "wsgi.input": Body(ours, size)}
            result = self.app(environ, self.start_response)
            for piece in result:
                if not self.begun:
                    self.sent.append(self.status)
                    self.begun = True
                self.sent.append(piece)
            result.close()
            unread = ours.recv(65536) if size else b""
            assert unread == b""  # the end of the stream: nothing is left for the kernel to throw away
            ours.shutdown(socket.SHUT_WR) if not size else None
        thread.join(10)
        assert not thread.is_alive()
        return self.sent


def answers(*pieces, status="200 OK"):
    """An app with this response, which does not read the body."""

    def app(_environ, start_response):
        start_response(status, [])
        return list(pieces)

    return app


@pytest.mark.parametrize("size", [1, 64_000, 3_000_000])
def test_unread_body_is_discarded_after_the_response(size):
    assert Server(answers(b"no")).serve(size) == ["200 OK", b"no", b""]


def test_response_without_a_body_starts_before_the_body_is_discarded():
    assert Server(answers(status="204 No Content")).serve(64_000) == ["204 No Content", b""]


def test_rest_of_a_partly_read_body_is_discarded():
    def app(environ, start_response):
        start_response("413 Content Too Large", [])
        return [environ["wsgi.input"].read(10)]

    assert Server(app).serve(500_000) == ["413 Content Too Large", b"x" * 10, b""]


def test_body_does_not_claim_that_one_can_seek_in_it():
    seen = []

    def app(environ, start_response):
        body = environ["wsgi.input"]
        seen.extend([*(hasattr(body, name) for name in ("tell", "seek", "read", "fileno")), *body])
        start_response("200 OK", [])
        return [b""]

    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"xxxxx")
        environ = {"CONTENT_LENGTH": "5", "wsgi.input": Body(ours, 5)}
        assert list(emperor_wsgi.Application(app).respond(environ, lambda *_arguments: None)) == [b""]
    assert seen == [False, False, True, True, b"xxxxx"]


def test_request_without_an_unread_body_does_not_wait():
    assert Server(answers(b"a", b"b")).serve() == ["200 OK", b"a", b"b"]
    assert Server(answers()).serve() == []


def test_file_response_is_passed_to_uwsgi_unchanged_and_closed_at_the_end(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    file = (tmp_path / "file").open("rb")  # closed by the response

    def app(_environ, start_response):
        start_response("200 OK", [])
        return file

    response = emperor_wsgi.Application(app).respond({"wsgi.input": None}, lambda *_arguments: None)
    assert next(response) is file
    assert not file.closed
    assert list(response) == []
    assert file.closed


def test_file_response_to_an_unread_body_is_sent_in_pieces(tmp_path):
    (tmp_path / "file").write_bytes(b"line\n" * 30_000)

    def app(_environ, start_response):
        start_response("200 OK", [])
        return open(tmp_path / "file", "rb")

    _status, *pieces = Server(app).serve(1000)
    assert b"".join(pieces) == b"line\n" * 30_000
    assert len(pieces) < 10


def test_bytes_response_is_sent_in_one_piece():
    assert Server(lambda _environ, start_response: start_response("200 OK", []) or b"text").serve() == [
        "200 OK",
        b"text",
    ]


def throw(error):
    raise error


ERRORS = [ValueError("no such thing"), SystemExit("bye"), SystemExit(0), KeyboardInterrupt()]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
@pytest.mark.parametrize("started", [False, True])
def test_exception_of_the_app_is_a_500(started, error, capfd):
    def app(_environ, start_response):
        if started:
            start_response("200 OK", [])
        raise error

    assert Server(app).serve() == ["500 Internal Server Error", b"Internal Server Error\n"]
    told = "sys.exit" if isinstance(error, SystemExit) else type(error).__name__
    assert told in capfd.readouterr().err


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_exception_before_the_first_piece_is_a_500(error):
    def app(_environ, start_response):
        start_response("200 OK", [])

        return (throw(error) for _piece in [1])

    assert Server(app).serve() == ["500 Internal Server Error", b"Internal Server Error\n"]


@pytest.mark.parametrize(("error", "kind"), [(ValueError("late"), ValueError), (SystemExit(1), RuntimeError)])
def test_exception_after_the_first_piece_reaches_uwsgi_and_ends_no_worker(error, kind):
    def app(_environ, start_response):
        start_response("200 OK", [])
        yield b"first"
        raise error

    server = Server(app)
    with pytest.raises(kind):
        server.serve()
    assert server.sent == ["200 OK", b"first"]


NO_RESPONSES = {
    "none": lambda _environ, _start: None,
    "not started": lambda _environ, _start: [b"text"],
    "not started and empty": lambda _environ, _start: [],
    "text in place of bytes": lambda _environ, start: start("200 OK", []) or ["text"],
    "header with a line break": lambda _environ, start: start("200 OK", [("X-A", "b\r\nX-C: d")]) or [b"text"],
    "header name with a line break": lambda _environ, start: start("200 OK", [("X-A: b\nX-C", "d")]) or [b"text"],
    "number in a header": lambda _environ, start: start("200 OK", [("X-A", 5)]) or [b"text"],
}


@pytest.mark.parametrize("app", NO_RESPONSES.values(), ids=NO_RESPONSES)
def test_result_that_is_no_response_is_a_500(app):
    assert Server(app).serve() == ["500 Internal Server Error", b"Internal Server Error\n"]


def test_app_may_start_its_response_with_the_first_piece():
    def app(_environ, start_response):
        start_response("202 Accepted", [])
        yield b"later"

    assert Server(app).serve() == ["202 Accepted", b"later"]


def test_app_may_restart_its_response_with_an_exception():
    def app(_environ, start_response):
        start_response("200 OK", [])
        try:
            raise ValueError
        except ValueError as error:
            start_response("503 Busy", [], (ValueError, error, error.__traceback__))
        return [b"later"]

    assert Server(app).serve() == ["503 Busy", b"later"]


class Closing(list[bytes]):
    """A response that is told of its end."""

    closed = 0

    def close(self):
        self.closed += 1


def test_response_is_closed_once_however_it_ends():
    response = Closing([b"a"])
    Server(lambda _environ, start_response: start_response("200 OK", []) or response).serve()
    assert response.closed == 1
    other = Closing([b"a"])
    app = emperor_wsgi.Application(lambda _environ, start_response: start_response("200 OK", []) or other)
    leaving = app.respond({"wsgi.input": None}, lambda *_arguments: None)
    next(leaving)
    leaving.close()  # the client leaves after the first piece
    assert other.closed == 1


def test_lingering_ends_when_the_client_never_closes(monkeypatch):
    monkeypatch.setattr(emperor_wsgi, "LINGER", 0.2)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        emperor_wsgi.linger(ours.fileno())
        assert theirs.recv(1) == b""
        theirs.sendall(b"x")  # the connection itself is still open, for uWSGI to close


def started(app=None, **environ):
    """The headers that a response had, beside the app's own."""
    seen = []
    whole = {"wsgi.input": Body(None, 0), **environ}
    application = emperor_wsgi.Application(app or answers(b""), "3f2a9c01d4e5")
    list(application.respond(whole, lambda _status, headers: seen.extend(headers)))
    return dict(seen)


@pytest.mark.parametrize("seconds", [0, 0.042, 2, 3600])
def test_response_has_a_header_for_release_and_waiting_time(seconds):
    headers = started(HTTP_X_REQUEST_START=f"t={time.time() - seconds:.3f}")
    waited, release = headers["X-Emperor"].split(" ")
    assert release == "3f2a9c01d4e5"
    assert re.fullmatch(r"\d+\.\d{3}", waited)
    assert seconds - 0.001 <= float(waited) < seconds + 3


@pytest.mark.parametrize("since", ["", "t=", "soon", "t=inf", "t=nan"])
def test_invalid_waiting_time_gives_none(since):
    assert "X-Emperor" not in started(HTTP_X_REQUEST_START=since)


def test_waiting_time_of_a_clock_that_was_set_back_is_zero():
    assert started(HTTP_X_REQUEST_START="t=99999999999")["X-Emperor"] == "0.000 3f2a9c01d4e5"


def test_names_of_headers_that_were_checked_are_limited(monkeypatch):
    names: set[str] = set()
    monkeypatch.setattr(emperor_wsgi, "NAMES", names)
    monkeypatch.setattr(emperor_wsgi, "MOST_NAMES", 3)
    for number in range(5):
        started(lambda _environ, start, name=f"X-{number}": start("200 OK", [(name, "a")]) or [b""])
    assert len(names) == 3
    assert Server(NO_RESPONSES["header with a line break"]).serve()[0].startswith("500")


def test_exception_is_logged_with_request_id_and_release_and_without_the_query(capfd):
    def app(_environ, _start_response):
        raise ValueError("no such thing")

    started(app, HTTP_X_REQUEST_ID="abc", REQUEST_METHOD="GET", REQUEST_URI="/a%0Ab?password=secret")
    told = capfd.readouterr().err
    assert "request abc GET /a%0Ab (release 3f2a9c01d4e5) got 500" in told
    assert "ValueError: no such thing" in told
    assert "secret" not in told


def test_begin_and_end_of_a_request_reach_the_slow_request_watch():
    seen = []

    class Slow:
        begin, end = (lambda _self, environ, what=what: seen.append((what, environ["id"])) for what in ("begin", "end"))

    for app in (answers(b"a"), lambda *_arguments: 1 / 0):
        environ = {"wsgi.input": Body(None, 0), "id": len(seen)}
        response = emperor_wsgi.Application(app, "r", Slow()).respond(environ, lambda *_arguments: None)
        list(response)
        response.close()
    assert seen == [("begin", 0), ("end", 0), ("begin", 2), ("end", 2)]
