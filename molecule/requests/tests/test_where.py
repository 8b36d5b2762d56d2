"""Apps that share a domain, each at a path of its own; last of all, for they move."""

import socket
import threading
import time

import pytest
from test_requests import LOGGED, exchange


def ask(address, target, *lines, method="GET", body=b""):
    head = [f"{method} {target} HTTP/1.1", "Host: echo.test", "Connection: close", f"Content-Length: {len(body)}"]
    return exchange(address, "\r\n".join([*head, *lines, "", ""]).encode("latin-1") + body)


@pytest.fixture
def get(host, addresses):
    return lambda target, *lines, **more: ask((addresses[host.backend.name], 80), target, *lines, **more)


def logged(host, app, answer):
    """Path and status of a request, as an app's log has them."""
    words = host.check_output(LOGGED.format(app, f"id={answer.headers['x-request-id']}")).split()
    return words[3], words[4]


@pytest.mark.parametrize(
    ("target", "app", "script", "path"),
    [
        ("/shopping/x", "echo", "", "/shopping/x"),
        ("/Shop/x", "echo", "", "/Shop/x"),
        ("/shop/", "shop", "/shop", "/"),
        ("/shop/a%20b//c%2Fd?q=1", "shop", "/shop", "/a b//c/d"),
        ("/shop/a%0Ab", "shop", "/shop", "/a\nb"),
        ("/%73hop/x/../y", "shop", "/shop", "/y"),
        ("/shop/shop/desk/", "shop", "/shop", "/shop/desk/"),
        ("/shop/desk/", "desk", "/shop/desk", "/"),
        ("/shop/desk/x", "desk", "/shop/desk", "/x"),
        ("/shop/desktop", "shop", "/shop", "/desktop"),
        ("/shop/../desk/", "echo", "", "/desk/"),
    ],
)
def test_longest_path_gets_the_request_with_the_path_in_script_name(target, app, script, path, get, host):
    answer = get(target, "X-Forwarded-Prefix: /evil")
    told = answer.told
    assert (told["SCRIPT_NAME"], told["PATH_INFO"], told["REQUEST_URI"]) == (script, path, target)
    assert "HTTP_X_FORWARDED_PREFIX" not in told
    assert logged(host, app, answer) == (target.partition("?")[0], "200")


def test_path_without_its_slash_is_redirected_with_its_query(get):
    for path in ("/shop", "/shop/desk"):
        answer = get(f"{path}?a=1", method="POST", body=b"x")
        assert (answer.status, answer.headers["location"]) == (308, f"http://echo.test{path}/?a=1")


def test_files_of_an_app_are_below_its_path(get):
    style = get("/shop/static/style.css")
    assert (style.status, style.headers["cache-control"]) == (200, "public, max-age=60")
    assert style.body == get("/static/style.css").body
    assert get("/shop/static/none.css").status == get("/shop/static/.secret").status == 404
    assert get("/shop/upload?name=cat.txt", method="POST", body=b"meow").status == 201
    assert get("/shop/media/cat.txt").body == b"meow"
    assert get("/media/cat.txt").status == 404


def test_protected_files_are_found_by_the_app_alone(get):
    for name in ("/private-files/report.txt", "/shop/private-files/report.txt"):
        assert get(f"/shop/private?file={name}").body == b"for you alone\n"
    assert get("/private?file=/private-files/report.txt").body == b"for you alone\n"
    # Of another app on the domain: by no name.
    assert get("/private?file=/shop/private-files/report.txt").status == 404
    assert get("/shop/private-files/report.txt").status == 404


def test_limits_and_errors_are_those_of_the_app(get, host):
    answer = get("/shop/echo", method="POST", body=b"x" * 2000)
    assert answer.status == 413
    assert answer.headers["x-frame-options"] == "SAMEORIGIN"
    assert logged(host, "shop", answer) == ("/shop/echo", "413")
    assert get("/echo", method="POST", body=b"x" * 2000).status == 200
    answer = get("/shop/crash", "Accept: application/json")
    assert answer.told["status"] == 502
    assert logged(host, "shop", answer) == ("/shop/crash", "502")


def test_stream_of_an_app_below_a_path_arrives_piece_by_piece(host, addresses):
    with socket.create_connection((addresses[host.backend.name], 80), timeout=20) as connection:
        connection.sendall(b"GET /shop/events HTTP/1.1\r\nHost: echo.test\r\nConnection: close\r\n\r\n")
        begun, moments = time.monotonic(), []
        while piece := connection.recv(65536):
            moments += [time.monotonic() - begun] * piece.count(b"data:")
    assert len(moments) == 3
    assert moments[0] < 1 < moments[1] < moments[2]


class Clients:
    """Clients of one path, until the end."""

    def __init__(self, address, target, wanted):
        self.address, self.target, self.wanted = address, target, wanted
        self.answered, self.wrong, self.stop = 0, [], threading.Event()
        self.threads = [threading.Thread(target=self.ask) for _number in range(2)]

    def ask(self):
        while not self.stop.wait(0.01):
            try:
                answer = ask(self.address, self.target)
                found = (answer.status, answer.told["SCRIPT_NAME"])
            except Exception as error:
                found = (0, repr(error))
            self.answered += 1
            if found not in self.wanted:
                self.wrong.append((time.time(), *found))


def test_apps_that_change_places_lose_no_request(fleet, addresses, playbook, apps):
    # desk gets the domain, echo a path. Whoever asks for a path gets one of them at any time; shop stays where it is.
    moved = [
        apps["echo"] | {"path": "/old", "redirect_domains": []},
        apps["desk"] | {"path": "/", "redirect_domains": apps["echo"]["redirect_domains"]},
        apps["shop"],
    ]
    clients = []
    for host in fleet:
        address = (addresses[host.backend.name], 80)
        clients += [
            Clients(address, "/shop/x", {(200, "/shop")}),
            Clients(address, "/old/x", {(200, ""), (200, "/old")}),
            Clients(address, "/x", {(200, "")}),
        ]
    pids = [host.check_output("pgrep -u echo,desk,shop | sort") for host in fleet]
    for one in clients:
        for thread in one.threads:
            thread.start()
    try:
        run = playbook("deploy", "-e", "app=echo,desk", variables={"flask_apps": moved})
    finally:
        for one in clients:
            one.stop.set()
        for one in clients:
            for thread in one.threads:
                thread.join()
    assert not run.failed, run.error
    assert [(one.target, one.wrong[:3]) for one in clients if one.wrong] == []
    assert min(one.answered for one in clients) > 50
    for host, before in zip(fleet, pids):
        assert host.check_output("pgrep -u echo,desk,shop | sort") == before
        assert sorted(host.file("/etc/nginx/flask_apps").listdir()) == ["desk+echo.conf", "desk+shop.conf"]
        address = (addresses[host.backend.name], 80)
        assert ask(address, "/old/x").told["SCRIPT_NAME"] == "/old"
        assert ask(address, "/shop/desk/").told["PATH_INFO"] == "/desk/"
