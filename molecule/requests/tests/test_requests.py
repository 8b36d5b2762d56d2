"""Requests through nginx, as raw as a client can send them: what the app sees of them, and what comes back."""

import hashlib
import json
import os
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

# nginx writes its log once a second, each of its processes for itself, and the line of a request when it has closed the
# connection: up to 5 s later, when it did not read all that the client sent.
LOGGED = "for _try in $(seq 200); do grep -F -- {1} /var/log/flask_apps/{0}/access.log && exit; sleep 0.1; done; exit 1"
READ = """
import http.client, json, sys
connection = http.client.HTTPConnection("127.0.0.1", timeout=20)
connection.request("GET", "/echo", headers=json.loads(sys.argv[1]))
print(connection.getresponse().read().decode())
"""


class Answer:
    """A response: its status, its headers by lower-case name, its body, and whether it came to an end."""

    def __init__(self, raw):
        head, _separator, body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split()[1]) if first.startswith("HTTP/") else 0
        self.pairs = [tuple(line.split(": ", 1)) for line in lines if ": " in line]
        self.headers = {name.lower(): value for name, value in self.pairs}
        if self.headers.get("transfer-encoding") == "chunked":
            self.complete = body.endswith(b"0\r\n\r\n")
            body = b"".join(pieces(body))
        else:
            self.complete = len(body) == int(self.headers.get("content-length", len(body)))
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


def exchange(address, raw, *later, timeout=60):
    """Send bytes, and more of them after a while each, and return the response."""
    with socket.create_connection(address, timeout=timeout) as connection:
        connection.sendall(raw)
        for number, piece in enumerate(later):
            time.sleep(0.1 * (number > 0))
            connection.sendall(piece)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return Answer(answer)


@pytest.fixture
def send(host, addresses):
    """Send bytes to the host and return its response."""
    return partial(exchange, (addresses[host.backend.name], 80))


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
    assert "203.0.113.7" in host.check_output(LOGGED.format("echo", f"id={told['HTTP_X_REQUEST_ID']}"))


def test_request_id_is_in_the_response_the_environment_and_the_log(get, host):
    answer = get("/echo", "X-Request-ID: forged")
    assert answer.headers["x-request-id"] == answer.told["HTTP_X_REQUEST_ID"] != "forged"
    host.check_output(LOGGED.format("echo", f"id={answer.told['HTTP_X_REQUEST_ID']}"))


def test_request_id_of_a_trusted_proxy_is_kept(host):
    headers = json.dumps({"Host": "echo.test", "X-Request-ID": "of-the-proxy.1"})
    assert json.loads(host.check_output("python3 -c %s %s", READ, headers))["HTTP_X_REQUEST_ID"] == "of-the-proxy.1"


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


def test_file_whose_name_changes_with_its_content_is_kept_by_clients(get):
    assert get("/assets/app.3f2a.js").headers["cache-control"] == "public, max-age=31536000, immutable"
    assert "cache-control" not in get("/assets/none.js").headers
    assert "cache-control" not in get("/static/script.js").headers


@pytest.fixture
def post(send):
    """Send a POST request with a body of this many bytes, at once or in this many pieces with pauses between them."""

    def ask(target, size, host="echo.test", raw=send, pieces=1):
        head = [f"POST {target} HTTP/1.1", f"Host: {host}", "Connection: close", f"Content-Length: {size}", "", ""]
        body = b"x" * size
        step = size // pieces
        return raw("\r\n".join(head).encode(), *(body[start : start + step] for start in range(0, size, step)))

    return ask


# Targets that answer before they have read the body, with the status and the start of the body.
EARLY = {"/early": (401, b"early"), "/early?status=413%20Too%20large": (413, b"early"), "/empty": (204, b""),
         "/unsized": (413, b"xxxxxxxxxx"), "/unsized?size=300000": (413, b"x" * 300_000),
         "/file": (200, b'"""A WSGI app'), "/fail": (500, b"Internal Server Error")}  # fmt: skip


@pytest.mark.parametrize(("size", "times"), [(64_000, 50), (1_000_000, 50), (16_000_000, 8)])
@pytest.mark.parametrize("target", EARLY)
def test_answer_before_the_body_is_read_reaches_the_client(target, size, times, post):
    status, start = EARLY[target]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _number: post(target, size), range(times)))
    assert [answer.status for answer in answers] == [status] * times
    assert all(answer.body.startswith(start) for answer in answers)


def test_answer_before_the_body_is_read_reaches_a_slow_client(post):
    assert [post("/early", 1_000_000, pieces=10).status for _time in range(3)] == [401] * 3


@pytest.mark.parametrize("target", ["/leave", "/leave_late", "/fail", "/fail?late=1"])
def test_exception_in_the_app_is_a_500_and_ends_no_worker(target, get, host):
    before = host.check_output("pgrep -u echo uwsgi")
    answers = [get(target) for _time in range(8)]
    assert [answer.status for answer in answers] == [500] * 8
    assert all("x-late" not in answer.headers for answer in answers)
    assert host.check_output("pgrep -u echo uwsgi") == before


