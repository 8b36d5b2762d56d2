"""Turn the `flask_apps` list a user wrote into the complete, checked list the roles work with.

Wrong types and unknown keys were refused before, see `specification`. What `meta/argument_specs.yml` cannot say
(relations between values, patterns, names that would collide on the host) is refused here, one sentence per fault,
naming the variable and the cure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote

from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.modes import MODES
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.slots import held
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings import data, mounts, side_processes
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.building import building, python_settings
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.network import network
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.site import site_settings
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.tls import complete_tls
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.uwsgi_options import uwsgi_options
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import (
    bounded,
    check_names,
    commands,
    environment,
    fail,
    given,
    relative,
    require,
)
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.workers import PROFILES
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.wsgi_app import wsgi_app

# Linux user names have at most 32 bytes (useradd(8)); the first letter rules out what systemd and nginx would misread.
NAME = re.compile(r"[a-z][a-z0-9_-]{0,30}\Z")
URL_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*\Z")
PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9._,-]+\])?==[A-Za-z0-9.!+_-]+\Z")
CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}\Z")
SIZE = re.compile(r"\d+[kmg]?\Z")
MEMORY = re.compile(r"([1-9][0-9]{0,8})([MG]?)\Z")

# Accounts a Debian host has before we come (base-passwd, nginx, systemd). Taking one over would hand its files away.
RESERVED_NAMES = frozenset((
    "root", "daemon", "bin", "sys", "sync", "games", "man", "lp", "mail", "news", "uucp", "proxy", "www-data", "backup",
    "list", "irc", "gnats", "nobody", "nginx", "uwsgi", "emperor", "messagebus", "sshd", "systemd-network",
    "systemd-resolve", "systemd-timesync", "systemd-journal", "systemd-coredump", "emperor-build",
))  # fmt: skip

SOURCES = ("path", "git", "archive", "package")

MOMENTS = ("prepare", "before_switch", "after_switch", "backup", "restore")

WORKERS = (
    "processes", "threads", "lazy_apps", "import_threads", "batch", "minimum", "max_requests", "max_lifetime_seconds"
)  # fmt: skip


def _source(app: Mapping[str, Any], where: str) -> dict[str, Any]:
    source = {kind: value for kind, value in (app.get("source") or {}).items() if value is not None}
    kinds = [kind for kind in SOURCES if kind in source]
    if len(kinds) != 1:
        named = " and ".join(kinds) or "none"
        fail(f"{where}.source", f"names {named}, but must name exactly one of {', '.join(SOURCES)}.")
    kind = kinds[0]
    value = source[kind]
    if kind == "package":
        require(PACKAGE, value, f"{where}.source.package", "must pin one version, like 'shop==2.1'")
    if kind == "archive":
        require(
            CHECKSUM,
            value.get("checksum"),
            f"{where}.source.archive.checksum",
            "must be 'sha256:' and 64 hexadecimal digits; `sha256sum FILE` prints them",
        )
    if kind == "git" and (not value.get("version") or str(value["version"]).startswith("-")):
        fail(f"{where}.source.git.version", "is missing, but must name the commit, tag or branch to deploy.")
    if kind == "git" and str(value.get("repo", "-")).startswith("-"):
        fail(f"{where}.source.git.repo", "must be the address of a git repository.")
    if source.get("directory") and kind == "package":
        fail(f"{where}.source.directory", "does not go with source.package: remove it.")
    directory = relative(source["directory"], f"{where}.source.directory") if source.get("directory") else ""
    return {"kind": kind, "exclude": source.get("exclude") or [], "directory": directory, kind: value}


def _hooks(values: Mapping[str, Any], where: str) -> dict[str, list[str]]:
    """The commands of every moment."""
    return {moment: commands(values.get(moment), f"{where}.hooks.{moment}") for moment in MOMENTS}


def _workers(app: Mapping[str, Any], where: str, profile: str, reload: str) -> dict[str, Any]:
    """What the user set about the workers; None is what the filter `worker_plan` computes, or what is not limited."""
    value = app.get("workers")
    if value in (None, "auto"):
        value = {}
    if not isinstance(value, Mapping):
        fail(f"{where}.workers", f"is {value!r}, but must be auto or a dict with {', '.join(WORKERS)}.")
    check_names(value, WORKERS, f"{where}.workers")
    chosen = given(value)
    mode = MODES[reload]
    # None: where the trial start finds that workers would share connections.
    lazy_apps = chosen.get("lazy_apps", mode.lazy_apps or None)
    if not isinstance(lazy_apps, bool | None):
        fail(f"{where}.workers.lazy_apps", f"is {lazy_apps!r}, but must be true or false.")
    switches = {kind: chosen.get(kind, default) for kind, default in (("import_threads", False), ("batch", True))}
    for kind, switch in switches.items():
        if not isinstance(switch, bool):
            fail(f"{where}.workers.{kind}", f"is {switch!r}, but must be true or false.")
    if mode.lazy_apps and lazy_apps is False:
        sentence = f"is false, but with reload: {reload} every worker loads the app: remove it, or choose another mode."
        fail(f"{where}.workers.lazy_apps", sentence)
    if not mode.cheaper and chosen.get("minimum"):
        # A worker that is to load the new release may be one that ends for lack of work.
        sentence = f"does not go with reload: {reload}, which waits for each worker: remove it, or choose another mode."
        fail(f"{where}.workers.minimum", sentence)
    counted = {
        kind: bounded(chosen[kind], 1, 512, f"{where}.workers.{kind}", unit) if kind in chosen else None
        for kind, unit in (("processes", "processes"), ("threads", "threads"), ("minimum", "processes"))
    }
    if counted["processes"] and counted["processes"] < mode.least_processes:
        fail(
            f"{where}.workers.processes",
            f"is {counted['processes']}, but with reload: {reload} others must serve while one starts: set it to "
            f"{mode.least_processes} or more.",
        )
    if counted["minimum"] and counted["processes"] and counted["minimum"] > counted["processes"]:
        sentence = f"is {counted['minimum']}, but workers.processes is {counted['processes']}: set it to that or lower."
        fail(f"{where}.workers.minimum", sentence)
    limits = {
        kind: bounded(chosen[kind], 1, 10**9, f"{where}.workers.{kind}", unit) if kind in chosen else None
        for kind, unit in (("max_requests", "requests"), ("max_lifetime_seconds", "seconds"))
    }
    threads = counted["threads"] or PROFILES[profile].threads
    return {**counted, "threads": threads, "lazy_apps": lazy_apps, **switches, **limits}


def _memory(values: Mapping[str, Any], where: str) -> dict[str, int | None]:
    """Sizes in MiB; None for those that are not set."""
    result: dict[str, int | None] = {}
    for kind in ("limit", "worker_recycle", "side_processes"):
        value = given(values).get(kind)
        found = None if isinstance(value, bool) else MEMORY.match(str(value).upper())
        if value is not None and not found:
            fail(f"{where}.memory.{kind}", f"is {value!r}, but must be a number of MiB, or a size like 512M or 2G.")
        result[kind] = int(found[1]) * (1024 if found[2] == "G" else 1) if found else None
    return result


def _paths(name: str, root: str, run: str) -> dict[str, str]:
    home = f"{root}/{name}"
    return {
        "home": home,
        "releases": f"{home}/releases",
        "shared": f"{home}/shared",
        "static": f"{home}/static",
        "current": f"{home}/current",
        "run": f"{run}/{name}",
        "socket": f"{held(f'{run}/{name}')}/app.sock",
        "log": f"/var/log/flask_apps/{name}",
    }


def _times(app: Mapping[str, Any], where: str) -> dict[str, int]:
    """Time limits in seconds."""
    defaults = {
        "max_request_seconds": (60, 1, 3600),
        "max_start_seconds": (60, 1, 3600),
        "slow_request_seconds": (0, 0, 3600),
        "max_hook_seconds": (600, 1, 86400),
    }
    return {
        key: bounded(default if app.get(key) is None else app[key], least, most, f"{where}.{key}", "seconds")
        for key, (default, least, most) in defaults.items()
    }


def _health(values: Mapping[str, Any] | None, path: str, where: str) -> dict[str, Any]:
    """The health check, as a client of an app at this path sends it."""
    health = {"path": "/", "status": 200, **given(values)}
    require(URL_PATH, health["path"], f"{where}.health.path", "must be a path like '/healthz'")
    bare = health["path"].partition("?")[0]
    if re.search(r"%(?![0-9A-Fa-f]{2})|%00", bare) or {".", ".."} & set(unquote(bare).split("/")):
        fail(
            f"{where}.health.path", f"is {health['path']!r}, but must have no '.' or '..' and no broken escapes in it."
        )
    status = bounded(health["status"], 100, 599, f"{where}.health.status", "an HTTP status")
    return {"path": path + health["path"], "status": status}


def _limits(app: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Processes and threads of the app, 0 for what the host allows; and what it may reach."""
    tasks = app.get("max_tasks")
    most = bounded(tasks, 64, 10**6, f"{where}.max_tasks", "processes and threads") if tasks else 0
    return {"max_tasks": most, "network": network(app, where)}


