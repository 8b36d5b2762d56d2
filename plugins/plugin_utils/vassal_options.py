"""The vassal of an app as data: what its wrapper needs, and the options of uWSGI, from the app's complete settings."""

from __future__ import annotations

import math
import posixpath
from collections.abc import Mapping
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils.confined import TASKS
from ansible_collections.flaskops.emperor.plugins.module_utils.releases.settings_files import digest_of
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.modes import MODES

MODULES = "/usr/local/lib/emperor"  # where the role uwsgi installs what workers load
SIDE_TASKS = 50  # those of a side process; a server has 40 threads for what blocks
CODE = "callret:PyRun_SimpleString"

Options = list[tuple[str, str]]


def virtualenv(app: Mapping[str, Any], release: str) -> str:
    """The virtualenv of a release; a link leads there in modes where the vassal file names no release."""
    if MODES[app["reload"]].through_link:
        return f"{app['paths']['home']}/serving/venv"
    return f"{app['paths']['releases']}/{release}/venv"


def environment(app: Mapping[str, Any], release: str, venv: str) -> dict[str, str]:
    """Everything that a process of the app finds in its environment, except what leads it to its release."""
    own = {"HOME": app["paths"]["shared"], "USER": app["name"], "LOGNAME": app["name"], "VIRTUAL_ENV": venv}
    path = f"{venv}/bin:/usr/local/bin:/usr/bin:/bin"
    if app["files"]:  # other files are another environment, and so go the same way
        own["EMPEROR_FILES"] = digest_of(app["files"])
    return {"PATH": path, "LANG": "C.UTF-8", **app["environment"], **own, "RELEASE_ID": release}


def app_environment(app: Mapping[str, Any], release: str) -> dict[str, str]:
    """The environment of a command in a release.

    :param app: completed by `complete_apps`.
    :param release: its ID.
    """
    return environment(app, release, f"{app['paths']['releases']}/{release}/venv")


def tasks(app: Mapping[str, Any], plan: Mapping[str, Any]) -> int:
    """How many processes and threads an app may have at a time."""
    if app["max_tasks"]:
        return int(app["max_tasks"])
    # A power of two, so that one more does not replace the workers.
    return max(TASKS, 1 << math.ceil(math.log2(tasks_needed(plan) + SIDE_TASKS * side_processes(app))))


def side_processes(app: Mapping[str, Any]) -> int:
    """How many side processes of an app there may be at a time: in a switch old and new ones, and scheduled jobs."""
    return 2 * sum(int(one["instances"]) for one in app["background"].values()) + len(app["schedule"])


def side_tasks(app: Mapping[str, Any], plan: Mapping[str, Any]) -> int:
    """How many of them are for its side processes together: what its web workers leave, and at least one for each."""
    return max(tasks(app, plan) - tasks_needed(plan), side_processes(app))


def tasks_needed(plan: Mapping[str, Any]) -> int:
    """Those of two instances side by side: besides threads for requests each worker has some of uWSGI's and ours."""
    return 2 * (int(plan["processes"]) * (int(plan["threads"]) + 4) + 4)


def launch(app: Mapping[str, Any], plan: Mapping[str, Any], release: str, uwsgi: str) -> dict[str, Any]:
    """What the wrapper that starts vassals needs to know."""
    mode, venv, held = MODES[app["reload"]], virtualenv(app, release), app["paths"]["socket"]
    found = environment(app, release, venv)
    found["EMPEROR_APP"] = app["app"]
    if mode.through_link:
        del found["RELEASE_ID"]
        found["EMPEROR_SERVING"] = f"{app['paths']['home']}/serving"
    return {
        "app": app["app"],
        "identifier": app["name"],
        "binary": f"{venv}/bin/uwsgi" if uwsgi == "pyuwsgi" else "/usr/bin/uwsgi-core",
        "environment": found,
        "tasks": str(tasks(app, plan)),
        # All that its web workers do not need, for its side processes together, see sides/store.py.
        **({"side_tasks": str(side_tasks(app, plan))} if side_processes(app) else {}),
        **({"network": app["network"]} if app["network"] != "full" else {}),
        # A listening socket that systemd holds: instances that follow one another share it.
        "socket": held,
        "holder": f"{posixpath.dirname(held)}/holder.sock",
        # Besides, one that is held for each slot.
        **({"clients": "slot"} if mode.slot_socket else {}),
    }


def placeholder(name: str, value: Any) -> tuple[str, str]:
    """What the loader of the app finds in uWSGI's options."""
    return ("set-placeholder", f"emperor-{name}={value}")


