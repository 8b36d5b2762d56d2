"""Waiting, computing and leaking, with their limits."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from wsgiref.simple_server import make_server

import pytest
from flask.testing import FlaskClient
from shop import create_app


def test_slow_sleeps_as_long_as_asked(client: FlaskClient) -> None:
    before = time.time()
    answer = client.get("/slow?ms=50").json
    assert answer["finished"] - answer["started"] >= 0.045
    assert before - 0.01 <= answer["started"] <= answer["finished"] <= time.time() + 0.01


def test_slow_accepts_a_post(client: FlaskClient) -> None:
    assert client.post("/slow?ms=1", data=b"an order").json["ms"] == 1


def test_cpu_burns_cpu_time(client: FlaskClient) -> None:
    before = time.thread_time()
    assert client.get("/cpu?ms=50").json["rounds"] > 0
    assert time.thread_time() - before >= 0.05


def test_leak_adds_up(client: FlaskClient) -> None:
    first = client.get("/leak?kb=1024").json
    second = client.get("/leak?kb=512").json
    assert second["leaked_kb"] - first["leaked_kb"] == 512


LEAK = """
from shop import create_app
client = create_app().test_client()
before = client.get("/leak?kb=0").json["rss_kb"]
for _ in range(20):
    after = client.get("/leak?kb=1024").json["rss_kb"]
print(after - before)
"""


def test_leak_is_resident_memory() -> None:
    # In a process of its own: this one may have freed memory of other tests, which a leak takes up before it grows.
    source = Path(__file__).resolve().parents[1]
    grown = subprocess.run([sys.executable, "-c", LEAK], cwd=source, check=True, capture_output=True, text=True).stdout
    assert int(grown) > 15 * 1024


def test_restart_needs_a_worker_of_uwsgi(client: FlaskClient) -> None:
    assert client.post("/restart").status_code == 501
    assert client.get("/restart").status_code == 405


def test_own_server_is_asked_for_the_same_wait(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    with make_server("127.0.0.1", 0, create_app()) as server:
        monkeypatch.setenv("SHOP_OWN_SERVER", f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        answer = client.get("/own-server/slow?ms=20")
        thread.join()
    assert answer.json["ms"] == 20
    assert answer.json["finished"] - answer.json["started"] >= 0.015


def test_missing_own_server_is_named(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "SHOP_OWN_SERVER is not set" in client.get("/own-server/slow?ms=1").json["error"]
    monkeypatch.setenv("SHOP_OWN_SERVER", "http://127.0.0.1:1")
    answer = client.get("/own-server/slow?ms=1")
    assert answer.status_code == 502
    assert "does not answer" in answer.json["error"]


def test_hog_frees_its_memory_after_the_request(client: FlaskClient) -> None:
    most = client.get("/hog?mb=64").json
    assert most["mb"] == 64
    assert client.get("/hog?mb=0").json["rss_kb"] < most["rss_kb"] - 32 * 1024


@pytest.mark.parametrize(
    ("path", "name", "maximum"),
    [("/slow", "ms", 60000), ("/cpu", "ms", 10000), ("/leak", "kb", 1024), ("/hog", "mb", 4096)],
)
@pytest.mark.parametrize("value", ["", "-1", "1.5", "x", "1_0", "%205", "%2B5", "1e3", "9" * 5000, "%D9%A1", None])
def test_bad_numbers_are_refused_by_name(
    client: FlaskClient, path: str, name: str, maximum: int, value: str | None
) -> None:
    answer = client.get(path if value is None else f"{path}?{name}={value}")
    assert answer.status_code == 400
    assert answer.json == {"error": f"The parameter '{name}' must be a whole number from 0 to {maximum}."}


@pytest.mark.parametrize("address", ["/slow?ms=60001", "/cpu?ms=10001", "/leak?kb=1025", "/hog?mb=4097"])
def test_one_more_than_the_maximum_is_refused(client: FlaskClient, address: str) -> None:
    assert client.get(address).status_code == 400


@pytest.mark.parametrize("address", ["/slow?ms=0", "/cpu?ms=0", "/leak?kb=0", "/hog?mb=0"])
def test_zero_is_allowed(client: FlaskClient, address: str) -> None:
    assert client.get(address).status_code == 200
