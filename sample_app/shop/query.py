"""Reading query parameters strictly."""

from __future__ import annotations

import re

from flask import request
from werkzeug.exceptions import BadRequest


def whole_number(name: str, maximum: int) -> int:
    """Return query parameter `name`, a whole number from 0 to `maximum`, or answer 400."""
    text = request.args.get(name, "")
    # int() alone would also take "1_000", " 5" and digits of other scripts.
    if re.fullmatch(r"[0-9]{1,9}", text) and int(text) <= maximum:
        return int(text)
    raise BadRequest(f"The parameter '{name}' must be a whole number from 0 to {maximum}.")


def required_text(name: str) -> str:
    """Return query parameter `name`, or answer 400 when it is missing or empty."""
    text = request.args.get(name, "")
    if not text:
        raise BadRequest(f"The parameter '{name}' is missing or empty.")
    return text
