"""Health checks of an instance on its sockets, and waiting for one that passes."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from ansible_collections.flaskops.emperor.plugins.module_utils import uwsgi_client, web
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal import timing
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.config import HEADER
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.slots import Slot
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.store import App


class Unhealthy(Exception):
    """The app does not pass its health check; the text says what it does instead."""


class Stop(Unhealthy):
    """There is nothing to wait for any more."""


class Settled(Unhealthy):
    """The app answers with a status that waiting does not change: a redirect, or that the check is not allowed."""


# A loaded app that answers like that again and again means it; one that still starts may say 404 or 503.
SETTLED = (*range(300, 400), 401, 403, 405)
SURE = 20  # so many such answers one after the other, over two seconds


LONGER = ": if it only needs longer to start, set `max_start_seconds` higher"


def suggestion(status: int, location: str) -> str:
    """How to get a health check that a sound app passes, after an answer by which an app is not broken."""
    if 300 <= status < 400:
        if location.startswith("https://"):
            return (
                f" (it sends clients to HTTPS, {location}: set `tls`, or turn that off in the app; where a proxy in "
                f"front of the host has the certificate, set `health.status` to {status})"
            )
        path = "" if "[" in location else urlsplit(location).path  # brackets that are no address are no URL
        return f" (set `health.path` to {path or 'another page'}, where it leads to, or `health.status` to {status})"
    if 400 <= status < 500:
        return f" (if it is sound, set `health.path` to a page of its own, or `health.status` to {status})"
    return ""


def check(app: App, sock: str, generation: str, patience: float | None = None) -> None:
    """Send the health check once, and follow redirects within the app.

    :param patience: seconds to wait for an answer; the parameter start_timeout if None.
    :raises Unhealthy: when the answer is not that of a healthy instance of this generation.
    """
    wanted, asked = app.params["health_status"], app.params["health_path"]
    patience = app.params["start_timeout"] if patience is None else patience
    host, mount = app.params["health_host"], app.params.get("script_name", "")
    scheme = "https" if app.params.get("tls") else "http"
    path = asked
    for _hop in range(web.HOPS + 1):
        try:
            answer = uwsgi_client.request(sock, path, host, timeout=patience, script_name=mount, scheme=scheme)
        except OSError as error:
            raise Unhealthy(f"it does not answer ({error.strerror or error})") from error
        right = answer.headers.get(HEADER.lower(), "") == generation
        location = answer.headers.get("location", "")
        found = web.next_page(f"{scheme}://{host}{path}", location, answer.status, wanted, mount) if right else ""
        if not found:
            break
        path = found
    if answer.status != wanted:
        begin = re.sub(r"\s+", " ", answer.body[:300].decode("utf-8", "replace")).strip()
        led = f", to which {asked} leads," if path != asked else ""
        told = f"status {answer.status or 'none'} instead of {wanted}{suggestion(answer.status, location)}"
        settled = right and answer.status in SETTLED
        raise (Settled if settled else Unhealthy)(f"it answers {path}{led} with {told}: {begin}")
    if not right:
        raise Unhealthy("an instance of another generation answers")


def wait(app: App, sock: str, generation: str, seconds: float, hopeless: Callable[[], bool] | None = None) -> None:
    """Wait until a healthy instance of this generation answers.

    :param seconds: how long to wait.
    :param hopeless: called before every check; tells whether a worker accepts requests, raises Stop when there is
        nothing to wait for, and Unhealthy when no worker would answer yet: a request would only wait in the queue.
    :raises Unhealthy: with what it last did.
    """
    began = time.monotonic()
    deadline = began + seconds
    # While no worker accepts, a request waits in the queue, and nothing notices when all is hopeless. So check again;
    # once a worker accepts, with twice the patience each time: an app that is slow to answer gets its time.
    first = patience = min(timing.PATIENCE, app.params["start_timeout"])
    settled, answer = 0, None
    while True:
        accepting = False
        try:
            accepting = bool(hopeless and hopeless())
            check(app, sock, generation, patience if hopeless else None)
            return
        except Stop:
            raise
        except Unhealthy as reason:
            settled = settled + 1 if isinstance(reason, Settled) else 0
            if settled >= SURE:
                raise
            if (accepting or not hopeless) and not isinstance(reason.__cause__, OSError):
                answer = reason
            if time.monotonic() > deadline:
                # A wrong answer says more than that the last check came too late to be answered.
                told = answer if answer and isinstance(reason.__cause__, TimeoutError) else reason
                longer = LONGER if isinstance(told.__cause__, OSError) else ""
                raise Unhealthy(f"after {seconds:.0f} s {told}{longer}") from told
            if not accepting:
                patience = first
            elif isinstance(reason.__cause__, TimeoutError):
                patience = min(2 * patience, app.params["start_timeout"])
            if isinstance(reason.__cause__, (FileNotFoundError, ConnectionRefusedError)):
                timing.pause(began)  # nothing listens yet
                continue
        time.sleep(timing.PAUSE)


def healthy(app: App, slot: Slot, patience: float = 0) -> bool:
    """Whether a slot has an instance that passes its health check, and that clients reach."""
    config = slot.config
    if config is None:
        return False
    try:
        for sock in slot.sockets(config):
            wait(app, sock, config.generation, patience)
    except Unhealthy:
        return False
    return True
