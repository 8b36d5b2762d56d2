"""What nginx does for an app besides passing requests on: names, static files, downloads, streams and limits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import (
    bounded,
    check_names,
    fail,
    given,
    relative,
    require,
)

IPV6 = re.compile(r"\[?[0-9a-f.]*:[0-9a-f.]*:[0-9a-f:.]*\]?\Z", re.IGNORECASE)
DOMAIN = re.compile(r"(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
URL_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+\Z")
LIMITS = {"requests_per_second": "requests per second", "burst": "requests", "connections": "connections"}
HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,60}\Z")
# What nginx can say as it is: printable, and no variable of nginx's.
HEADER_VALUE = re.compile(r"[ -#%-~]*\Z")
# Headers that are nginx's own, or are not the same for every response.
NO_HEADERS = frozenset((
    "content-type", "content-length", "transfer-encoding", "connection", "date", "server", "set-cookie", "location",
    "x-request-id", "x-vassal", "x-emperor-release", "x-emperor-queue", "retry-after", "cache-control",
))  # fmt: skip
YEAR = 365 * 24 * 3600
# Settings that give URL prefixes to something else than the app as usual.
PREFIXES = ("static", "media", "protected", "streaming", "serve")


def url_prefix(value: Any, where: str) -> str:
    """A prefix of URLs, checked."""
    if not isinstance(value, str) or not URL_PREFIX.match(value) or {".", ".."} & set(value.split("/")):
        fail(where, "must be a URL prefix like '/static': a leading slash, no slash at the end, no '..'.")
    return str(value)


def _path(value: Any, where: str) -> str:
    """The path of an app as a prefix of its URLs: empty for `/`."""
    if value in (None, "", "/"):
        return ""
    path = url_prefix(value, f"{where}.path")
    if path.startswith("/."):
        fail(f"{where}.path", f"is {path!r}, but must not start with a dot: `/.well-known` belongs to all apps.")
    return path


def _static(values: Mapping[str, Any], where: str) -> tuple[dict[str, str], dict[str, str]]:
    """The directory of the source for each URL prefix, and the value of Cache-Control for those that have one."""
    directories, lifetimes = {}, {}
    for prefix, value in values.items():
        here = f"{where}.static[{prefix!r}]"
        url_prefix(prefix, here)
        options = given(value) if isinstance(value, Mapping) else {"directory": value}
        check_names(options, ("directory", "max_age", "immutable"), here)
        if "directory" not in options:
            fail(here, "must be a directory of the source, or a dict with directory, max_age and immutable.")
        directories[prefix] = relative(options["directory"], here)
        immutable = options.get("immutable", False)
        if not isinstance(immutable, bool):
            fail(f"{here}.immutable", f"is {immutable!r}, but must be true or false.")
        if immutable or "max_age" in options:
            age = bounded(options.get("max_age", YEAR), 0, 10 * YEAR, f"{here}.max_age", "seconds")
            lifetimes[prefix] = f"public, max-age={age}{', immutable' if immutable else ''}"
    return directories, lifetimes


def _of_data(values: Mapping[str, Any], where: str, kind: str) -> dict[str, str]:
    """Directories of the app's data by URL prefix."""
    result = {}
    for prefix, directory in values.items():
        here = f"{where}.{kind}[{prefix!r}]"
        result[url_prefix(prefix, here)] = relative(directory, here, "data")
    return result


def _names(values: Iterable[Any], where: str) -> list[str]:
    result = []
    for value in values:
        if isinstance(value, str) and IPV6.match(value):
            sentence = "is an IPv6 address: give a host name, or no domain at all, as such an app has every address."
            fail(where, f"has {value}, which {sentence}")
        require(DOMAIN, value, where, "must be a host name in lower case, like shop.example.com")
        result.append(str(value))
    return result


def _served(values: Any, where: str) -> dict[str, str]:
    """The side processes that serve a path, by URL prefix."""
    found: dict[str, str] = {}
    for name, value in values.items() if isinstance(values, Mapping) else ():
        if isinstance(value, Mapping) and value.get("serve"):
            here = f"{where}.background.{name}.serve"
            prefix = url_prefix(value["serve"], here)
            if prefix in found:
                fail(here, f"is {prefix}, which {found[prefix]} has too: choose another path.")
            found[prefix] = str(name)
    return found


