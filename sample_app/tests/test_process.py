"""The environment as the worker sees it, and its child processes."""

from __future__ import annotations

import base64
import sys

import pytest
from flask.testing import FlaskClient

ODD_VALUES = ["plain", "", "100% of $(this)", "two\nlines", "quotes \" and '", "naïve ☃", "caf\udce9"]


@pytest.mark.parametrize("value", ODD_VALUES)
def test_env_shows_every_byte(client: FlaskClient, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SHOP_COLOUR", value)
    answer = client.get("/env?name=SHOP_COLOUR")
    assert answer.status_code == 200
    assert answer.json["name"] == "SHOP_COLOUR"
    assert answer.json["value"] == value
    assert base64.b64decode(answer.json["base64"]) == value.encode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    ("query", "status"),
    [("name=SHOP_UNSET", 404), ("name=PATH", 403), ("name=shop_colour", 403), ("name=", 400), ("", 400)],
)
def test_invalid_env_request_is_refused(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, query: str, status: int
) -> None:
    monkeypatch.delenv("SHOP_UNSET", raising=False)
    answer = client.get(f"/env?{query}")
    assert answer.status_code == status
    assert list(answer.json) == ["error"]


def test_spawn_starts_children_in_the_same_virtualenv(client: FlaskClient) -> None:
    answer = client.get("/spawn")
    assert answer.status_code == 200, answer.json
    assert answer.json["works"] is True
    assert answer.json["subprocess"] == answer.json["multiprocessing"] == {"prefix": sys.prefix}


def test_spawn_reports_a_missing_interpreter(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    answer = client.get("/spawn")
    assert answer.status_code == 500
    assert answer.json["works"] is False
    assert "FileNotFoundError" in answer.json["subprocess"]["error"]


def test_spawn_reports_a_child_that_never_answers(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shop.process.CHILD_TIMEOUT_SECONDS", 0.001)
    answer = client.get("/spawn")
    assert answer.status_code == 500
    assert "TimeoutExpired" in answer.json["subprocess"]["error"]
    assert "TimeoutError" in answer.json["multiprocessing"]["error"]
