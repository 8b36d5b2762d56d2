"""Connections that stay open while the other tests run."""

import socket

import pytest


@pytest.fixture(scope="session")
def half_open(fleet, addresses):
    """A connection to each host, by its address, whose client does not finish its headers."""
    found = {}
    for host in fleet:
        address = addresses[host.backend.name]
        found[address] = socket.create_connection((address, 80), timeout=90)
        found[address].sendall(b"GET /echo HTTP/1.1\r\nHost: echo.test\r\nX-Slow: ")
    yield found
    for connection in found.values():
        connection.close()
