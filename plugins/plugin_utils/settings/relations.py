"""Settings of an app that must go with those of the roles around it, and with the system of the host."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.modes import MODES
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused, bounded, fail
from ansible_collections.flaskops.emperor.plugins.plugin_utils.vassal_options import side_processes, tasks_needed

# Seconds between the longest request of an app and the end of the whole Emperor: what uWSGI and systemd need besides.
MARGIN = 30


def check_only(only: Collection[str], apps: Iterable[Mapping[str, Any]]) -> None:
    """See that every app to work on is one.

    :raises Refused: for the names that are not.
    """
    names = [app["name"] for app in apps]
    unknown = [name for name in only if name not in names]
    if unknown:
        raise Refused(
            f"flask_apps_only names {', '.join(unknown)}, which is not in flask_apps: choose from {', '.join(names)}."
        )


def check_root(root: str, writable_paths: Collection[str]) -> None:
    """See that the Emperor lets apps write below their directories.

    :raises Refused: when it does not.
    """
    if root not in writable_paths:
        raise Refused(
            f"flask_apps_root is {root}, in which the Emperor lets no app write: add it to uwsgi_writable_paths."
        )


def check_proxies(trusted: Iterable[str]) -> None:
    """See that nginx can tell trusted proxies by what is said of them.

    :param trusted: ``flask_apps_trusted_proxies``.
    :raises Refused: for the first that is no address or network.
    """
    for one in trusted:
        try:
            ipaddress.ip_network(one, strict=False)
        except ValueError:
            known = False
        else:
            known = bool(re.fullmatch(r"[0-9A-Fa-f:.]+(/[0-9]+)?", one))  # no mask, no name of an interface
        if not known:
            fail(
                "flask_apps_trusted_proxies",
                f"has {one!r}, which is no address or network: write it like 10.0.0.5, 10.0.0.0/8 or fd00::/8.",
            )


def check_proxy_ports(ports: Mapping[str, Any], http: int, https: int, trusted: Collection[str]) -> None:
    """See that ports for the PROXY protocol are nobody else's, and that somebody is believed there.

    :param ports: by the names of their variables; 0 for none.
    :param http: the port of nginx for HTTP.
    :param https: the one for HTTPS.
    :param trusted: addresses of load balancers.
    :raises Refused: with one sentence that names the variable and the cure.
    """
    taken = {http: "flask_apps_http_port", https: "flask_apps_https_port"}
    for name, given in ports.items():
        port = bounded(int(given), 0, 65535, name, "a port")
        if port in taken:
            fail(name, f"is {port}, which is {taken[port]}, too: choose a port of its own, where clients do not come.")
        if port and not trusted:
            fail(name, "is set, but flask_apps_trusted_proxies is empty: name the load balancers that come there.")
        if port:
            taken[port] = name


def check_stop_timeout(app: Mapping[str, Any], stop_timeout: int | None) -> None:
    """See that systemd leaves the longest request of an app its time.

    :param app: completed by `complete_apps`, to be present.
    :param stop_timeout: seconds after which systemd ends everything, when the user set it. The role uwsgi derives it
        from the apps when it is None.
    :raises Refused: with one sentence that names the variable and the cure.
    """
    longest = app["max_request_seconds"]
    if stop_timeout is not None and longest + MARGIN > stop_timeout:
        fail(
            f"flask_apps[{app['name']}].max_request_seconds",
            f"is {longest}, but systemd ends everything {stop_timeout} s after a stop: set uwsgi_stop_timeout_seconds "
            f"to at least {longest + MARGIN}, or leave it out.",
        )


def check_tasks(app: Mapping[str, Any], workers: Mapping[str, Any]) -> None:
    """See that an app may have as many processes and threads as its workers need, and one in each side process.

    :raises Refused: when it may not.
    """
    needed, sides = tasks_needed(workers), side_processes(app)
    if app["max_tasks"] and app["max_tasks"] < needed + sides:
        beside = f" and its side processes {sides}" if sides else ""
        size = f"{workers['processes']} x {workers['threads']}"
        fail(
            f"flask_apps[{app['name']}].max_tasks",
            f"is {app['max_tasks']}, but its workers ({size}) need {needed}{beside} during a switch: set it to "
            f"{needed + sides} or more, or set fewer workers.",
        )


def check_uwsgi(app: Mapping[str, Any], uwsgi: str, os_version: int) -> None:
    """See that an app works with the uWSGI of its host.

    :param app: completed by `complete_apps`, to be present.
    :param uwsgi: which uWSGI runs the apps, ``pyuwsgi`` or ``distro``.
    :param os_version: major version of the host's Debian.
    :raises Refused: with one sentence that names the variable and the cure.
    """
    where = f"flask_apps[{app['name']}]"
    if uwsgi != "distro":
        return
    if not MODES[app["reload"]].distro:
        fail(
            f"{where}.reload",
            f"is {app['reload']}, which is not tested with the distribution's uWSGI: use zerg, or set uwsgi_install to "
            "pyuwsgi.",
        )
    threads = app["workers"]["threads"]
    # uWSGI 2.0.21 joins its threads inside a signal handler and may deadlock there; requests are lost at every reload.
    if threads != 1 and os_version <= 12:
        fail(
            f"{where}.workers.threads",
            f"is {threads}, but the uWSGI of Debian {os_version} loses requests with threads: set it to 1, or "
            "uwsgi_install to pyuwsgi.",
        )
