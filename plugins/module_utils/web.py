"""Health checks of an app through nginx, as a client would send them from the host itself."""

from __future__ import annotations

import http.client
import re


def check(port: int, host: str, path: str, status: int, generation: str = "", patience: float = 60) -> str:
    """Send one health check.

    :param port: port of nginx on this host.
    :param host: value of the Host header.
    :param path: path and query string.
    :param status: status that the app must answer.
    :param generation: what the instance must answer in the header X-Vassal; anything when empty.
    :param patience: seconds for the connection and for each read.
    :returns: what clients get instead; empty when the answer is right.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=patience)
    try:
        connection.request("GET", path, headers={"Host": host, "Connection": "close"})
        answer = connection.getresponse()
        body = answer.read(300)
    except (OSError, http.client.HTTPException) as error:
        return f"get no answer ({error or type(error).__name__})"
    finally:
        connection.close()
    if answer.status != status:
        begin = re.sub(r"\s+", " ", body.decode("utf-8", "replace")).strip()
        return f"get the status {answer.status} instead of {status}: {begin}"
    if generation and answer.headers.get("X-Vassal", "") != generation:
        return "are answered by another instance than the one that was started"
    return ""
