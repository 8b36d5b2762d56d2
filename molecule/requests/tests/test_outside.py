"""What a client from outside may try: framing, statuses without a body, parts of files, many headers, going away."""

import socket
import time

import pytest
from test_requests import Answer, exchange, get, send  # noqa: F401 (fixtures)

DATA = "/srv/flask_apps/echo/shared"
FOREIGN = "/etc/nginx/sites-enabled/foreign.conf"
SITE = """server {
    listen 80 default_server;
    merge_slashes off;
    large_client_header_buffers 3 16k;
    return 200 "foreign";
}
"""


@pytest.fixture
def post(send):  # noqa: F811
    """Send a POST request with headers given as lines."""

    def ask(*lines, body=b"", target="/echo", version="HTTP/1.1"):
        head = [f"POST {target} {version}", "Host: echo.test", "Connection: close", *lines, "", ""]
        return send("\r\n".join(head).encode("latin-1") + body)

    return ask


@pytest.mark.usefixtures("half_open")
def test_many_headers_all_reach_the_app(get):  # noqa: F811
    told = get("/echo", *(f"X-Many-{number}: {number}" for number in range(900))).told
    assert [told.get(f"HTTP_X_MANY_{number}") for number in range(900)] == [str(number) for number in range(900)]


def test_headers_that_do_not_fit_into_a_request_for_uwsgi_are_refused_by_their_name(get):  # noqa: F811
    big = "x" * 16_300
    answer = get(f"/echo?{big}", f"X-A: {big}", f"X-B: {big}", "Accept: application/json")
    assert (answer.status, answer.told["error"]) == (431, "The request headers are too large.")
    assert answer.told["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(("lines", "body"), [
    (["Transfer-Encoding: chunked"], b"3;name=value\r\nabc\r\n2\r\nde\r\n0\r\nX-Trailer: yes\r\n\r\n"),
    (["Content-Length: 5", "Expect: 100-continue"], b"abcde"),
    (["Content-Length: 5", 'Content-Type: multipart/form-data; boundary="a b"'], b"abcde"),
])  # fmt: skip
def test_body_arrives_however_it_is_framed(lines, body, post, addresses, host):
    if "Expect: 100-continue" in lines:  # the client waits to be told
        with socket.create_connection((addresses[host.backend.name], 80), timeout=60) as connection:
            head = ["POST /echo HTTP/1.1", "Host: echo.test", "Connection: close", *lines, "", ""]
            connection.sendall("\r\n".join(head).encode())
            assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(body)
            raw = b""
            while piece := connection.recv(65536):
                raw += piece
        told = Answer(raw).told
    else:
        told = post(*lines, body=body).told
    assert (told["length"], told["CONTENT_LENGTH"]) == (5, "5")
    assert told["CONTENT_TYPE"] == ('multipart/form-data; boundary="a b"' if "multipart" in lines[-1] else "")
    assert not [name for name in told if "TRAILER" in name or "EXPECT" in name]


