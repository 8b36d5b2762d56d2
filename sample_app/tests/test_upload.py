"""Uploads: raw bodies and multipart forms."""

from __future__ import annotations

import hashlib
import tracemalloc
from io import BytesIO

import pytest
from flask.testing import FlaskClient

BODY = bytes(range(256)) * 1000


def measured(body: bytes) -> tuple[int, str]:
    """Return what a correct answer says about `body`: size in bytes and SHA-256."""
    return len(body), hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize("content_type", ["application/octet-stream", "application/x-www-form-urlencoded", None])
@pytest.mark.parametrize("body", [BODY, b""])
def test_raw_upload_has_its_size_and_checksum(client: FlaskClient, content_type: str | None, body: bytes) -> None:
    answer = client.post("/upload", data=body, content_type=content_type).json
    assert (answer["size"], answer["sha256"]) == measured(body)


def test_multipart_upload_has_its_size_and_checksum(client: FlaskClient) -> None:
    answer = client.post("/upload", data={"note": "ignored", "file": (BytesIO(BODY), "a.bin")}).json
    assert (answer["size"], answer["sha256"]) == measured(BODY)


def test_multipart_upload_without_one_file_is_refused(client: FlaskClient) -> None:
    none = client.post("/upload", data={"note": "x"}, content_type="multipart/form-data")
    assert none.status_code == 400
    assert "exactly one file, this one holds 0" in none.json["error"]
    two = client.post("/upload", data={"a": (BytesIO(b"1"), "a"), "b": (BytesIO(b"2"), "b")})
    assert two.status_code == 400
    assert "holds 2" in two.json["error"]


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary=b"])
def test_broken_multipart_upload_is_refused(client: FlaskClient, content_type: str) -> None:
    answer = client.post("/upload", data=b"nonsense", content_type=content_type)
    assert answer.status_code == 400
    assert answer.json == {"error": "The multipart body is malformed."}


def test_large_upload_needs_little_memory(client: FlaskClient) -> None:
    body = BytesIO(b"x" * (20 * 1024 * 1024))
    tracemalloc.start()
    try:
        client.post("/upload", input_stream=body, content_length=body.getbuffer().nbytes)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 2 * 1024 * 1024