def test_crash_ends_at_most_two_workers(get, host):
    before = set(host.check_output("pgrep -u echo uwsgi").split())
    answer = get("/crash", "Accept: application/json")
    assert answer.status == 502
    assert answer.told == {"status": 502, "error": "The application ended without an answer.",
                           "request_id": answer.headers["x-request-id"]}  # fmt: skip
    deadline = time.monotonic() + 10
    while len(after := set(host.check_output("pgrep -u echo uwsgi").split())) < len(before):
        assert time.monotonic() < deadline
    assert len(before - after) <= 2
    assert get().status == 200


def arrivals(address, target):
    """At which second each piece of a response arrives."""
    with socket.create_connection((address, 80), timeout=30) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: echo.test\r\nConnection: close\r\n\r\n".encode())
        began = time.monotonic()
        while piece := connection.recv(65536):
            for number in re.findall(rb"data: (\d)", piece):
                yield int(number), time.monotonic() - began


@pytest.mark.parametrize("target", ["/events", "/events?type=application/json"])
def test_stream_arrives_piece_by_piece(target, host, addresses):
    found = dict(arrivals(addresses[host.backend.name], target))
    assert found[2] - found[0] > 1.5


def test_uploaded_file_is_served_and_cannot_run(post, get):
    assert post("/upload?name=page.html", 100).status == 201
    answer = get("/media/page.html")
    assert (answer.status, answer.body) == (200, b"x" * 100)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]


def test_link_and_hidden_file_among_uploads_are_not_served(post, get):
    assert get("/link").status == 200
    assert get("/media/link.txt").status == 403
    assert post("/upload?name=.hidden", 10).status == 201
    assert get("/media/.hidden").status == 404


def test_file_of_the_data_is_delivered_only_when_the_app_says_so(get):
    answer = get("/private?file=/private-files/report.txt")
    assert (answer.status, answer.body) == (200, b"for you alone\n")
    assert get("/private-files/report.txt").status == 404


def test_data_stays_closed_to_other_accounts(host):
    assert (
        host.run("setpriv --reuid=limited --regid=limited --clear-groups cat /srv/flask_apps/echo/shared/media").rc != 0
    )
    assert host.run("setpriv --reuid=www-data --regid=www-data --clear-groups ls /srv/flask_apps/echo/shared").rc != 0


@pytest.mark.parametrize("name", ["www.echo.test", "old.echo.test:8121"])
def test_other_names_are_redirected_with_path_and_query(name, get):
    answer = get("/a//b?c=%20d", host=name)
    port = ":8121" if ":" in name else ""
    assert (answer.status, answer.headers["location"]) == (308, f"http://echo.test{port}/a//b?c=%20d")


def test_client_beyond_its_rate_gets_429(get):
    time.sleep(4)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _number: get("/worker", host="limited.test"), range(12)))
    statuses = [answer.status for answer in answers]
    assert statuses.count(200) in (2, 3, 4, 5)
    refused = [answer for answer in answers if answer.status == 429]
    assert len(refused) == 12 - statuses.count(200)
    assert {answer.headers["retry-after"] for answer in refused} == {"1"}


def test_client_beyond_its_requests_at_a_time_gets_429(get):
    time.sleep(4)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _number: get("/worker?seconds=3", host="limited.test"), range(4)))
    assert sorted(answer.status for answer in answers) == [200, 200, 429, 429]


def test_request_that_takes_too_long_is_a_504_or_502_with_its_request_id(get):
    time.sleep(4)
    answer = get("/worker?seconds=25", host="limited.test")
    assert answer.status in (502, 504)
    assert answer.headers["x-request-id"].encode() in answer.body


def test_body_beyond_the_limit_is_refused_in_plain_words(post):
    answer = post("/echo", 18_000_000)
    assert answer.status == 413
    assert b"The request body is too large." in answer.body


def test_client_that_leaves_during_an_upload_leaves_no_file(host, addresses):
    def kept(files):
        found = None
        for _try in range(100):
            if found == files:
                break
            time.sleep(0.1)
            found = int(host.run("ls -l /proc/*/fd | grep -c /var/lib/nginx/body").stdout)
        return found

    with socket.create_connection((addresses[host.backend.name], 80), timeout=30) as connection:
        connection.sendall(
            b"POST /echo HTTP/1.1\r\nHost: echo.test\r\nContent-Length: 9000000\r\n\r\n" + b"x" * 5_000_000
        )
        assert kept(1) == 1
    assert kept(0) == 0


def test_journal_of_the_app_shows_nothing_of_the_roles_hooks(host):
    words = host.check_output("journalctl --identifier=echo --output=cat")
    assert "spawned uWSGI worker 1" in words
    assert "callret" not in words
    assert "hook" not in words
