"""Turn the `flask_apps` list a user wrote into the complete, checked list the roles work with.

`meta/argument_specs.yml` has already refused wrong types and unknown keys when this runs. What a specification cannot
say (relations between values, patterns, names that would collide on the host) is refused here, one sentence per
fault, naming the variable and the cure.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.flaskops.emperor.plugins.filter.worker_plan import PROFILES

DOCUMENTATION = r"""
name: apps
short_description: Complete and check a list of WSGI applications
version_added: 1.0.0
description:
  - Fills in the default of every option and derives the paths, limits and timeouts of each app.
  - Fails with one sentence that names the variable and the cure when the list contradicts itself.
positional: _input
options:
  _input:
    description: The value of C(flask_apps).
    type: list
    elements: dict
    required: true
  root:
    description: Directory under which every app gets a directory of its own.
    type: str
    default: /srv/flask_apps
  run:
    description: Directory under which every app gets a directory for its sockets.
    type: str
    default: /run/emperor
author:
  - flaskops maintainers (@flaskops)
"""

EXAMPLES = r"""
- name: Show what the roles make of the list
  ansible.builtin.debug:
    msg: "{{ flask_apps | flaskops.emperor.apps }}"
"""

RETURN = r"""
_value:
  description: The same apps, complete, in the same order.
  type: list
  elements: dict
