"""What reaches an app by HTTP/2, from a client that speaks it (curl)."""

import json
import subprocess

import pytest

CURL = ["curl", "--silent", "--http2", "--insecure", "--noproxy", "*", "--max-time", "120",
        "--write-out", "\\n%{http_version} %{http_code}"]  # fmt: skip


@pytest.fixture
def curl(address):
    """Send a request; returns the version of HTTP, the status and the body."""

    def ask(target, *options, sent=None):
        where = ["--resolve", f"shop.test:443:{address}", f"https://shop.test{target}"]
        done = subprocess.run([*CURL, *options, *where], input=sent, capture_output=True, check=False)
        body, _line, told = done.stdout.decode("latin-1").rpartition("\n")
        return (*told.split(), body)

    return ask


def test_headers_of_a_request_by_http_2_reach_the_app(curl):
    headers = ["Cookie: a=1", "Cookie: b=2", "Host: shop.test:8443", "X-Forwarded-Proto: http", "TE: trailers"]
    options = [part for line in headers for part in ("--header", line)]
    version, status, body = curl("/a//b%2Fc?q=%20", *options)
    assert (version, status) == ("2", "200")
    told = json.loads(body)
    assert (told["SERVER_PROTOCOL"], told["HTTP_HOST"], told["scheme"]) == ("HTTP/2.0", "shop.test:8443", "https")
    assert (told["HTTP_COOKIE"], told["PATH_INFO"], told["REQUEST_URI"]) == ("a=1; b=2", "/a//b/c", "/a//b%2Fc?q=%20")
    assert "HTTP_TE" not in told


@pytest.mark.parametrize("options", [["--data-binary", "@-"], ["--upload-file", "-"]], ids=["sized", "unsized"])
def test_body_by_http_2_reaches_the_app(curl, options):
    version, status, body = curl("/echo", *options, sent=b"x" * 900_000)
    assert (version, status, json.loads(body)["length"]) == ("2", "200", 900_000)


@pytest.mark.parametrize("expect", ["Expect: 100-continue", "X-Any: thing"])
def test_answer_before_the_body_is_read_reaches_a_client_by_http_2(curl, expect):
    for _time in range(5):
        version, status, body = curl("/early", "--header", expect, "--data-binary", "@-", sent=b"x" * 900_000)
        assert (version, status, body) == ("2", "401", "early")


@pytest.mark.parametrize("options", [["--data-binary", "@-"], ["--upload-file", "-"]], ids=["sized", "unsized"])
def test_body_beyond_the_limit_is_refused_by_http_2(curl, options):
    version, status, body = curl("/echo", *options, "--header", "Accept: application/json", sent=b"x" * 17_000_000)
    assert (version, status, json.loads(body)["error"]) == ("2", "413", "The request body is too large.")


def test_request_for_a_name_of_another_app_is_misdirected_by_http_2(curl):
    assert curl("/echo", "--header", "Host: nobody.test")[:2] == ("2", "421")
