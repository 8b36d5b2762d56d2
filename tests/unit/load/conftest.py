"""What the tests of the load client share."""

import contextlib

import pytest
from load_server import Server  # type: ignore[import-not-found]  # beside this file


@pytest.fixture
def server():
    one = Server()
    yield one
    with contextlib.suppress(OSError):
        one.close()