def security_headers(common: Mapping[str, Any], own: Mapping[str, Any], where: str) -> dict[str, str]:
    """The headers of every response that the app does not set itself.

    :param common: ``flask_apps_security_headers``.
    :param own: ``security_headers`` of the app; an empty value takes one away.
    """
    found: dict[str, tuple[str, str]] = {}
    for values, place in ((common, "flask_apps_security_headers"), (own, f"{where}.security_headers")):
        for name, value in values.items():
            here = f"{place}[{name!r}]"
            require(HEADER, name, here, "the name of a header has letters, digits and '-' only")
            if name.lower() in NO_HEADERS:
                fail(here, "is set by nginx or the app for each response: remove it.")
            if name.lower() == "strict-transport-security":
                fail(here, "belongs to HTTPS: remove it, and set tls.hsts_seconds.")
            text = "" if value is None else value
            require(HEADER_VALUE, text, here, "must be a text of printable ASCII characters without '$'")
            found[name.lower()] = (name, text)
    return {name: value for name, value in found.values() if value}


def _limits(values: Mapping[str, Any], where: str) -> dict[str, int]:
    """Limits for one client address; 0 for none."""
    chosen = given(values)
    found = {
        kind: bounded(chosen.get(kind, 0), 0, 10**6, f"{where}.limits.{kind}", unit) for kind, unit in LIMITS.items()
    }
    if found["burst"] and not found["requests_per_second"]:
        fail(f"{where}.limits.burst", "does nothing without limits.requests_per_second: set that too.")
    return found


def site_settings(app: Mapping[str, Any], where: str, headers: Mapping[str, Any]) -> dict[str, Any]:
    """Complete and check what concerns the site of an app.

    :param app: as the user wrote it.
    :param where: the app in messages.
    :param headers: ``flask_apps_security_headers``.
    :raises Refused: with one sentence naming the variable and the cure.
    """
    static, lifetimes = _static(app.get("static") or {}, where)
    found: dict[str, Any] = {
        "domains": _names(app.get("domains") or [], f"{where}.domains"),
        "path": _path(app.get("path"), where),
        "redirect_domains": _names(app.get("redirect_domains") or [], f"{where}.redirect_domains"),
        "static": static,
        "static_lifetimes": lifetimes,
        "media": _of_data(app.get("media") or {}, where, "media"),
        "protected": _of_data(app.get("protected") or {}, where, "protected"),
        "streaming": [url_prefix(prefix, f"{where}.streaming") for prefix in app.get("streaming") or []],
        "serve": _served(app.get("background"), where),
        "limits": _limits(app.get("limits") or {}, where),
        "security_headers": security_headers(headers, app.get("security_headers") or {}, where),
    }
    if found["redirect_domains"]:
        if not found["domains"]:
            fail(f"{where}.redirect_domains", "has nowhere to lead to: set domains, whose first one they lead to.")
        if found["domains"][0].startswith("*"):
            sentence = "but a redirect must lead to one name: write a name without '*'."
            fail(f"{where}.domains[0]", f"is {found['domains'][0]!r}, {sentence}")
    owners: dict[str, str] = {}
    for kind in PREFIXES:
        for prefix in found[kind]:
            if prefix in owners:
                fail(f"{where}.{kind}", f"has {prefix}, which {owners[prefix]} has too: remove it from one of them.")
            owners[prefix] = kind
    for kind in ("static", "media", "protected"):
        for prefix in found[kind]:
            if any(other.startswith(prefix + "/") for other in owners):
                fail(
                    f"{where}.{kind}[{prefix!r}]", "holds another prefix of the same app: give each a path of its own."
                )
    return found


def health_host(app: Mapping[str, Any]) -> str:
    """The Host header of an app's health checks: a name for which its site answers."""
    return str([*app["domains"], "localhost"][0]).replace("*", "health")


def data_directories(app: Mapping[str, Any]) -> list[str]:
    """Directories of the app's data from which nginx delivers files, those above them first.

    :param app: completed by `complete_apps`.
    """
    found = set()
    for directory in [*app["media"].values(), *app["protected"].values()]:
        parts = directory.split("/")
        found |= {"/".join(parts[: count + 1]) for count in range(len(parts))}
    return sorted(found)
