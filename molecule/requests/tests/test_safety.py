"""What the front adds and refuses for the safety of browsers and apps: headers, hidden files, methods."""

import re

import pytest
from test_requests import exchange

COMMON = {
    "x-content-type-options": ["nosniff"],
    "x-frame-options": ["SAMEORIGIN"],
    "referrer-policy": ["strict-origin-when-cross-origin"],
}


@pytest.fixture
def ask(host, addresses):
    """Send a request; return its status, and its headers with all their values."""

    def send(target, domain="echo.test", method="GET", length=0):
        lines = [f"{method} {target} HTTP/1.1", f"Host: {domain}", "Connection: close", f"Content-Length: {length}"]
        answer = exchange((addresses[host.backend.name], 80), "\r\n".join([*lines, "", ""]).encode())
        found: dict[str, list[str]] = {}
        for name, value in answer.pairs:
            found.setdefault(name.lower(), []).append(value)
        return answer.status, found

    return send


def safety(found):
    return {name: found.get(name, []) for name in COMMON}


@pytest.mark.parametrize(
    ("target", "more", "status"),
    [
        ("/echo", {}, 200),
        ("/events", {}, 200),
        ("/static/style.css", {}, 200),
        ("/assets/app.3f2a.js", {}, 200),  # has its own headers
        ("/static/nothing.css", {}, 404),
        ("/fail", {}, 500),
        ("/echo", {"length": 20 << 20, "method": "POST"}, 413),
        ("/a%00", {}, 400),
        ("/", {"domain": "nobody.test"}, 421),
        ("/private?file=/private-files/report.txt", {}, 200),
        ("/media/nothing", {}, 404),
        ("/x", {"domain": "www.echo.test"}, 308),
        ("/shop", {}, 308),
    ],
)
def test_every_response_has_each_header_once(ask, target, more, status):
    found, headers = ask(target, **more)
    assert found == status
    assert safety(headers) == COMMON


@pytest.mark.parametrize("file", ["", "&set=X-Accel-Redirect:/private-files/report.txt"])
def test_what_the_app_sets_is_sent_as_it_is_and_once(ask, file):
    ask("/private?file=/private-files/report.txt")  # makes the file
    status, headers = ask(f"/headers?set=X-Frame-Options:DENY&set=Referrer-Policy:no-referrer{file}")
    assert status == 200
    assert safety(headers) == {**COMMON, "x-frame-options": ["DENY"], "referrer-policy": ["no-referrer"]}


def test_an_app_can_have_other_headers(ask):
    status, headers = ask("/static/style.css", domain="limited.test")
    assert status == 200
    assert headers["permissions-policy"] == ['camera=(), geolocation=(self "https://a.test")']
    assert safety(headers) == {**COMMON, "x-frame-options": []}


@pytest.mark.parametrize("target", [
    "/static/.env.example", "/static/.hidden/page.html", "/static/%2eenv.example", "/static/x/../.env.example",
    "/static/.well-known/../.env.example",
])  # fmt: skip
def test_hidden_file_among_static_files_is_not_served(ask, host, target):
    assert ask(target)[0] == 404
    host.check_output("ls /srv/flask_apps/echo/current/src/static/.env.example")


def test_well_known_file_is_served(ask):
    assert ask("/static/.well-known/known.txt")[0] == 200


@pytest.mark.parametrize("method", ["TRACE", "CONNECT"])
def test_method_for_proxies_is_refused(ask, method):
    status, headers = ask("/echo", method=method)
    assert status in (400, 405)
    assert not re.search("x-emperor|x-vassal", " ".join(headers))
