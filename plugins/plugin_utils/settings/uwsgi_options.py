"""Raw uWSGI options of an app: which the role owns, which are known to do no harm, and their text in the file."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import fail

OPTION = re.compile(r"[a-z0-9][a-z0-9-]*\Z")

# Options that open no socket and no port, start no process, load no other code or options, and leave user, files and
# signals of the vassal alone. Any other one must be named in `uwsgi_unchecked`.
ALLOWED_OPTIONS = re.compile(
    r"(?:add|del|collect)-header|backtrace-depth|buffer-size|cache2?|catch-exceptions|check-cache"
    r"|cheaper-(?:backlog|busyness|overload|rss)-[a-z-]+|cheaper-(?:rss-)?limit-(?:soft|hard)|cpu-affinity"
    r"|dynamic-apps|file-serve-mode|harakiri-verbose|ignore-(?:sigpipe|write-errors)|disable-(?:logging|write-exception)"
    r"|ksm|limit-(?:as|post)|lock-engine|locks?|log-(?:2xx|3xx|4xx|5xx|big|date|format|ioerror|micros|prefix|sendfile|slow"
    r"|x-forwarded-for|zero)|logformat|logformat-strftime|log-format-strftime|manage-script-name|max-fd|memory-report"
    r"|mime-file|no-defer-accept|offload-threads|optimize|py-call-osafterfork|pyargv|python-optimize|queue"
    r"|queue-blocksize|queue-store-sync|reload-on-exception(?:-type|-value|-repr)?|sharedarea|show-config|single-interpreter"
    r"|skip-atexit(?:-teardown)?|so-keepalive|socket-timeout|static-[a-z0-9-]+|check-static|tcp-nodelay"
    r"|thread(?:s)?-stack-?size|thunder-lock|vhost-host|websockets?-[a-z-]+|wsgi-(?:accept-buffers?|disable-file-wrapper"
    r"|env-behaviou?r|lite|manage-chunked-input)"
)

# Options of the vassal that the role owns, and what to set instead.
MANAGED_OPTIONS = {
    "module": "app",
    "wsgi": "app",
    "wsgi-file": "app",
    "callable": "app",
    "mount": "app",
    "chdir": "environment.PYTHONPATH",
    "pythonpath": "environment.PYTHONPATH",
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
    # Without them the requests of a worker cannot be seen.
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


def uwsgi_options(values: Mapping[str, Any], where: str, unchecked: Collection[str] = ()) -> dict[str, list[str]]:
    """Raw uWSGI options as lists of texts: an option given several values is repeated in the vassal file.

    :param unchecked: names of options beyond those that are known to do no harm.
    """
    result = {}
    for name, value in values.items():
        here = f"{where}.uwsgi.{name}"
        if not isinstance(name, str) or not OPTION.match(name):
            fail(here, "is no name of a uWSGI option: write it as in uWSGI's manual, with dashes.")
        if name in MANAGED_OPTIONS:
            fail(here, f"is set by the role: use `{MANAGED_OPTIONS[name]}` of this app instead.")
        if name in FIXED_OPTIONS or name.startswith("emperor"):
            fail(here, "is set by the role and cannot be changed for one app: remove it.")
        if name in HARMFUL_OPTIONS:
            fail(here, f"{HARMFUL_OPTIONS[name]}.")
        if not ALLOWED_OPTIONS.fullmatch(name) and name not in unchecked:
            fail(
                here,
                "is not known to leave sockets, processes, files and code of the app alone: remove it, or, if you know "
                "what it does, add its name to `uwsgi_unchecked` of this app.",
            )
        texts = []
        for one in value if isinstance(value, list) else [value]:
            if not isinstance(one, (str, int, float)):
                fail(here, f"is a {type(one).__name__}, but must be text, a number, true, false or a list of these.")
            text = str(one).lower() if isinstance(one, bool) else str(one)
            if "\n" in text or "\r" in text or "\0" in text:
                fail(here, "has a line break, which would end the option in the vassal file: remove it.")
            texts.append(text)
        result[name] = texts
    return result