AMBIGUOUS = [
    (["Content-Length: 3", "Transfer-Encoding: chunked"], 400), (["Content-Length: 3", "Content-Length: 3"], 400),
    (["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], 400), (["Transfer-Encoding: identity"], 501),
    (["Transfer-Encoding: gzip, chunked"], 501), (["Content-Length: +3"], 400), (["Content-Length : 3"], 400),
    (["X-A: 1", " folded"], 400), (["Host: other.test"], 400),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "status"), AMBIGUOUS, ids=str)
def test_request_that_two_servers_might_read_differently_is_refused(lines, status, post):
    assert post(*lines, body=b"3\r\nabc\r\n0\r\n\r\n").status == status


@pytest.mark.parametrize(("target", "status"), [("/a%00b", 400), ("/a%zz", 400), ("/../x", 400), ("/a/%2e%2e/b", 200)])
def test_target_is_refused_or_resolved(target, status, get):  # noqa: F811
    answer = get(target)
    assert answer.status == status
    if status == 200:
        assert (answer.told["PATH_INFO"], answer.told["REQUEST_URI"]) == ("/b", target)


def test_header_names_with_other_signs_than_letters_digits_and_hyphens_do_not_reach_the_app(get):  # noqa: F811
    told = get("/echo", "X_Forwarded_For: 1", "X.Real: 2", "X-Good-1: 3").told
    assert told["HTTP_X_GOOD_1"] == "3"
    assert not [name for name, value in told.items() if name.startswith("HTTP_X") and value in ("1", "2")]


@pytest.mark.parametrize("name", ["echo.test.", "ECHO.test.:8121"])
def test_dot_at_the_end_of_the_host_changes_nothing(name, get):  # noqa: F811
    assert get(host=name).told["HTTP_HOST"] == name.lower().replace("test.", "test")


@pytest.mark.parametrize("request_line", ["GET /without_body?status=204%20No%20Content", "HEAD /echo",
                                          "GET /without_body?status=304%20Not%20Modified"])  # fmt: skip
def test_response_without_a_body_leaves_the_connection_in_order(request_line, send):  # noqa: F811
    answer = send(
        f"{request_line} HTTP/1.1\r\nHost: echo.test\r\n\r\n"
        "GET /worker HTTP/1.1\r\nHost: echo.test\r\nConnection: close\r\n\r\n".encode()
    )  # two requests at once
    assert answer.status in (200, 204, 304)
    raw = answer.body if "transfer-encoding" not in answer.headers else b"HTTP/1.1 200"
    assert raw.startswith(b"HTTP/1.1 200")
    assert b"no body" not in raw


@pytest.mark.parametrize("target", ["/static/style.css", "/media/part.txt", "/private?file=/private-files/report.txt"])
def test_part_of_a_file_is_sent_and_no_header_twice(target, get, send):  # noqa: F811
    send(b"POST /upload?name=part.txt HTTP/1.1\r\nHost: echo.test\r\nConnection: close\r\n"
         b"Content-Length: 20\r\n\r\n" + b"y" * 20)  # fmt: skip
    whole = get(target)
    part = get(target, "Range: bytes=2-4")
    assert (part.status, part.body) == (206, whole.body[2:5])
    none = get(target, "Range: bytes=5000-")
    assert (none.status, none.headers["content-range"]) == (416, f"bytes */{len(whole.body)}")
    names = [name.lower() for name, _value in none.pairs]
    assert sorted(names) == sorted(set(names))
    assert {"x-request-id", "x-content-type-options", "x-frame-options"} <= set(names)


def test_what_is_no_response_is_a_500_without_headers_of_a_client(get):  # noqa: F811
    assert get("/not_bytes").status == 500
    answer = get("/headers?set=X-A:b%0D%0AX-Injected:yes")
    assert answer.status == 500
    assert "x-injected" not in answer.headers


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_stream_ends_when_its_client_has_gone(method, host, addresses):
    with socket.create_connection((addresses[host.backend.name], 80), timeout=30) as connection:
        connection.sendall(f"{method} /endless?mark=over HTTP/1.1\r\nHost: echo.test\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
    for _try in range(100):
        if host.run(f"test -e {DATA}/over").rc == 0:
            break
        time.sleep(0.1)
    else:
        pytest.fail("the stream goes on")


def test_default_server_of_somebody_else_gets_only_what_no_app_has(host, get):  # noqa: F811
    host.check_output(f"echo %s > {FOREIGN}", SITE)
    try:
        host.check_output("nginx -t -q && systemctl reload nginx")
        for _try in range(100):
            if get(host="nobody.test").body == b"foreign":
                break
            time.sleep(0.1)
        else:
            pytest.fail("the other site does not answer")
        told = get(f"/a//b?{'q' * 15_000}").told
        assert (told["PATH_INFO"], len(told["QUERY_STRING"])) == ("/a//b", 15_000)
    finally:
        host.check_output(f"rm {FOREIGN} && systemctl reload nginx")
    for _try in range(100):
        if get(host="nobody.test").status == 421:
            break
        time.sleep(0.1)
    else:
        pytest.fail("the other site still answers")
