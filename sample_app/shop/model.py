"""A model that is loaded with the app: memory which the processes share, or which each of them has for itself."""

from __future__ import annotations

import os
import zlib

from flask import Blueprint, Response, jsonify

from shop import worker

MAX_MB = 4096

blueprint = Blueprint("model", __name__)


def load() -> list[bytearray]:
    """The model of `SHOP_MODEL_MB` megabytes (of 1024 kB), none without it.

    :raises ValueError: when that is no whole number from 0 to 4096.
    """
    text = os.environ.get("SHOP_MODEL_MB", "0")
    if not (text.isascii() and text.isdigit() and int(text) <= MAX_MB):
        raise ValueError(f"SHOP_MODEL_MB is {text!r}, but must be a whole number of megabytes from 0 to {MAX_MB}.")
    # No zeros: the kernel only gives real memory to pages that were written.
    return [bytearray([1 + number % 255]) * (1024 * 1024) for number in range(int(text))]


_model = load()


@blueprint.get("/model")
def checksum() -> Response:
    """Read all of the model, as a prediction would."""
    value = 0
    for part in _model:
        value = zlib.crc32(part, value)
    return jsonify({**worker.identity(), "mb": len(_model), "checksum": f"{value:08x}", "rss_kb": worker.rss_kb()})
