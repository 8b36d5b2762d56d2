"""Speak to a uWSGI instance over its Unix sockets: one request, or one reading of its statistics."""

from __future__ import annotations

import re
import struct
import time
import uuid
from urllib.parse import unquote_to_bytes

from ansible_collections.flaskops.emperor.plugins.module_utils.host import exchange, statistics

__all__ = ["Response", "encode_request", "request", "statistics"]

ANSWER = 16 * 1024 * 1024  # bytes that the answer to a health check may have


class Response:
    """What an application answered.

    :ivar status: HTTP status code; 0 when the answer had no status line.
    :ivar headers: headers by lower-case name (the last one of a name wins).
    :ivar body: the body, undecoded.
    """

    def __init__(self, raw: bytes) -> None:
        head, _separator, self.body = raw.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        words = lines[0].split(" ")
        self.status = int(words[1]) if len(words) > 1 and re.fullmatch("[0-9]{3}", words[1]) else 0
        self.headers = {}
        for line in lines[1:]:
            name, _colon, value = line.partition(":")
            self.headers[name.strip().lower()] = value.strip()


def encode_request(path: str, host: str, script_name: str = "", scheme: str = "http") -> bytes:
    """A GET request as a uwsgi packet, as nginx makes it by the site of an app.

    Little-endian throughout: a header of modifier1 (8 bits, 0 = WSGI), the length of the variables (16 bits) and
    modifier2 (8 bits); then each variable as length, name, length, value.
    Source: https://uwsgi-docs.readthedocs.io/en/latest/Protocol.html

    :param path: path and query string, percent-encoded, as in a request line.
    :param host: value of the Host header.
    :param script_name: the beginning of the path by which nginx finds the app.
    :param scheme: ``http`` or ``https``, as clients use it.
    """
    bare, _mark, query = path.partition("?")
    variables = {
        "REQUEST_METHOD": "GET",
        "REQUEST_URI": path,
        "CONTENT_TYPE": "",
        "CONTENT_LENGTH": "",
        "SCRIPT_NAME": script_name,
        # Decoded, as nginx hands it on ($document_uri).
        "PATH_INFO": unquote_to_bytes(bare).decode("utf-8", "surrogateescape").removeprefix(script_name),
        "QUERY_STRING": query,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": host,
        "SERVER_PORT": "443" if scheme == "https" else "80",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": "0",
        "REQUEST_SCHEME": scheme,
        "UWSGI_SCHEME": scheme,
        "HTTP_HOST": host,
        "HTTP_X_FORWARDED_PROTO": scheme,
        "HTTP_X_FORWARDED_FOR": "127.0.0.1",
        "HTTP_X_REAL_IP": "127.0.0.1",
        "HTTP_X_REQUEST_ID": uuid.uuid4().hex,
        "HTTP_X_REQUEST_START": f"t={time.time():.3f}",
    }
    body = b""
    for name, value in variables.items():
        for text in (name.encode("latin-1"), value.encode("utf-8", "surrogateescape")):
            body += struct.pack("<H", len(text)) + text
    return struct.pack("<BHB", 0, len(body), 0) + body


def request(
    socket_path: str, path: str, host: str, timeout: float, script_name: str = "", scheme: str = "http"
) -> Response:
    """Send one GET request to an application and return its answer.

    :param socket_path: the Unix socket that speaks the uwsgi protocol.
    :param path: path and query string.
    :param host: value of the Host header.
    :param timeout: seconds for the connection and for each read.
    :param script_name: the beginning of the path by which nginx finds the app.
    :param scheme: ``http`` or ``https``, as clients use it.
    :raises OSError: when nothing listens, or no answer comes in time.
    """
    return Response(exchange(socket_path, encode_request(path, host, script_name, scheme), timeout, ANSWER))
