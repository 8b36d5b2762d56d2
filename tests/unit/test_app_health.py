"""Health checks through nginx: which answer is right, and which instance several checks at once reach."""

import http.server
import threading
import time

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import web


class Site:
    """A web server; `answers` tells what it answers: a status and a generation for the question of this number."""

    def __init__(self):
        self.hosts: set[str] = set()
        self.paths: set[str] = set()
        self.lock, self.number, self.now, self.most = threading.Lock(), 0, 0, 0
        self.answers = lambda number: (200, "new")
        self.delay = 0.02  # seconds
        self.leads: dict[str, str] = {}  # from a path to where it redirects
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                with site.lock:
                    number, site.number, site.now = site.number, site.number + 1, site.now + 1
                    site.most = max(site.most, site.now)
                    site.hosts.add(self.headers["Host"])
                    site.paths.add(self.path)
                time.sleep(site.delay)
                status, generation = site.answers(number)
                self.send_response(status if self.path not in site.leads else 302)
                if self.path in site.leads:
                    self.send_header("Location", site.leads[self.path])
                if generation:
                    self.send_header("X-Vassal", generation)
                self.send_header("Content-Length", "9")
                self.end_headers()
                self.wfile.write(b"all\n is it")
                with site.lock:
                    site.now -= 1

            def log_message(self, *_arguments):
                """Say nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def site():
    made = Site()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def health(site):
    def ask(**more):
        arguments = {"port": site.port, "host": "shop.example.com", "path": "/healthz", "status": 200}
        fault, checks = web.wait(**{**arguments, "generation": "new", "at_once": 16, "seconds": 1, **more})
        return {"failed": bool(fault), "msg": fault, "checks": checks}

    return ask


def test_healthy_response_needs_one_request(health, site):
    assert health() == {"failed": False, "msg": "", "checks": 1}
    assert (site.hosts, site.paths, site.most) == ({"shop.example.com"}, {"/healthz"}, 1)


def test_wrong_instance_makes_several_requests_run_at_once(health, site):
    site.answers = lambda number: (200, "new" if number == 20 else "old")
    answer = health(seconds=10)
    assert not answer["failed"]
    assert answer["checks"] == 1 + 2 * 16
    assert 4 < site.most <= 16


def test_requests_at_once_stay_within_the_size_of_the_app(health, site):
    site.answers = lambda number: (200, "new" if number == 5 else "old")
    answer = health(seconds=10, at_once=2)
    assert answer["checks"] == 1 + 3 * 2
    assert site.most == 2


def test_any_instance_counts_when_no_generation_is_given(health, site):
    site.answers = lambda number: (200, "")
    assert not health(generation="")["failed"]


def test_health_check_waits_for_a_reload_of_nginx(health, site):
    site.answers = lambda number: (200, "new") if number > 3 else (404, "")
    assert not health()["failed"]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (
            (500, "new"),
            "Clients of shop.example.com/healthz get the status 500 instead of 200: all is i (checked for 1 s).",
        ),
        ((200, "old"), "are answered by another instance than the one that was started"),
        ((200, ""), "are answered by another instance than the one that was started"),
    ],
)
def test_wrong_status_is_reported_in_a_sentence(health, site, answer, told):
    site.answers = lambda number: answer
    found = health()
    assert found["failed"]
    assert told in found["msg"]


def test_missing_response_is_reported_in_a_sentence(health, site):
    found = health(port=1)
    assert found["failed"]
    assert "get no answer (" in found["msg"]
    assert "refused" in found["msg"]


def test_response_that_takes_too_long_fails_the_health_check(health, site):
    site.delay = 3.0
    found = health(patience=1)
    assert found["failed"]
    assert "get no answer (timed out)" in found["msg"]


def test_redirects_within_the_site_are_followed(health, site):
    site.leads = {"/healthz": "http://shop.example.com/login", "/login": "/login/?a=1"}
    assert not health()["failed"]
    assert site.paths == {"/healthz", "/login", "/login/?a=1"}


def test_redirect_to_another_site_is_an_answer_like_any_other(health, site):
    site.leads = {"/healthz": "https://shop.example.com/healthz"}
    assert "get the status 302 instead of 200:" in health()["msg"]
    assert site.paths == {"/healthz"}


def test_page_to_which_the_site_leads_must_work(health, site):
    site.leads = {"/healthz": "/login"}
    site.answers = lambda number: (503, "new")
    assert "get the status 503 instead of 200 at /login, where it leads to: all is i" in health()["msg"]
