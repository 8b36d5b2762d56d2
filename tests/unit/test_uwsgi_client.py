"""uwsgi_client: packets as the uwsgi protocol has them, and answers read whatever an app sends."""

import contextlib
import json
import socket
import struct
import threading

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import host, uwsgi_client
from hypothesis import given
from hypothesis import strategies as st


def decode(packet):
    """The variables of a uwsgi packet, read independently of how it was written."""
    modifier1, length, modifier2 = struct.unpack_from("<BHB", packet)
    assert (modifier1, modifier2) == (0, 0)
    assert len(packet) == 4 + length
    texts, place = [], 4
    while place < len(packet):
        (size,) = struct.unpack_from("<H", packet, place)
        texts.append(packet[place + 2 : place + 2 + size])
        place += 2 + size
    return {name.decode(): value.decode() for name, value in zip(texts[::2], texts[1::2], strict=True)}


@pytest.fixture
def serve(tmp_path):
    """Answer one connection on a Unix socket; returns its path and a list with what was received."""
    with contextlib.ExitStack() as cleanup:

        def start(answer, reads=True):
            path, received = str(tmp_path / "s"), []
            listener = cleanup.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(path)
            listener.listen()

            def talk():
                with contextlib.suppress(OSError):
                    connection = listener.accept()[0]
                    with connection:
                        if reads:
                            received.append(connection.recv(65536))
                        for piece in answer:
                            connection.sendall(piece)

            thread = threading.Thread(target=talk, daemon=True)
            thread.start()
            cleanup.callback(thread.join, 5)
            return path, received

        yield start


def test_a_request_carries_path_query_and_host():
    variables = decode(uwsgi_client.encode_request("/a%20b?x=1?2", "shop.example.com"))
    assert variables["REQUEST_METHOD"] == "GET"
    assert variables["REQUEST_URI"] == "/a%20b?x=1?2"
    assert variables["PATH_INFO"] == "/a b"  # as nginx hands it on
    assert variables["QUERY_STRING"] == "x=1?2"
    assert variables["HTTP_HOST"] == variables["SERVER_NAME"] == "shop.example.com"


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
def test_every_path_and_host_arrive_as_they_are(path, host):
    variables = decode(uwsgi_client.encode_request(path, host))
    assert (variables["REQUEST_URI"], variables["HTTP_HOST"]) == (path, host)


def test_an_answer_in_pieces_is_put_together(serve):
    path, received = serve(
        [b"HTTP/1.1 204 No", b" Content\r\nX-Vas", b"sal:  abc \r\nA: 1\r\nA: 2\r\n\r", b"\nbody\r\n\r\nmore"]
    )
    answer = uwsgi_client.request(path, "/healthz", "localhost", 5)
    assert answer.status == 204
    assert answer.headers == {"x-vassal": "abc", "a": "2"}
    assert answer.body == b"body\r\n\r\nmore"
    assert decode(received[0])["PATH_INFO"] == "/healthz"


@given(st.binary() | st.binary().map(lambda raw: b"HTTP/1.1 " + raw))
def test_any_response_gives_a_status(raw):
    assert 0 <= uwsgi_client.Response(raw).status <= 999


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"", 0),
        (b"HTTP/1.1", 0),
        (b"HTTP/1.1 200", 200),
        (b"HTTP/1.1 2x0 OK\r\n\r\n", 0),
        (b"HTTP/1.1 \xb2 OK\r\n\r\n", 0),  # a digit, but none of a number
        (b"HTTP/1.1 " + b"9" * 5000, 0),
    ],
)
def test_an_answer_without_a_status_has_the_status_0(raw, status):
    assert uwsgi_client.Response(raw).status == status


def test_missing_listener_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        uwsgi_client.request(str(tmp_path / "none"), "/", "localhost", 1)


def test_missing_response_is_an_os_error(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        with pytest.raises(TimeoutError):
            uwsgi_client.request(str(tmp_path / "s"), "/", "localhost", 0.05)


def test_statistics_are_read_without_a_request(serve):
    path, _received = serve([json.dumps({"workers": [{"status": "idle"}]}).encode()], reads=False)
    assert uwsgi_client.statistics(path, 5) == {"workers": [{"status": "idle"}]}


@pytest.mark.parametrize("answer", [b"", b"{", b"\xff"])
def test_invalid_statistics_are_a_value_error(answer, serve):
    path, _received = serve([answer], reads=False)
    with pytest.raises(ValueError, match="Expecting"):
        uwsgi_client.statistics(path, 5)


def test_removed_working_directory_does_not_break_statistics(monkeypatch):
    """uWSGI tells any bytes of it."""
    told = b'{\n\t"pid":7,\n\t"cwd":"\x91\x02",\n",\n\t"locks":[],\n\t"workers":[]\n}'
    monkeypatch.setattr(host, "exchange", lambda *_arguments: told)
    assert host.statistics("x", 1) == {"pid": 7, "locks": [], "workers": []}
