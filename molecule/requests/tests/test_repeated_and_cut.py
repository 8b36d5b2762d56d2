"""Headers that a client sends several times, responses that end in the middle, files in other encodings."""

import pytest
from test_requests import Answer, get, send  # noqa: F401 (fixtures)

REPEATED = ["X-Forwarded-For: 203.0.113.1", "X-Forwarded-For: 203.0.113.2"]
# Says from the host itself, which is a trusted proxy, the headers of its arguments; prints what the app sees.
SAY = """
import http.client, sys
connection = http.client.HTTPConnection("127.0.0.1", timeout=20)
connection.putrequest("GET", "/echo", skip_host=True)
for line in ["Host: echo.test", *sys.argv[1:]]:
    connection.putheader(*line.split(": ", 1))
connection.endheaders()
print(connection.getresponse().read().decode())
"""


def test_cookies_in_several_headers_reach_the_app_as_one(get):  # noqa: F811
    told = get("/echo", "Cookie: a=1; b=2", "Accept: text/html", "Cookie: c=3").told
    assert told["HTTP_COOKIE"] == "a=1; b=2; c=3"


def test_no_cookie_is_no_header(get):  # noqa: F811
    assert "HTTP_COOKIE" not in get("/echo").told


def test_chain_of_addresses_in_several_headers_counts_as_one(host):
    found = Answer(b"HTTP/1.1 200 OK\r\n\r\n" + host.check_output("python3 -c %s %s %s", SAY, *REPEATED).encode()).told
    assert found["REMOTE_ADDR"] == found["HTTP_X_FORWARDED_FOR"] == "203.0.113.2"


def test_other_repeated_header_is_joined_or_on_debian_12_the_last_one(get, host):  # noqa: F811
    told = get("/echo", "Accept-Language: de", "X-Any: 1", "Accept-Language: en", "X-Any: 2").told
    found = told["HTTP_ACCEPT_LANGUAGE"], told["HTTP_X_ANY"]
    assert found == (("en", "2") if host.system_info.release.startswith("12") else ("de, en", "1, 2"))


@pytest.mark.parametrize("how", ["", "&crash=1"])
def test_response_with_a_length_that_is_cut_off_is_short_for_the_client(how, get):  # noqa: F811
    answer = get(f"/cut?sized=1{how}")
    assert (answer.status, answer.headers["content-length"], answer.body) == (200, "20", b"1234567890")
    assert not answer.complete


@pytest.mark.parametrize("how", ["a=1", "crash=1"])
def test_response_without_a_length_that_is_cut_off_looks_complete(how, get):  # noqa: F811
    """A limit of the protocol between nginx and uWSGI, see docs/requests.md: a nginx that knows better is welcome."""
    answer = get(f"/cut?{how}")
    assert (answer.status, answer.headers["transfer-encoding"], answer.body) == (200, "chunked", b"1234567890")
    assert answer.complete


@pytest.mark.parametrize(("accepted", "encoding"), [("br", "br"), ("gzip, br", "br"), ("gzip", "gzip")])
def test_file_is_sent_in_an_encoding_that_was_made_before(accepted, encoding, get):  # noqa: F811
    assert get("/static/script.js", f"Accept-Encoding: {accepted}").headers["content-encoding"] == encoding


def test_other_text_is_compressed_with_gzip_only(get):  # noqa: F811
    assert "content-encoding" not in get("/static/style.css", "Accept-Encoding: br").headers
