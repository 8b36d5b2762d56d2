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
