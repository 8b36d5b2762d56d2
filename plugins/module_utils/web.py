"""Health checks of an app through nginx, as a client would send them from the host itself.

What is needed to send one is loaded for the first: that takes a tenth of the start of a module, and most send none.
"""

from __future__ import annotations

import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urljoin, urlsplit

PAUSE = 0.05  # seconds between two rounds
SECONDS = 20  # after which no other check is sent. A reload of nginx is over a moment after its command.
HOPS = 5  # redirects that a health check follows


def encrypted(port: int, host: str, patience: float) -> socket.socket:
    """A TLS connection to nginx by the name of a site. Its certificate is not judged: that is not the app's health."""
    import ssl  # noqa: PLC0415

    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port), patience), server_hostname=host)


def next_page(asked: str, location: str, status: int, wanted: int, mount: str = "") -> str:
    """Path and query to which an answer to a health check redirects; empty when that is not to be followed.

    A redirect to another host, to HTTPS or out of the app says nothing of the app, so it is an answer like any other.

    :param asked: the whole address that was asked for.
    :param wanted: the status that the app must answer.
    :param mount: the beginning of the path by which nginx finds the app.
    """
    if status == wanted or status not in (301, 302, 303, 307, 308) or not location:
        return ""
    try:
        there, here = urlsplit(urljoin(asked, location)), urlsplit(asked)
        same = (there.scheme, there.hostname) == (here.scheme, here.hostname)
    except ValueError:
        return ""
    path = there.path or "/"
    if not same or not (path + "/").startswith(mount + "/") or re.search(r"[^!-~]", path + there.query):
        return ""
    return f"{path}?{there.query}" if there.query else path


def check(
    port: int, host: str, path: str, status: int, generation: str = "", patience: float = 60, tls: bool = False
) -> str:
    """Send one health check. Redirects within the site are followed.

    :param port: port of nginx on this host.
    :param host: value of the Host header.
    :param path: path and query string.
    :param status: status that the app must answer.
    :param generation: what the instance must answer in the header X-Vassal; anything when empty.
    :param patience: seconds for the connection and for each read.
    :param tls: whether to send it by HTTPS.
    :returns: what clients get instead; empty when the answer is right.
    """
    import http.client  # noqa: PLC0415

    asked = path
    for _hop in range(HOPS + 1):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=patience)
        try:
            if tls:
                connection.sock = encrypted(port, host, patience)
            connection.request("GET", asked, headers={"Host": host, "Connection": "close"})
            answer = connection.getresponse()
            body = answer.read(300)
        except (OSError, http.client.HTTPException) as error:
            return f"get no answer ({error or type(error).__name__})"
        finally:
            connection.close()
        address = f"{'https' if tls else 'http'}://{host}{asked}"
        found = next_page(address, answer.headers.get("Location", ""), answer.status, status)
        if not found:
            break
        asked = found
    if answer.status != status:
        begin = re.sub(r"\s+", " ", body.decode("utf-8", "replace")).strip()
        where = f" at {asked}, where it leads to" if asked != path else ""
        return f"get the status {answer.status} instead of {status}{where}: {begin}"
    if generation and answer.headers.get("X-Vassal", "") != generation:
        return "are answered by another instance than the one that was started"
    return ""


def wait(at_once: int, seconds: float = SECONDS, **asked: Any) -> tuple[str, int]:
    """Send the health check until the app passes it.

    While two instances share a listening socket, either may answer. On an idle host with one processor that is nearly
    always the one that has waited longer. So when the wrong one answered, several checks are sent at the same time.

    :param at_once: checks at a time then. No more than keep the app busy for a moment.
    :param asked: see `check`.
    :returns: what clients get instead, empty when the answer is right, and the number of checks.
    """
    deadline, sent, several = time.monotonic() + seconds, 0, 1
    with ThreadPoolExecutor(at_once) as pool:
        while True:
            found = list(pool.map(lambda _number: check(**asked), range(several)))
            sent += several
            if "" in found:
                return "", sent
            if time.monotonic() > deadline:
                return f"Clients of {asked['host']}{asked['path']} {found[0]} (checked for {seconds} s).", sent
            several = at_once
            time.sleep(PAUSE)
