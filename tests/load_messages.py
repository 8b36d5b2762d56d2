"""What each kind of client of a load sends to the sample app, and how."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from load_report import DEFAULT_KINDS, KINDS, SLOW_SECONDS  # type: ignore[import-not-found]  # beside it

SMALL_BODY = b"one small order, please"
BIG_BODY = bytes(range(256)) * 1024


@dataclass(frozen=True)
class Options:
    """How to send requests. All times are in seconds.

    :ivar kinds: clients of each kind per target; a kind that is not named has none.
    :ivar pause: between two requests of a client; kinds that take long make none.
    :ivar timeout: for an answer, beyond what the request itself takes.
    :ivar drain: for requests in flight at the end; those without an answer by then are "unanswered".
    :ivar long: what a request of the kind long takes.
    :ivar upload: what sending the body of the kind upload takes.
    :ivar order: what a request of the kind order takes. It is a POST that works for seconds. It is never sent again,
        so it alone tells a server that lets requests end from one that kills them.
    """

    kinds: Mapping[str, int] = field(default_factory=DEFAULT_KINDS.copy)
    pause: float = 0.02
    timeout: float = 30
    drain: float = 40
    long: float = 10
    upload: float = 5
    order: float = 3

    def __post_init__(self) -> None:
        if unknown := set(self.kinds) - set(KINDS):
            raise ValueError(f"no such kinds: {', '.join(sorted(unknown))}")


@dataclass(frozen=True)
class Message:
    """What a kind of client sends: it takes `takes` seconds by itself, `expected` must be in the JSON of the answer."""

    path: str
    takes: float = 0
    close: bool = False
    body: bytes = b""
    expected: Mapping[str, object] = field(default_factory=dict)


def messages(options: Options) -> dict[str, Message]:
    """Return what each kind of client sends to the sample app."""
    wait_ms, long_ms, order_ms = (int(seconds * 1000) for seconds in (SLOW_SECONDS, options.long, options.order))
    small, big = ({"size": len(body), "sha256": hashlib.sha256(body).hexdigest()} for body in (SMALL_BODY, BIG_BODY))
    return {
        "get_keep": Message("/version"),
        "get_close": Message("/version", close=True),
        "post": Message("/upload", body=SMALL_BODY, expected=small),
        "slow": Message(f"/slow?ms={wait_ms}", takes=SLOW_SECONDS, expected={"ms": wait_ms}),
        "long": Message(f"/slow?ms={long_ms}", takes=options.long, expected={"ms": long_ms}),
        "upload": Message("/upload", takes=options.upload, body=BIG_BODY, expected=big),
        "order": Message(f"/slow?ms={order_ms}", takes=options.order, body=SMALL_BODY, expected={"ms": order_ms}),
    }
