"""Let the tests find the app from any working directory, and give each test a client."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from flask.testing import FlaskClient

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from shop import create_app


@pytest.fixture
def client() -> FlaskClient:
    """A client of a fresh application."""
    return create_app().test_client()