def loading(app: Mapping[str, Any], plan: Mapping[str, Any], release: str, uwsgi: str) -> Options:
    """How the app is found and loaded."""
    venv = virtualenv(app, release)
    options = [("strict", "true"), ("master", "true"), ("need-app", "true")]
    if uwsgi == "distro":
        options += [("need-plugin", "python3"), ("virtualenv", venv)]
    if not MODES[app["reload"]].through_link:  # there it is the release that is current when a worker starts
        options.append(("chdir", f"{app['paths']['releases']}/{release}/src"))
    options += [("pythonpath", MODULES), ("module", "emperor_loader:load()")]
    # Else the app finds the wrapper there, and what it starts with it fails.
    options += [("py-sys-executable", f"{venv}/bin/python"), ("single-interpreter", "true"), ("enable-threads", "true")]
    if app["workers"]["batch"]:
        options.append(placeholder("batch", "true"))
    options.append(placeholder("switch-interval", "0.002"))
    if not plan["lazy_apps"]:
        options.append(placeholder("freeze", "true"))
        if app["workers"]["import_threads"]:
            options.append(placeholder("import-threads", "true"))
        if app["workers"]["processes"] == 1:
            options.append(placeholder("alone", "true"))
    return options


def workers(plan: Mapping[str, Any]) -> Options:
    """How many workers there are."""
    options = [("processes", str(plan["processes"])), ("threads", str(plan["threads"]))]
    if plan["lazy_apps"]:
        options.append(("lazy-apps", "true"))
    if plan["minimum"] < plan["processes"]:
        # The default takes three times as long for the first second of work.
        options += [
            ("cheaper", str(plan["minimum"])),
            ("cheaper-algo", "busyness"),
            ("cheaper-overload", "1"),
            ("cheaper-step", str(plan["step"])),
            ("cheaper-busyness-multiplier", "30"),
        ]
    return options


def turnover(app: Mapping[str, Any], plan: Mapping[str, Any], uwsgi: str) -> Options:
    """When a worker is replaced, after its requests."""
    options = []
    if plan["max_requests"]:
        options += [
            ("max-requests", str(plan["max_requests"])),
            ("max-requests-delta", str(plan["max_requests_delta"])),
        ]
    if plan["max_lifetime_seconds"]:
        options += [
            ("max-worker-lifetime", str(plan["max_lifetime_seconds"])),
            ("max-worker-lifetime-delta", str(plan["max_lifetime_delta"])),
        ]
    if plan["threads"] > 1 and (plan["max_lifetime_seconds"] or plan["minimum"] < plan["processes"]):
        # For its age, or when it is one too many, uWSGI ends a worker by SIGWINCH, which wakes one of its threads only.
        # The others would each wait for one more request. So it gets the handler of a reload, which ends all of them.
        if uwsgi == "pyuwsgi":
            load = f"{CODE} import ctypes, pyuwsgi; ctypes.CDLL(pyuwsgi.__file__, mode=ctypes.RTLD_GLOBAL)"
            options.append(("hook-asap", load))
        options.append(("hook-post-fork", "unix_signal:28 gracefully_kill"))
    # For its memory, and when a request takes too long, a worker ends itself: reload-on-rss would read the memory after
    # every request, and has no delta; harakiri works only while no other thread ends a request.
    return [
        *options,
        ("min-worker-lifetime", "10"),
        placeholder("recycle-megabytes", plan["recycle_rss"]),
        placeholder("recycle-delta", plan["recycle_rss_delta"]),
        placeholder("recycle-seconds", app["max_request_seconds"]),
        *([placeholder("slow-seconds", app["slow_request_seconds"])] if app["slow_request_seconds"] else []),
    ]


def limits(app: Mapping[str, Any], backlog: int) -> Options:
    """Sockets, time limits, and what is not logged."""
    run, longest = app["paths"]["run"], app["max_request_seconds"]
    return [
        ("socket", f"{run}/%n.sock"),
        ("stats", f"{run}/%n.stats"),
        ("chmod-socket", "660"),
        ("listen", str(backlog)),
        ("buffer-size", "65535"),  # all that a uwsgi packet may have
        # Twice as many headers: more than nginx takes (1000). uWSGI drops others, or the whole request.
        ("max-vars", "1024"),
        ("no-orphans", "true"),
        ("die-on-term", "true"),
        # uWSGI counts whole seconds, and so its deadline comes up to one too early.
        ("harakiri", str(longest + 1)),
        ("worker-reload-mercy", str(longest + 5)),
        ("disable-logging", "true"),
        ("ignore-sigpipe", "true"),
        ("ignore-write-errors", "true"),
        ("disable-write-exception", "true"),
    ]


def vassal_config(
    app: Mapping[str, Any], plan: Mapping[str, Any], release: str, uwsgi: str = "pyuwsgi", backlog: int = 1024
) -> dict[str, Any]:
    """Make the vassal of an app.

    :param app: completed by `complete_apps`.
    :param plan: its workers, as `worker_plan` plans them.
    :param release: ID of the release.
    :param uwsgi: which uWSGI runs it, ``pyuwsgi`` or ``distro``.
    :param backlog: connections that wait for a free worker.
    :returns: ``launch`` and ``options`` (name and value of each), see `Config`.
    """
    own = [(name, value) for name in sorted(app["uwsgi"]) for value in app["uwsgi"][name]]
    options = loading(app, plan, release, uwsgi) + workers(plan) + turnover(app, plan, uwsgi) + limits(app, backlog)
    return {"launch": launch(app, plan, release, uwsgi), "options": [list(option) for option in [*options, *own]]}
