"""Uploads of any size, hashed while they arrive and never held in memory or on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from io import RawIOBase

from flask import Blueprint, Response, jsonify, request
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import BadRequest
from werkzeug.formparser import FormDataParser

from shop import worker

CHUNK_BYTES = 64 * 1024

blueprint = Blueprint("upload", __name__)


class Digest(RawIOBase):
    """A file that forgets what is written to it, except for its size in bytes and its SHA-256."""

    def __init__(self) -> None:
        self.size = 0
        self.sha256 = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:
        self.size += len(data)
        self.sha256.update(data)
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        # The form parser rewinds every file it has filled. There is nothing to read back here.
        return 0


@blueprint.post("/upload")
def upload() -> Response:
    """Measure a raw body, or the one file of a multipart form."""
    digest = _one_file() if request.mimetype == "multipart/form-data" else _raw_body()
    return jsonify({**worker.identity(), "size": digest.size, "sha256": digest.sha256.hexdigest()})


def _raw_body() -> Digest:
    """Read the request's body to its end."""
    digest = Digest()
    for chunk in _chunks():
        digest.write(chunk)
    return digest


def _chunks() -> Iterable[bytes]:
    """Yield the body in pieces of at most CHUNK_BYTES."""
    return iter(lambda: request.stream.read(CHUNK_BYTES), b"")


def _one_file() -> Digest:
    """Read a multipart form that holds exactly one file; other fields are ignored."""
    parser = FormDataParser(
        stream_factory=lambda *_, **__: Digest(),
        max_form_memory_size=request.max_form_memory_size,
        max_form_parts=request.max_form_parts,
        silent=False,
    )
    try:
        _, _, files = parser.parse(
            request.stream, request.mimetype, request.content_length, dict(request.mimetype_params)
        )
    except ValueError:
        raise BadRequest("The multipart body is malformed.") from None
    found: list[FileStorage] = [file for _, file in files.items(multi=True)]
    if len(found) != 1:
        raise BadRequest(f"A multipart upload must hold exactly one file, this one holds {len(found)}.")
    return found[0].stream