def _one(
    app: Mapping[str, Any], root: str, run: str, tls: Mapping[str, Any] | None, headers: Mapping[str, Any] | None
) -> dict[str, Any]:
    name = app.get("name")
    require(
        NAME,
        name,
        "flask_apps[].name",
        "must start with a lower-case letter and go on with at most 30 lower-case letters, digits, '-' or '_' "
        "(it is also the app's Unix user)",
    )
    where = f"flask_apps[{name}]"
    if name in RESERVED_NAMES:
        fail(f"{where}.name", "is a system account of the host: choose another name.")
    state = app.get("state") or "present"
    complete: dict[str, Any] = {"name": name, "state": state, "paths": _paths(str(name), root, run)}
    if state == "absent":
        return complete

    callable_ = wsgi_app(app.get("app"), f"{where}.app")
    source = _source(app, where)
    reload = app.get("reload") or "zerg"
    if reload not in MODES:
        fail(f"{where}.reload", f"is {reload!r}, but must be one of {', '.join(MODES)}.")
    profile = app.get("profile") or "web"
    if profile not in PROFILES:
        fail(f"{where}.profile", f"is {profile!r}, but must be one of {', '.join(PROFILES)}.")
    max_body_size = app.get("max_body_size") or "16m"
    require(SIZE, max_body_size, f"{where}.max_body_size", "must be a size like '16m'")
    site = site_settings(app, where, headers or {})
    package = source["kind"] == "package"
    module = callable_.partition(":")[0]
    persistent = data.persistent(app.get("persistent") or [], module, package, site["static"], where)
    background = side_processes.background(app.get("background"), where)
    complete.update(
        app=callable_,
        source=source,
        python=python_settings(app, source["kind"], where),
        **building(app, where),
        environment=environment(app.get("environment") or {}, f"{where}.environment"),
        persistent=persistent,
        files=data.files(app.get("files") or [], persistent, package, where),
        **site,
        owner=name,  # of its domains, see `mounts.arrange`
        tls=complete_tls(app.get("tls"), tls, [*site["domains"], *site["redirect_domains"]], where),
        profile=profile,
        workers=_workers(app, where, profile, reload),
        memory=_memory(app.get("memory") or {}, where),
        reload=reload,
        **_times(app, where),
        max_body_size=max_body_size,
        health=_health(app.get("health"), site["path"], where),
        checks=commands(app.get("checks"), f"{where}.checks"),
        hooks=_hooks(app.get("hooks") or {}, where),
        background=background,
        schedule=side_processes.schedule(app.get("schedule"), background, where),
        uwsgi=uwsgi_options(app.get("uwsgi") or {}, where, app.get("uwsgi_unchecked") or ()),
        **_limits(app, where),
    )
    return complete


def _unique(apps: Iterable[Mapping[str, Any]]) -> None:
    names: set[str] = set()
    for app in apps:
        if app["name"] in names:
            fail(f"flask_apps[{app['name']}].name", "is used by two apps: every app needs a name of its own.")
        names.add(app["name"])


def complete_apps(
    apps: Iterable[Mapping[str, Any]],
    root: str = "/srv/flask_apps",
    run: str = "/run/emperor",
    tls: Mapping[str, Any] | None = None,
    headers: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Fill in and check every app of the list.

    :param apps: the value of ``flask_apps``, types already checked, see `specification`.
    :param root: directory that holds one directory per app.
    :param run: directory that holds one directory of sockets per app.
    :param tls: the value of ``flask_apps_tls``: HTTPS of all apps, as far as they do not set their own.
    :param headers: the value of ``flask_apps_security_headers``.
    :raises Refused: with one sentence naming the variable and the cure.
    """
    apps = list(apps)
    result = [_one(app, root.rstrip("/"), run.rstrip("/"), tls, headers) for app in apps]
    _unique(result)
    mounts.arrange(result, [app["name"] for app in apps if given(app.get("tls"))])
    side_processes.check_identifiers(result)
    return result