"""

# Linux user names have at most 32 bytes (useradd(8)); the first letter rules out what systemd and nginx would misread.
NAME = re.compile(r"[a-z][a-z0-9_-]{0,30}\Z")
CALLABLE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\(\))?\Z")
DOMAIN = re.compile(r"(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
URL_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+\Z")
URL_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*\Z")
RELATIVE_PATH = re.compile(r"[A-Za-z0-9._+@-]+(/[A-Za-z0-9._+@-]+)*\Z")
PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9._,-]+\])?==[A-Za-z0-9.!+_-]+\Z")
CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}\Z")
OPTION = re.compile(r"[a-z0-9][a-z0-9-]*\Z")
SIZE = re.compile(r"\d+[kmg]?\Z")
MEMORY = re.compile(r"([1-9][0-9]{0,8})([MG]?)\Z")

# Accounts a Debian host has before we come (base-passwd, nginx, systemd). Taking one over would hand its files away.
RESERVED_NAMES = frozenset((
    "root", "daemon", "bin", "sys", "sync", "games", "man", "lp", "mail", "news", "uucp", "proxy", "www-data", "backup",
    "list", "irc", "gnats", "nobody", "nginx", "uwsgi", "emperor", "messagebus", "sshd", "systemd-network",
    "systemd-resolve", "systemd-timesync", "systemd-journal", "systemd-coredump",
))  # fmt: skip

# Options of the vassal that the role owns, and what to set instead.
MANAGED_OPTIONS = {
    "module": "app",
    "wsgi": "app",
    "wsgi-file": "app",
    "callable": "app",
    "mount": "app",
    "chdir": "source",
    "pythonpath": "source",
    "virtualenv": "python",
    "home": "python",
    "venv": "python",
    "processes": "workers.processes",
    "workers": "workers.processes",
    "threads": "workers.threads",
    "lazy-apps": "workers.lazy_apps",
    "lazy": "workers.lazy_apps",
    "enable-threads": "workers.threads",
    "cheaper": "workers.minimum",
    "cheaper-initial": "workers.minimum",
    "cheaper-algo": "workers.minimum",
    "cheaper-step": "workers.minimum",
    "cheaper-overload": "workers.minimum",
    "cheaper-busyness-multiplier": "workers.minimum",
    "max-requests": "workers.max_requests",
    "max-requests-delta": "workers.max_requests",
    "max-worker-lifetime": "workers.max_lifetime_seconds",
    "max-worker-lifetime-delta": "workers.max_lifetime_seconds",
    "min-worker-lifetime": "workers.max_lifetime_seconds",
    "reload-on-rss": "memory.worker_recycle",
    "reload-on-as": "memory.worker_recycle",
    "evil-reload-on-rss": "memory.worker_recycle",
    "evil-reload-on-as": "memory.worker_recycle",
    "harakiri": "max_request_seconds",
    "worker-reload-mercy": "max_request_seconds",
    "reload-mercy": "max_request_seconds",
    "env": "environment",
    "for-readline": "environment",
}
FIXED_OPTIONS = frozenset((
    "strict", "master", "need-app", "socket", "uwsgi-socket", "chmod-socket", "chown-socket", "stats", "uid", "gid",
    "ini", "zerg", "zergpool", "zerg-pool", "zerg-server", "zerg-fallback", "listen", "procname", "auto-procname",
    "procname-prefix", "procname-prefix-spaced", "procname-append", "procname-master", "emperor", "daemonize",
    "daemonize2", "die-on-term", "py-sys-executable", "vacuum", "plugin", "plugins",
    "need-plugin", "binary-path", "exec-as-root", "unprivileged-binary-path", "privileged-binary-patch",
    "unprivileged-binary-patch",
    # Else nobody can tell what a worker is at work on.
    "stats-server", "stats-http", "stats-no-cores",
    # With it uWSGI does not hold Python's lock when it runs our hook before the fork.
    "py-call-uwsgi-fork-hooks",
))  # fmt: skip

# What other options break, and how.
HARMFUL_OPTIONS = {
    # 2.0.30 adds to the deadline which all threads of a worker share, even when another one has just set it to nothing
    # (core/reader.c, `uwsgi_postbuffer_do_in_disk`). Measured: three workers in six loads of 3 s.
    "post-buffering": "makes uWSGI kill workers during uploads: remove it; nginx reads an upload to its end first",
}

# Set by the role for every process of an app; a user's value would be lost or break the launch.
OWN_VARIABLES = frozenset(("RELEASE_ID", "HOME", "USER", "LOGNAME", "VIRTUAL_ENV", "EMPEROR_SERVING", "EMPEROR_APP"))

SOURCES = ("path", "git", "archive", "package")
MOMENTS = ("before_switch", "after_switch")
WORKERS = ("processes", "threads", "lazy_apps", "minimum", "max_requests", "max_lifetime_seconds")


def _fail(where: str, sentence: str) -> None:
    raise AnsibleFilterError(f"{where} {sentence}")


def _require(pattern: re.Pattern[str], value: Any, where: str, sentence: str) -> None:
    if not isinstance(value, str) or not pattern.match(value):
        _fail(where, f"is {value!r}, but {sentence}.")


def _bounded(value: Any, low: int, high: int, where: str, unit: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        _fail(where, f"is {value!r}, but has to be a whole number of {unit} from {low} to {high}.")
    return int(value)


def _given(values: Mapping[str, Any] | None) -> dict[str, Any]:
    """The options a user set; an empty option is as good as none, but 0 is a value to refuse."""
    return {name: value for name, value in (values or {}).items() if value not in (None, "")}


def _relative(value: Any, where: str) -> str:
    if not isinstance(value, str) or not RELATIVE_PATH.match(value) or ".." in value.split("/"):
        _fail(
            where,
            f"is {value!r}, but has to be a path inside the app's source: relative, without '..', "
            "made of letters, digits and . _ + @ - /.",
        )
    return str(value)


def _source(app: Mapping[str, Any], where: str) -> dict[str, Any]:
    source = {kind: value for kind, value in (app.get("source") or {}).items() if value is not None}
    kinds = [kind for kind in SOURCES if kind in source]
    if len(kinds) != 1:
        named = " and ".join(kinds) or "none"
        _fail(f"{where}.source", f"names {named}, but has to name exactly one of {', '.join(SOURCES)}.")
    kind = kinds[0]
    value = source[kind]
    if kind == "package":
        _require(PACKAGE, value, f"{where}.source.package", "has to pin one version, like 'shop==2.1'")
    if kind == "archive":
        _require(
            CHECKSUM,
            value.get("checksum"),
            f"{where}.source.archive.checksum",
            "has to be 'sha256:' and 64 hexadecimal digits; `sha256sum FILE` prints them",
        )
    if kind == "git" and (not value.get("version") or str(value["version"]).startswith("-")):
        _fail(f"{where}.source.git.version", "is missing, but has to name the commit, tag or branch to deploy.")
    if kind == "git" and str(value.get("repo", "-")).startswith("-"):
        _fail(f"{where}.source.git.repo", "has to be the address of a git repository.")
    return {"kind": kind, "exclude": source.get("exclude") or [], kind: value}


def _environment(values: Mapping[str, Any], where: str) -> dict[str, str]:
    result = {}
    for name, value in values.items():
        here = f"{where}.environment.{name}"
        if not isinstance(name, str) or not VARIABLE.match(name):
            _fail(here, "is no name for an environment variable: use letters, digits and underscores.")
        if name in OWN_VARIABLES or name.startswith("UWSGI_"):
            _fail(here, "is set by the role itself: choose another name.")
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            _fail(here, f"is a {type(value).__name__}, but has to be text or a number: put it in quotes.")
        if "\0" in str(value):
            _fail(here, "has a NUL byte, which no environment variable can hold: encode the value (base64).")
        try:
            str(value).encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            _fail(here, "has half of a surrogate pair, which is no text: correct the escape that makes it.")
        result[name] = str(value)
    return result


def _static(values: Mapping[str, Any], where: str) -> dict[str, str]:
    result = {}
    for prefix, directory in values.items():
        here = f"{where}.static[{prefix!r}]"
        if not isinstance(prefix, str) or not URL_PREFIX.match(prefix) or {".", ".."} & set(prefix.split("/")):
            _fail(here, "has to be a URL prefix like '/static': a leading slash, no slash at the end, no '..'.")
        result[prefix] = _relative(directory, here)
    for prefix in result:
        if any(other.startswith(prefix + "/") for other in result):
            _fail(f"{where}.static[{prefix!r}]", "holds another prefix of the same app: give each a path of its own.")
    return result


def _options(values: Mapping[str, Any], where: str) -> dict[str, list[str]]:
    """Raw uWSGI options as lists of texts: an option given several values is repeated in the vassal file."""
    result = {}
    for name, value in values.items():
        here = f"{where}.uwsgi.{name}"
        if not isinstance(name, str) or not OPTION.match(name):
            _fail(here, "is no name of a uWSGI option: write it as in uWSGI's manual, with dashes.")
        if name in MANAGED_OPTIONS:
            _fail(here, f"is set by the role: use `{MANAGED_OPTIONS[name]}` of this app instead.")
        if name in FIXED_OPTIONS or name.startswith("emperor"):
            _fail(here, "is set by the role and cannot be changed for one app: remove it.")
        if name in HARMFUL_OPTIONS:
            _fail(here, f"{HARMFUL_OPTIONS[name]}.")
        texts = []
        for one in value if isinstance(value, list) else [value]:
            if not isinstance(one, (str, int, float)):
                _fail(here, f"is a {type(one).__name__}, but has to be text, a number, true, false or a list of these.")
            text = str(one).lower() if isinstance(one, bool) else str(one)
            if "\n" in text or "\r" in text or "\0" in text:
                _fail(here, "has a line break, which would end the option in the vassal file: remove it.")
            texts.append(text)
        result[name] = texts
    return result


def _hooks(values: Mapping[str, Any], where: str) -> dict[str, list[str]]:
    """The commands of every moment, each of which can be split into words."""
    result: dict[str, list[str]] = {}
    for moment in MOMENTS:
        here = f"{where}.hooks.{moment}"
        commands = values.get(moment) or []
        if not isinstance(commands, list):
            _fail(here, f"is {commands!r}, but has to be a list of commands.")
        for command in commands:
            if not isinstance(command, str) or "\0" in command:
                _fail(here, f"has {command!r}, but has to be a list of commands, each of them text: put it in quotes.")
            try:
                words = shlex.split(command)
            except ValueError as error:
                _fail(here, f"has {command!r}, which cannot be split into words ({error}): correct the quotes.")
            if not words:
                _fail(here, "has an empty command: remove it.")
        result[moment] = list(commands)
    return result


def _domains(values: Iterable[Any], where: str) -> list[str]:
    result = []
    for value in values:
        _require(DOMAIN, value, f"{where}.domains", "has to be a host name in lower case, like shop.example.com")
        result.append(str(value))
    return result


def _workers(app: Mapping[str, Any], where: str, profile: str, reload: str) -> dict[str, Any]:
    """What the user set about the workers; None is what the filter `worker_plan` computes, or what is not limited."""
    value = app.get("workers")
    if value in (None, "auto"):
        value = {}
    if not isinstance(value, Mapping):
        _fail(f"{where}.workers", f"is {value!r}, but has to be auto or a dict with {', '.join(WORKERS)}.")
    unknown = [name for name in value if name not in WORKERS]
    if unknown:
        sentence = f"has {', '.join(map(str, unknown))}, which is no option of it: choose from {', '.join(WORKERS)}."
        _fail(f"{where}.workers", sentence)
    given = _given(value)
    lazy_apps = given.get("lazy_apps", reload == "chain")
    if not isinstance(lazy_apps, bool):
        _fail(f"{where}.workers.lazy_apps", f"is {lazy_apps!r}, but has to be true or false.")
    if reload == "chain" and not lazy_apps:
        sentence = (
            "is false, but with reload: chain every worker loads the app itself: remove it, or choose another mode."
        )
        _fail(f"{where}.workers.lazy_apps", sentence)
    if reload == "chain" and given.get("minimum"):
        # A worker that is to load the new release may be one that ends for lack of work.
        sentence = "does not go with reload: chain, which waits for each worker: remove it, or choose another mode."
        _fail(f"{where}.workers.minimum", sentence)
    counted = {
        kind: _bounded(given[kind], 1, 512, f"{where}.workers.{kind}", unit) if kind in given else None
        for kind, unit in (("processes", "processes"), ("threads", "threads"), ("minimum", "processes"))
    }
    if reload == "chain" and counted["processes"] == 1:
        _fail(
            f"{where}.workers.processes",
            "is 1, but with reload: chain others have to serve while one starts: set it to 2 or more.",
        )
    if counted["minimum"] and counted["processes"] and counted["minimum"] > counted["processes"]:
        sentence = f"is {counted['minimum']}, but workers.processes is {counted['processes']}: set it to that or lower."
        _fail(f"{where}.workers.minimum", sentence)
    limits = {
        kind: _bounded(given[kind], 1, 10**9, f"{where}.workers.{kind}", unit) if kind in given else None
        for kind, unit in (("max_requests", "requests"), ("max_lifetime_seconds", "seconds"))
    }
    return {**counted, "threads": counted["threads"] or PROFILES[profile].threads, "lazy_apps": lazy_apps, **limits}


def _memory(values: Mapping[str, Any], where: str) -> dict[str, int | None]:
    """Sizes in MiB; None for those that are not set."""
    result: dict[str, int | None] = {}
    for kind in ("limit", "worker_recycle"):
        value = _given(values).get(kind)
        found = None if isinstance(value, bool) else MEMORY.match(str(value).upper())
        if value is not None and not found:
            _fail(f"{where}.memory.{kind}", f"is {value!r}, but has to be a number of MiB, or a size like 512M or 2G.")
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
        "socket": f"{run}/{name}/app.sock",
    }


def _one(app: Mapping[str, Any], root: str, run: str) -> dict[str, Any]:
    name = app.get("name")
    _require(
        NAME,
        name,
        "flask_apps[].name",
        "has to start with a lower-case letter and go on with at most 30 lower-case letters, digits, '-' or '_' "
        "(it is also the app's Unix user)",
    )
    where = f"flask_apps[{name}]"
    if name in RESERVED_NAMES:
        _fail(f"{where}.name", "is a system account of the host: choose another name.")
    state = app.get("state") or "present"
    complete: dict[str, Any] = {"name": name, "state": state, "paths": _paths(str(name), root, run)}
    if complete["state"] == "absent":
        return complete

    _require(
        CALLABLE,
        app.get("app"),
        f"{where}.app",
        "has to be 'module:callable', or 'module:factory()' for an application factory",
    )
    python = app.get("python") or {}
    interpreter = python.get("interpreter") or "/usr/bin/python3"
    if not re.match(r"/[A-Za-z0-9._+/-]+\Z", interpreter):
        sentence = f"is {interpreter!r}, but has to be an absolute path like /usr/bin/python3."
        _fail(f"{where}.python.interpreter", sentence)
    requirements = python.get("requirements")
    source = _source(app, where)
    if requirements and source["kind"] == "package":
        sentence = "does not go with source.package, which brings its own requirements: remove it."
        _fail(f"{where}.python.requirements", sentence)
    if python.get("require_hashes") and not requirements:
        _fail(f"{where}.python.require_hashes", "needs a file whose hashes to check: set python.requirements.")
    reload = app.get("reload") or "zerg"
    profile = app.get("profile") or "web"
    if profile not in PROFILES:
        _fail(f"{where}.profile", f"is {profile!r}, but has to be one of {', '.join(PROFILES)}.")
    health = {"path": "/", "status": 200, **_given(app.get("health"))}
    limits = {key: app.get(key) for key in ("max_request_seconds", "max_start_seconds")}
    complete.update(
        app=app["app"],
        source=source,
        python={
            "interpreter": interpreter,
            "requirements": _relative(requirements, f"{where}.python.requirements") if requirements else "",
            "require_hashes": bool(python.get("require_hashes")),
        },
        environment=_environment(app.get("environment") or {}, where),
        domains=_domains(app.get("domains") or [], where),
        static=_static(app.get("static") or {}, where),
        profile=profile,
        workers=_workers(app, where, profile, reload),
        memory=_memory(app.get("memory") or {}, where),
        reload=reload,
        **{
            key: _bounded(60 if value is None else value, 1, 3600, f"{where}.{key}", "seconds")
            for key, value in limits.items()
        },
        max_body_size=app.get("max_body_size") or "16m",
        health={
            "path": health["path"],
            "status": _bounded(health["status"], 100, 599, f"{where}.health.status", "an HTTP status"),
        },
        hooks=_hooks(app.get("hooks") or {}, where),
        uwsgi=_options(app.get("uwsgi") or {}, where),
    )
    _require(URL_PATH, complete["health"]["path"], f"{where}.health.path", "has to be a path like '/healthz'")
    _require(SIZE, complete["max_body_size"], f"{where}.max_body_size", "has to be a size like '16m'")
    return complete


def _unique(apps: Iterable[Mapping[str, Any]]) -> None:
    names: set[str] = set()
    owners: dict[str, str] = {}
    for app in apps:
        name = app["name"]
        if name in names:
            _fail(f"flask_apps[{name}].name", "is used by two apps: every app needs a name of its own.")
        names.add(name)
        if app["state"] == "absent":
            continue
        # An empty list makes the app the host's default server, of which nginx takes one.
        for domain in app["domains"] or [""]:
            if domain in owners and not domain:
                _fail(
                    f"flask_apps[{name}].domains",
                    f"is empty, as it is for {owners['']}: only one app can answer for every domain, "
                    "name the domains of the other.",
                )
            if domain in owners:
                sentence = f"has {domain}, which {owners[domain]} has too: remove it from one of them."
                _fail(f"flask_apps[{name}].domains", sentence)
            owners[domain] = name


def complete_apps(
    apps: Iterable[Mapping[str, Any]], root: str = "/srv/flask_apps", run: str = "/run/emperor"
) -> list[dict[str, Any]]:
    """Fill in and check every app of the list.

    :param apps: the value of ``flask_apps``, types already checked by the role's argument specification.
    :param root: directory that holds one directory per app.
    :param run: directory that holds one directory of sockets per app.
    :raises AnsibleFilterError: with one sentence naming the variable and the cure.
    """
    result = [_one(app, root.rstrip("/"), run.rstrip("/")) for app in apps]
    _unique(result)
    return result


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"apps": complete_apps}
