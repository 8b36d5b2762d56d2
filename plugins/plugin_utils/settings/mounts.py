"""Apps that share a domain, each below a path of its own."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, MutableMapping
from typing import Any

from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.site import PREFIXES
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import fail

App = Mapping[str, Any]


def below(path: str, prefix: str) -> bool:
    """Whether a path is the prefix, or below it."""
    return path == prefix or path.startswith(prefix + "/")


def mounted(app: App) -> bool:
    """Whether the site of another app passes requests to this one."""
    return bool(app["owner"] != app["name"])


def sharers(apps: Iterable[App], name: str) -> list[App]:
    """The apps on the domains of an app, itself included, the owner first."""
    present = [app for app in apps if app["state"] == "present"]
    owner = next((app["owner"] for app in present if app["name"] == name), "")
    return sorted((app for app in present if app["owner"] == owner), key=lambda app: str(app["path"]))


def _share(app: App, kind: str, domain: str, other: App) -> None:
    """See that an app may have a domain that another one has.

    :param kind: ``domains`` or ``redirect_domains``, where it has it.
    """
    where, told = f"flask_apps[{app['name']}].{kind}", f"has {domain}, which {other['name']} has too"
    if other is app or kind == "redirect_domains" or domain not in (other["domains"] or [""]):
        fail(where, f"{told}: remove it from one of them.")
    if app["path"] == other["path"]:
        if app["path"]:
            sentence = f"is {app['path']}, which {other['name']} has on the same domain: choose another path."
            fail(f"flask_apps[{app['name']}].path", sentence)
        if not domain:
            sentence = f"is empty, as it is for {other['name']}: only one app can answer for every domain, "
            fail(where, f"{sentence}name the domains of the other, or set its path.")
        fail(where, f"{told}: remove it from one of them, or set the path of one.")
    if set(app["domains"]) != set(other["domains"]):
        fail(where, f"{told}, at another path: give both the same list of domains.")


def _groups(apps: Iterable[MutableMapping[str, Any]]) -> list[list[MutableMapping[str, Any]]]:
    """The apps by the domains that they share."""
    found: dict[str, list[Any]] = {}
    groups: dict[frozenset[str], list[Any]] = {}
    for app in apps:
        # An empty list makes the app the host's default server, of which nginx takes one.
        for kind, domains in (("domains", app["domains"] or [""]), ("redirect_domains", app["redirect_domains"])):
            for domain in domains:
                for other in found.get(domain, []):
                    _share(app, kind, domain, other)
                found.setdefault(domain, []).append(app)
        groups.setdefault(frozenset(app["domains"]), []).append(app)
    return list(groups.values())


def _prefixes(app: App, other: App) -> None:
    """See that no path of an app belongs to another one that is mounted below it."""
    where = f"flask_apps[{app['name']}]"
    told = f"where {other['name']} is: choose another path for one of them."
    for kind in PREFIXES:
        for prefix in app[kind]:
            path = app["path"] + prefix
            if below(path, other["path"]) or below(other["path"], path):
                fail(f"{where}.{kind}", f"has {prefix}, which meets {other['path']}, {told}")
    if below(app["health"]["path"].partition("?")[0], other["path"]):
        fail(f"{where}.health.path", f"is {app['health']['path']}, which is below {other['path']}, {told}")


def arrange(apps: Iterable[MutableMapping[str, Any]], own_tls: Collection[str]) -> None:
    """Let apps with the same domains share them: the one whose path is the first owns them.

    :param apps: as `complete_apps` completes them; ``owner`` of each is set, and ``tls`` of those that are mounted.
    :param own_tls: names of the apps with HTTPS settings of their own.
    :raises Refused: with one sentence naming the variable and the cure.
    """
    for group in _groups(app for app in apps if app["state"] == "present"):
        owner, *others = sorted(group, key=lambda app: str(app["path"]))
        for app in others:
            where, told = f"flask_apps[{app['name']}]", f"{owner['name']} at {owner['path'] or '/'} owns the domain"
            if app["redirect_domains"]:
                fail(f"{where}.redirect_domains", f"is set, but {told}: move it there.")
            if app["name"] in own_tls and app["tls"] != owner["tls"]:
                fail(f"{where}.tls", f"differs from that of {owner['name']}, but {told}: remove it here.")
            app.update(owner=owner["name"], tls=owner["tls"])
        for app in group:
            for other in group:
                if other["path"] != app["path"] and below(other["path"], app["path"]):
                    _prefixes(app, other)
