"""Waiting for a health check that passes: until it can never do so."""

import time
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import uwsgi_client
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal import health, timing

APP: Any = SimpleNamespace(
    params={"start_timeout": 60, "health_path": "/", "health_status": 200, "health_host": "shop.test"}, name="shop"
)


@pytest.fixture
def answers(monkeypatch):
    """Let the app answer with these statuses, the last of them from then on; of this generation or another one."""
    monkeypatch.setattr(timing, "PAUSE", 0)
    checks: list[int] = []

    def give(*statuses, generation="new"):
        def request(*_rest, **_more):
            status = statuses[min(len(checks), len(statuses) - 1)]
            checks.append(status)
            if status is None:
                raise TimeoutError("timed out")
            return uwsgi_client.Response(f"HTTP/1.1 {status} X\r\nX-Vassal: {generation}\r\n\r\n".encode())

        monkeypatch.setattr(uwsgi_client, "request", request)
        return checks

    return give


@pytest.mark.parametrize("status", [302, 401, 403, 405])
def test_status_that_waiting_does_not_change_ends_the_waiting(status, answers):
    checks = answers(503, 302, 503, status)
    with pytest.raises(health.Unhealthy, match=rf"^it answers / with status {status} instead of 200 "):
        health.wait(APP, "app.sock", "new", seconds=60)
    assert len(checks) == 3 + health.SURE


def test_redirect_of_an_app_that_still_starts_is_waited_for(answers):
    checks = answers(*[302] * (health.SURE - 1), 503, *[302] * (health.SURE - 1), 200)
    health.wait(APP, "app.sock", "new", seconds=60)
    assert len(checks) == 2 * health.SURE


@pytest.mark.parametrize(("status", "generation"), [(404, "new"), (503, "new"), (302, "old")])
def test_status_that_may_change_is_waited_for(status, generation, answers):
    checks = answers(status, generation=generation)
    began = time.monotonic()
    with pytest.raises(health.Unhealthy, match=r"^after 0 s it answers"):
        health.wait(APP, "app.sock", "new", seconds=0.3)
    assert time.monotonic() - began >= 0.3
    assert len(checks) > health.SURE


@pytest.mark.parametrize("hopeless", [None, lambda: True])
def test_wrong_answer_of_before_is_told_where_the_last_check_timed_out(hopeless, answers):
    answers(500, None)
    with pytest.raises(health.Unhealthy, match=r"^after 0 s it answers / with status 500 instead of 200"):
        health.wait(APP, "app.sock", "new", 0.3, hopeless)


@pytest.fixture
def pages(monkeypatch):
    """Let the app answer with these: a status, or where a path leads to. Gives the paths asked for, with the scheme."""
    monkeypatch.setattr(timing, "PAUSE", 0)
    asked: list[str] = []

    def give(found):
        def request(_sock, path, _host, timeout, script_name="", scheme="http"):
            asked.append(f"{scheme} {path}")
            answer = found[path]
            status, location = (answer, "") if isinstance(answer, int) else (302, answer)
            head = f"HTTP/1.1 {status} X\r\nX-Vassal: new\r\nLocation: {location}\r\n\r\n"
            return uwsgi_client.Response(head.encode())

        monkeypatch.setattr(uwsgi_client, "request", request)
        return asked

    return give


def app(**params):
    return SimpleNamespace(params={**APP.params, **params}, name="shop")


def test_redirects_within_the_app_are_followed(pages):
    asked = pages({"/": "/login?next=/", "/login?next=/": "http://shop.test/login/", "/login/": 200})
    health.check(APP, "app.sock", "new")
    assert asked == ["http /", "http /login?next=/", "http /login/"]


def test_redirect_that_is_the_wanted_answer_is_not_followed(pages):
    asked = pages({"/": "/login"})
    health.check(app(health_status=302), "app.sock", "new")
    assert asked == ["http /"]


def test_page_to_which_the_app_leads_must_work(pages):
    pages({"/": "/login", "/login": 500})
    with pytest.raises(health.Unhealthy, match=r"^it answers /login, to which / leads, with status 500 instead of 200"):
        health.check(APP, "app.sock", "new")


def test_redirects_without_end_are_followed_a_few_times(pages):
    asked = pages({"/": "/"})
    with pytest.raises(health.Settled, match=r"^it answers / with status 302 "):
        health.check(APP, "app.sock", "new")
    assert len(asked) == 6


@pytest.mark.parametrize("location", ["http://other.test/", "https://shop.test/", "/", "/shopping", "//[", ""])
def test_redirect_out_of_the_app_is_not_followed(location, pages):
    asked = pages({"/shop/": location})
    with pytest.raises(health.Settled, match=r"^it answers /shop/ with status 302 "):
        health.check(app(health_path="/shop/", script_name="/shop"), "app.sock", "new")
    assert asked == ["http /shop/"]


def test_app_with_https_is_asked_as_by_https(pages):
    asked = pages({"/": "https://shop.test/login", "/login": 200})
    health.check(app(tls=True), "app.sock", "new")
    assert asked == ["https /", "https /login"]


def test_app_that_wants_https_is_told_of_tls(pages):
    pages({"/": "https://shop.test/"})
    with pytest.raises(health.Unhealthy, match=r"it sends clients to HTTPS, https://shop\.test/: set `tls`"):
        health.check(APP, "app.sock", "new")
