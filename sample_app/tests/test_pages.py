"""The page, health, version, static files and errors."""

from __future__ import annotations

import os
import re
import sys

import pytest
from flask.testing import FlaskClient


def test_health_check_answers_ok(client: FlaskClient) -> None:
    answer = client.get("/healthz")
    assert answer.status_code == 200
    assert answer.json == {"status": "ok"}


def test_version_says_what_runs(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELEASE_ID", "2f3c9a1")
    assert client.get("/version").json == {
        "release": "2f3c9a1",
        "pid": os.getpid(),
        "worker": None,
        "python": ".".join(map(str, sys.version_info[:3])),
        "prefix": sys.prefix,
        "executable": sys.executable,
        "uwsgi": None,
        "switch_interval": sys.getswitchinterval(),
    }


def test_release_without_a_name_is_development(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RELEASE_ID", raising=False)
    assert client.get("/version").json["release"] == "development"


def test_page_shows_the_worker(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELEASE_ID", "<b>")
    page = client.get("/").text
    assert f"Process {os.getpid()} served you." in page
    assert "&lt;b&gt;" in page
    assert "<b>" not in page


def test_page_needs_nothing_from_elsewhere(client: FlaskClient) -> None:
    addresses = re.findall(r'(?:href|src|action)="([^"]*)"', client.get("/").text)
    assert addresses
    assert all(re.match(r"[/#](?!/)", address) or address == "/" for address in addresses)


def test_page_compares_only_when_there_is_another_server(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHOP_OWN_SERVER", raising=False)
    assert client.get("/").text.count("<figure") == 1
    monkeypatch.setenv("SHOP_OWN_SERVER", "http://127.0.0.1:5001")
    assert client.get("/").text.count("<figure") == 2


def test_everything_the_page_links_to_exists(client: FlaskClient) -> None:
    page = client.get("/").text
    for address in re.findall(r'(?:href|src)="(/[^"]*)"', page):
        with client.get(address) as answer:
            assert answer.status_code == 200, address


@pytest.mark.parametrize("name", ["shop.css", "lanes.js", "mark.svg"])
def test_every_static_file_is_served(client: FlaskClient, name: str) -> None:
    with client.get(f"/static/{name}") as answer:
        assert answer.status_code == 200


def test_answers_are_not_cached_but_static_files_may_be(client: FlaskClient) -> None:
    assert client.get("/version").headers["Cache-Control"] == "no-store"
    with client.get("/static/shop.css") as answer:
        assert answer.headers["Cache-Control"] != "no-store"


def test_errors_are_json(client: FlaskClient) -> None:
    missing = client.get("/nowhere")
    assert (missing.status_code, missing.mimetype) == (404, "application/json")
    wrong_method = client.post("/cpu")
    assert wrong_method.status_code == 405
    assert "GET" in wrong_method.headers["Allow"]
    assert wrong_method.json["error"]
