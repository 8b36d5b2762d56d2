"""Requests through nginx, as raw as a client can send them: what the app sees of them, and what comes back."""

import hashlib
import json
import os
import socket

import pytest

READ = """
import http.client, json, sys
connection = http.client.HTTPConnection("127.0.0.1", timeout=20)
connection.request("GET", "/echo", headers=json.loads(sys.argv[1]))
print(connection.getresponse().read().decode())
"""


class Answer:
    """A response: its status, its headers by lower-case name, its body."""

    def __init__(self, raw):
        head, _separator, body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split()[1]) if first.startswith("HTTP/") else 0
        self.headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines if ": " in line)}
        if self.headers.get("transfer-encoding") == "chunked":
            body = b"".join(pieces(body))
        self.body = body

    @property
    def told(self):
        """What the app says of the request."""
        return json.loads(self.body)


def pieces(body):
    while body:
        size, _end, rest = body.partition(b"\r\n")
        if int(size, 16) == 0:
            return
        yield rest[: int(size, 16)]
        body = rest[int(size, 16) + 2 :]


@pytest.fixture
def send(host, addresses):
    """Send bytes to the host and return its response."""

    def exchange(raw):
        with socket.create_connection((addresses[host.backend.name], 80), timeout=30) as connection:
            connection.sendall(raw)
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
        return Answer(answer)

    return exchange


@pytest.fixture
def get(send):
    """Send a GET request with headers given as lines."""

    def ask(target="/echo", *lines, host="echo.test"):
        head = [f"GET {target} HTTP/1.1", f"Host: {host}", "Connection: close", *lines, "", ""]
        return send("\r\n".join(head).encode("latin-1"))

    return ask


@pytest.mark.parametrize("size", [11, 300_000])
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_chunked_body_arrives_whole_and_without_its_framing(size, method, send):
    body = os.urandom(size)
    head = [f"{method} /echo HTTP/1.1", "Host: echo.test", "Connection: close", "Transfer-Encoding: chunked", "", ""]
    raw = "\r\n".join(head).encode()
    for start in range(0, size, 7000):
        piece = body[start : start + 7000]
        raw += f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
    told = send(raw + b"0\r\n\r\n").told
    assert (told["length"], told["digest"]) == (size, hashlib.sha256(body).hexdigest())
    assert told["CONTENT_LENGTH"] == str(size)
    assert "HTTP_TRANSFER_ENCODING" not in told


def test_headers_of_the_connection_do_not_reach_the_app(get):
    told = get("/echo", "Keep-Alive: 5", "TE: trailers", "Upgrade: h2c", "Proxy-Connection: x", "Trailer: X").told
    for name in ("CONNECTION", "KEEP_ALIVE", "TE", "UPGRADE", "PROXY_CONNECTION", "TRAILER"):
        assert f"HTTP_{name}" not in told


@pytest.mark.parametrize(("size", "times"), [(4_000, 1), (3_000, 3), (30_000, 1)])
def test_large_headers_of_a_response_pass(size, times, get):
    answer = get(f"/big?header={size}&times={times}")
    assert answer.status == 200
    assert len(answer.headers["set-cookie"]) >= size


def test_large_headers_and_targets_of_a_request_pass(get):
    assert get("/echo", f"X-Big: {'x' * 15_000}").told["HTTP_X_BIG"] == "x" * 15_000
    assert get(f"/echo?{'q' * 15_000}").told["QUERY_STRING"] == "q" * 15_000


def test_too_large_headers_and_targets_are_refused_by_their_name(get):
    assert get("/echo", f"X-Big: {'x' * 20_000}").status == 431
    assert get("/echo", *(f"X-Big-{number}: {'x' * 15_000}" for number in range(4))).status == 431
    assert get(f"/echo?{'q' * 20_000}").status == 414


@pytest.mark.parametrize("name", ["echo.test", "echo.test:8121", "ECHO.test:80"])
def test_app_sees_host_and_port_as_they_were_asked(name, get):
    assert get(host=name).told["HTTP_HOST"] == name.lower()


@pytest.mark.parametrize("other", ["evil.test", "echo.test.evil.test", "evil.test:80"])
def test_absolute_target_decides_about_the_host(other, get):
    assert get("http://echo.test/echo", host=other).told["HTTP_HOST"] == "echo.test"


def test_forged_headers_about_the_client_are_replaced(get):
    forged = ["X-Forwarded-Proto: https", "X-Forwarded-For: 203.0.113.7", "X-Real-IP: 203.0.113.7", "Proxy: http://evil",
              "X-Forwarded-Host: evil.test", "Forwarded: for=203.0.113.7", "X-Forwarded-Port: 1"]  # fmt: skip
    told = get("/echo", *forged).told
    assert told["scheme"] == told["HTTP_X_FORWARDED_PROTO"] == "http"
    assert told["REMOTE_ADDR"] == told["HTTP_X_FORWARDED_FOR"] == told["HTTP_X_REAL_IP"] != "203.0.113.7"
    assert told["HTTP_HOST"] == "echo.test"
    for name in ("PROXY", "FORWARDED", "X_FORWARDED_HOST", "X_FORWARDED_PORT"):
        assert f"HTTP_{name}" not in told


def test_trusted_proxy_is_believed(host):
    headers = {"Host": "echo.test", "X-Forwarded-Proto": "https", "X-Forwarded-For": "198.51.100.1, 203.0.113.7",
               "X-Forwarded-Host": "shop.example.com:8443"}  # fmt: skip
    told = json.loads(host.check_output("python3 -c %s %s", READ, json.dumps(headers)))
    assert told["scheme"] == "https"
    assert told["REMOTE_ADDR"] == "203.0.113.7"
    assert told["HTTP_HOST"] == "shop.example.com:8443"
    assert "203.0.113.7" in host.check_output("tail -1 /var/log/nginx/access.log")


@pytest.mark.parametrize("name", ["other.test", "10.0.0.1", "localhost"])
def test_host_that_no_app_has_is_misdirected(name, get):
    assert get(host=name).status == 421


@pytest.mark.parametrize("path", ["/a//b", "//a", "/a/./b/../c", "/a%2Fb"])
def test_path_reaches_the_app(path, get):
    told = get(path).told
    assert told["REQUEST_URI"] == path
    assert told["PATH_INFO"] == {"/a/./b/../c": "/a/c", "/a%2Fb": "/a/b"}.get(path, path)


def test_http_0_9_gets_no_content(send):
    answer = send(b"GET /echo\r\n")
    assert b"PATH_INFO" not in answer.body


TYPES = {"module.mjs": "text/javascript", "app.webmanifest": "application/manifest+json", "notes.md": "text/markdown",
         "bundle.js.map": "application/json", "style.css": "text/css"}  # fmt: skip


@pytest.mark.parametrize("name", TYPES)
def test_static_file_has_its_type(name, get):
    answer = get(f"/static/{name}")
    assert answer.status == 200
    assert answer.headers["content-type"] == f"{TYPES[name]}; charset=utf-8"
    assert answer.headers["etag"]


def test_file_that_was_compressed_before_is_served(get):
    assert get("/static/script.js", "Accept-Encoding: gzip").headers["content-encoding"] == "gzip"
    assert get("/static/script.js").body == b"/* script.js */\n"
