"""What is compared: servers for Flask apps, and one by one the settings of ours. And what they are asked."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

# Our apps, one per profile, and their host names.
PROFILES = {"web": "web.test", "slow_io": "slow-io.test", "inference": "inference.test"}
MODEL_MB = 200


class Workload(NamedTuple):
    """A load: every client sends its next request as soon as it has the response.

    :ivar unit: what its figure counts per second.
    :ivar body: bytes that are posted, if any.
    :ivar pause: milliseconds before a client asks again.
    """

    title: str
    path: str
    connections: int
    seconds: int
    unit: str = "requests"
    body: int = 0
    pause: int = 0


class Silent(Exception):
    """A server does not answer; the text has its last words."""


WAIT = 0.2  # seconds
UPLOAD_MIB = 8
WORKLOADS = {
    "trivial": Workload("trivial JSON", "/version", 32, 3),
    "page": Workload("page from a template (CPU-bound)", "/", 32, 3),
    # Long enough for the last answers, which come too late to count, to weigh little.
    "wait": Workload("200 ms of waiting, 64 clients", f"/slow?ms={WAIT * 1000:.0f}", 64, 10),
    "static": Workload("static file", "/static/shop.css", 32, 3),
    "upload": Workload(f"uploads of {UPLOAD_MIB} MiB", "/upload", 4, 3, "MiB", body=UPLOAD_MIB * 1024 * 1024),
}
# Quick requests, alone and beside others: more slow ones than some servers work on at a time, half of what ours do; and
# ones that compute, in processes in which quick ones want to do so, too.
QUICK = Workload("quick", "/version", 4, 5)
BESIDE = {
    "slow": Workload("that take 1 s", "/slow?ms=1000", 16, 7),
    "computing": Workload("that compute", "/cpu?ms=300", 2, 7),
}
# Not in the rounds: what they do to the memory counts, not how fast they are.
EVERYWHERE = Workload("all workers have worked", "/version", 64, 3)
# Slow enough that a worker is old enough to be replaced (min-worker-lifetime) before it has leaked much.
LEAK_KB = 64
LEAK = Workload("leak", f"/leak?kb={LEAK_KB}", 16, 60, pause=30)
LEAK_MB = LEAK.connections * LEAK.seconds * 1000 // LEAK.pause * LEAK_KB // 1024


class Server(NamedTuple):
    """A server, or ours with one setting changed.

    :ivar title: its name in the tables; its unit, socket, site and host name follow from it.
    :ivar slots: requests that it works on at a time.
    :ivar command: starts it; empty for an app that the Emperor runs.
    :ivar reach: the protocol that nginx speaks with it; or a port where clients reach it without nginx; or the host
        name of an app, which has its site already.
    :ivar location: further lines of its site.
    :ivar keep_alive: whether clients keep their connections.
    :ivar also: workloads for this setting, besides `trivial` and `page`.
    """

    title: str
    slots: int
    command: str
    reach: str | int
    environment: tuple[tuple[str, str], ...] = ()
    location: str = ""
    keep_alive: bool = True
    also: tuple[str, ...] = ()
    user: str = "web"

    @property
    def name(self):
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")

    @property
    def host(self):
        """The host name by which nginx knows it."""
        return self.reach if self.reach in PROFILES.values() else f"{self.name}.bench"


def competitors(processes, threads, processors):
    """The others, tuned ones with as many processes and threads as our profile `web`."""
    several = f"--workers {processes} --threads {threads}"
    granian = f"bin/granian --interface wsgi --factory --workers {processes} --blocking-threads {threads}"
    sync = 2 * processors + 1  # what gunicorn's documentation recommends
    return [
        Server("Flask's own server, no nginx", 64, "bin/flask --app shop run --port 8001", 8001),
        Server("waitress", 4,
               "bin/waitress-serve --unix-socket={socket} --unix-socket-perms=660 --call shop:create_app", "http"),
        Server("gunicorn", 1, "bin/gunicorn --bind unix:{socket} shop:create_app()", "http"),
        Server(f"gunicorn {sync} sync", sync,
               f"bin/gunicorn --bind unix:{{socket}} --preload --workers {sync} shop:create_app()", "http"),
        Server(f"gunicorn gthread {processes} x {threads}", processes * threads,
               f"bin/gunicorn --bind unix:{{socket}} --preload --keep-alive 75 {several} shop:create_app()", "http"),
        Server(f"granian {processes} x {threads}", processes * threads,
               f"{granian} --uds {{socket}} shop:create_app", "http"),
        Server(f"granian {processes} x {threads}, no nginx", processes * threads,
               f"{granian} --port 8002 shop:create_app", 8002),
        Server("CGI (fcgiwrap), 8 at a time", 8, "/usr/sbin/fcgiwrap -c 8 -s unix:{socket}", "fastcgi"),
    ]  # fmt: skip


BASELINE = "ours, nothing changed"
SWITCH, BATCH = "Python's own switch interval", "without batch scheduling"
RAW = "raw WSGI instead of Flask"


class Setting(NamedTuple):
    """One thing changed in a vassal file.

    :ivar add: options it gets, which replace those of the same name.
    :ivar drop: lines it loses, by their beginnings.
    """

    add: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    reach: str = "uwsgi"
    environment: tuple[tuple[str, str], ...] = ()
    location: str = ""
    keep_alive: bool = True
    also: tuple[str, ...] = ()


WATCH = "set-placeholder = emperor-recycle-"
STATIC = "static-map = /static=shop/static"
# By the names of the tables.
SETTINGS = {
    BASELINE: Setting(),
    # Tells which differences mean nothing.
    "nothing changed, measured again": Setting(also=("wait", "static", "upload")),
    "thunder-lock": Setting(add=("thunder-lock = true",)),
    "request logging": Setting(drop=("disable-logging",)),
    "without single-interpreter": Setting(drop=("single-interpreter",)),
    "without harakiri": Setting(drop=("harakiri",)),
    "without a watch on memory and requests": Setting(drop=(WATCH,)),
    "reload-on-rss": Setting(drop=(WATCH,), add=("reload-on-rss = 1024",)),
    SWITCH: Setting(drop=("set-placeholder = emperor-switch-interval",)),
    BATCH: Setting(drop=("set-placeholder = emperor-batch",), also=("wait", "upload")),
    "py-call-osafterfork": Setting(add=("py-call-osafterfork = true",)),
    "PYTHONOPTIMIZE=2": Setting(environment=(("PYTHONOPTIMIZE", "2"),)),
    "1 process": Setting(add=("processes = 1",), also=("wait",)),
    "2 processes": Setting(add=("processes = 2",), also=("wait",)),
    "8 processes": Setting(add=("processes = 8",), also=("wait",)),
    "1 thread": Setting(add=("threads = 1",), also=("wait",)),
    "4 threads": Setting(add=("threads = 4",), also=("wait",)),
    "16 threads": Setting(add=("threads = 16",), also=("wait",)),
    "32 threads": Setting(add=("threads = 32",), also=("wait",)),
    "lazy-apps": Setting(add=("lazy-apps = true",), drop=("set-placeholder = emperor-freeze",)),
    "without gc.freeze": Setting(drop=("set-placeholder = emperor-freeze",)),
    "offload-threads": Setting(add=("offload-threads = 2",)),
    "static-map": Setting(add=(STATIC,), also=("static",)),
    "static-map, offload-threads": Setting(add=(STATIC, "offload-threads = 2"), also=("static",)),
    "post-buffering": Setting(add=("post-buffering = 65536",), also=("upload",)),
    "nginx: uwsgi_buffering off": Setting(location="uwsgi_buffering off;"),
    "nginx: uwsgi_request_buffering off": Setting(location="uwsgi_request_buffering off;", also=("upload",)),
    "nginx: access_log off": Setting(location="access_log off;"),
    "HTTP (http-socket)": Setting(
        drop=("socket",), add=("http-socket = {run}/%n.sock",), reach="http", also=("upload",)),
    "HTTP with keep-alive (http11-socket)": Setting(
        drop=("socket",), add=("http11-socket = {run}/%n.sock",), reach="http", also=("upload",)),
    "clients without keep-alive": Setting(keep_alive=False),
    # Not a setting, but the limit of all: what is left when the app does nothing.
    RAW: Setting(drop=("module",), add=("wsgi-file = {folder}/raw.py",)),
}  # fmt: skip


def changed(vassal, setting, run, folder):
    """The section [uwsgi] of a vassal file with a setting changed, and its own socket and statistics in `run`.

    :raises ValueError: the file has no line that the setting drops, so that nothing would be measured.
    """
    lines = vassal.partition("[uwsgi]\n")[2].splitlines()
    for beginning in setting.drop:
        if not any(line.startswith(beginning) for line in lines):
            raise ValueError(f"no line of the vassal file begins with '{beginning}'")
    added = [line.format(run=run, folder=folder) for line in setting.add]
    gone = (*(line.partition("=")[0] for line in added), *setting.drop)
    kept = [line for line in lines if not line.startswith(gone)]
    text = "\n".join(["[uwsgi]", *kept, *added, ""])
    return re.sub(r"^(socket|stats) = .*/%n", rf"\1 = {run}/%n", text, flags=re.MULTILINE)


def number(vassal, option):
    return int(re.findall(rf"^{option} = (\d+)$", vassal, re.MULTILINE)[-1])


def ours(title, vassal, setting, run, folder):
    """Our app in a unit of its own with one setting changed, and the file that goes with it."""
    text = changed(vassal, setting, run, folder)
    launch = vassal.partition("[uwsgi]\n")[0]
    binary = re.search(r"^binary = (.*)$", launch, re.MULTILINE)[1]
    environment = json.loads(re.search(r"^environment = (.*)$", launch, re.MULTILINE)[1])
    server = Server(
        title,
        number(text, "processes") * number(text, "threads"),
        "",
        setting.reach,
        (*environment.items(), *setting.environment),
        setting.location,
        setting.keep_alive,
        setting.also,
        environment["USER"],
    )
    return server._replace(command=f"{binary} --ini {folder}/{server.name}.ini --binary-path {binary}"), text
