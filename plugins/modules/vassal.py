#!/usr/bin/python
"""Ansible module: make an app run as its vassal file says, or not at all, and never worse than before."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import pwd
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flaskops.emperor.plugins.module_utils import control_group, processes, uwsgi_client
from ansible_collections.flaskops.emperor.plugins.module_utils.exclusive import Busy, exclusive
from ansible_collections.flaskops.emperor.plugins.module_utils.links import link, target
from ansible_collections.flaskops.emperor.plugins.module_utils.processes import Process
from ansible_collections.flaskops.emperor.plugins.module_utils.secrets import OPEN_VARIABLES, censor
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal_file import (
    COLOURS,
    Place,
    complete,
    environment,
    generation_of,
    launch,
    number,
    read,
    rehearsal,
    rehearsed,
    shown,
)

DOCUMENTATION = r"""
module: vassal
short_description: Make an app run as its vassal file says, or leave it as it was
version_added: 1.0.0
description:
  - An app has two places for a vassal, C(blue) and C(green), each with a file, a socket and a statistics socket of its
    own. Usually one is taken; during a switch both may be.
  - V(present) starts the new configuration once on a private socket, as the app's user, and asks it the health question
    (preflight). Only if it answers well, it goes over to it in the way O(reload) says. What ran before is remembered.
  - V(measured) is the preflight alone, and keeps the memory the app used in it. Nothing that runs is touched.
  - V(settled) ends what ran before, after its requests. V(returned) goes back to it instead.
  - A run that was killed at any step is healed by the next one.
options:
  name:
    description: Name of the app, also its Unix user and its name in the journal.
    type: str
    required: true
  directory:
    description: Directory of the vassal files.
    type: path
    required: true
  run:
    description: Directory of the app's sockets.
    type: path
    required: true
  state:
    description:
      - V(present) lets the app run as O(content) says.
      - V(measured) rehearses O(content) and writes what it uses to O(size), unless it is written there already.
      - V(settled) lets nothing else of the app run; V(returned) takes the last V(present) back, until V(settled).
      - V(absent) ends the app after its running requests.
    type: str
    choices: [present, measured, settled, returned, absent]
    default: present
  content:
    description:
      - The vassal file's text, with the sections C([launch]) and, last, C([uwsgi]). Needed when O(state=present)
        or O(state=measured).
    type: str
  reload:
    description:
      - How to go over to a changed configuration.
      - V(beside) starts a second instance, and leaves both running.
      - V(in_place) lets the running instance reload itself.
      - V(chain) lets its workers load the release to which O(link) leads, one at a time.
      - Where the running instance cannot go over in that way, a second one is started beside it.
    type: str
    choices: [beside, in_place, chain]
    default: beside
  link:
    description: The symbolic link through which workers find the release. Needed when O(reload=chain).
    type: path
  release:
    description: Directory of the release it has to lead to. Needed when O(reload=chain).
    type: path
  upstream:
    description:
      - Symbolic link that always leads to the socket to which requests have to go, wherever the app runs now. nginx
        follows it at each request and need not be reloaded. Its directory has to outlive a reboot.
    type: path
  size:
    description:
      - File of the release in which the memory it uses with one worker is kept. Needed when O(state=measured).
    type: path
  rehearsed:
    description:
      - What V(measured) returned in the same run. When it is O(content) that was rehearsed, V(present) does not
        rehearse it again.
    type: str
    default: ""
  wrapper:
    description: The program by which the Emperor starts vassals.
    type: path
    default: /usr/local/libexec/emperor-wrapper
  health_path:
    description: Path to ask for.
    type: str
    default: /
  health_status:
    description: Status the app has to answer.
    type: int
    default: 200
  health_host:
    description: Host header of that request.
    type: str
    default: localhost
  start_timeout:
    description: Seconds the app may take to start and answer.
    type: int
    default: 60
  drain_timeout:
    description: Seconds the running requests of an instance may take to end; what runs on then is killed.
    type: int
    default: 60
  memory_reserve:
    description: MiB of memory that have to stay free while two instances run side by side.
    type: int
    default: 64
  memory_limit:
    description:
      - MiB of memory that all instances of the app may use together, when O(state=present) or O(state=settled). Until
        V(settled) a former, higher limit stays. 0 changes none.
      - The kernel kills a process of the app that goes beyond. Control groups of version 1 cannot do that.
    type: int
    default: 0
attributes:
  check_mode:
    description: Says what would be done.
    support: full
  diff_mode:
    description: Shows the change of the vassal file, without the values of environment variables.
    support: full
author:
  - flaskops maintainers (@flaskops)
"""

EXAMPLES = r"""
- name: Run the release
  flaskops.emperor.vassal:
    name: shop
    directory: /etc/emperor/vassals
    run: /run/emperor/shop
    content: "{{ lookup('ansible.builtin.template', 'vassal.ini.j2') }}"
    upstream: /srv/flask_apps/shop/upstream.sock
    health_path: /healthz

- name: See that a release starts, and how much memory it needs
  flaskops.emperor.vassal:
    name: shop
    directory: /etc/emperor/vassals
    run: /run/emperor/shop
    state: measured
    content: "{{ lookup('ansible.builtin.template', 'vassal.ini.j2') }}"
    size: /srv/flask_apps/shop/releases/3f2a9c01d4e5/size.json

- name: End what ran before
  flaskops.emperor.vassal:
    name: shop
    directory: /etc/emperor/vassals
    run: /run/emperor/shop
    upstream: /srv/flask_apps/shop/upstream.sock
    state: settled
"""

RETURN = r"""
generation:
  description: Names the vassal file's content; the app answers it in the header X-Vassal. Empty when no app runs.
  type: str
  returned: when O(state=present) or O(state=returned)
size:
  description: Bytes that the app uses with one worker, as C(total), C(private) and C(rss); empty when not known.
  type: dict
  returned: when O(state=measured)
  sample: {"total": 52428800, "private": 8388608, "rss": 47185920}
rehearsed:
  description: Names what was rehearsed; empty when nothing had to be.
  type: str
  returned: when O(state=measured)
"""

HEADER = "x-vassal"
STATES = ("present", "measured", "settled", "returned", "absent")
MIB = 1024 * 1024
PAUSE = 0.1  # seconds between two looks
PATIENCE = 2  # seconds for the first answer of an app that starts
LOG_LINES = 25
# A stopping instance without a request that still runs after so many seconds hangs: nothing is lost by killing it.
HANGS = 5
# Seconds after which a stopping worker is told again.
AGAIN = 2
# So often may a worker die while it loads the app before it counts as hopeless.
DEATHS = 3
# So often, for a second each, may its master not answer for the same reason before a worker accepts.
SILENCES = 4
# Seconds after its requests within which the Emperor has noticed, stopped and buried a vassal.
EMPEROR = 15
# Lets the kernel kill the rehearsal when the module is killed: nobody else would end it then.
WITH_PARENT = ["setpriv", "--pdeathsig=KILL"]


class Unhealthy(Exception):
    """The app does not answer as it should; the text says what it does instead."""


class Stop(Unhealthy):
    """There is nothing to wait for any more."""


@dataclass(frozen=True)
class Before:
    """What ran before a switch began; kept in a file until the switch is settled.

    :ivar colour: its place, empty when the app did not run.
    :ivar content: its vassal file.
    :ivar release: where the link led, empty when there was none.
    :ivar limit: of its memory, in bytes; empty when there was none.
    """

    colour: str
    content: str
    release: str
    limit: str = ""


class App:
    """The vassals of one app.

    :param params: the module's parameters.
    """

    def __init__(self, params: dict[str, Any]) -> None:
        self.params = params
        self.name: str = params["name"]
        self.places = [Place(self.name, colour, params["directory"], params["run"]) for colour in COLOURS]
        self.memory = os.path.join(params["directory"], self.name + ".before")  # not "*.ini": no vassal
        self.limit = os.path.join(params["directory"], self.name + ".limit")

    @property
    def taken(self) -> list[Place]:
        """The places with a vassal file, the older file first."""
        taken = [place for place in self.places if os.path.exists(place.file)]
        return sorted(taken, key=lambda place: os.stat(place.file).st_mtime_ns)

    @property
    def others(self) -> list[Place]:
        """What has to end: all but the newest, also where a run was killed after it had removed the file."""
        taken = self.taken
        return [*taken[:-1], *(place for place in self.places if place not in taken and os.path.lexists(place.stats))]

    @property
    def scraps(self) -> list[str]:
        """Files of a run that was killed: those of its rehearsal, and what it had not written to the end."""
        links = filter(None, (self.params["link"], self.params["upstream"]))
        files = [self.memory, self.limit, *(place.file for place in self.places), *links]
        unfinished = [f"{file}.new" for file in files if os.path.lexists(f"{file}.new")]
        return [*glob.glob(os.path.join(self.params["run"], "preflight.*")), *unfinished]

    def place(self, colour: str) -> Place:
        return self.places[COLOURS.index(colour)]

    # What ran before

    def remember(self, place: Place | None) -> None:
        """Keep what runs now for a return."""
        limit = read(self.limit) or ""
        before = Before(place.colour if place else "", (place and place.content) or "", self.leads_to, limit)
        write(self.memory, json.dumps(asdict(before)), 0, 0)

    @property
    def before(self) -> Before | None:
        """What ran before the switch that is not settled yet."""
        text = read(self.memory)
        if text is None and len(self.taken) > 1:  # somebody removed our note
            older = self.taken[0]
            return Before(older.colour, older.content or "", self.leads_to, read(self.limit) or "")
        return None if text is None else Before(**json.loads(text))

    @property
    def contents(self) -> list[str]:
        """The vassal files that are there, and the one to return to."""
        before = self.before
        return [text for text in (*(place.content for place in self.places), before and before.content) if text]

    # The size of the release

    @property
    def measured(self) -> dict[str, Any]:
        """What was rehearsed, and what it used (null where the kernel did not tell); empty when it never was."""
        text = read(self.params["size"]) if self.params["size"] else None
        return json.loads(text) if text else {}

    # The limit of its memory

    @property
    def limited(self) -> bool:
        """Whether the limit is the wanted one, if one is wanted."""
        return not self.wanted or self.holds(self.wanted)

    @property
    def wanted(self) -> str:
        """The limit that the settings ask for, in bytes; empty when they ask for none."""
        return str(self.params["memory_limit"] * MIB) if self.params["memory_limit"] else ""

    def holds(self, limit: str) -> bool:
        """Whether this is the limit, in bytes, now and for the next instance."""
        group = control_group.of_app(self.name)
        current = read(str(group / "memory.max")) if group else limit
        return read(self.limit) == (current or "").strip() == limit

    def confine(self, limit: str) -> bool:
        """Limit the memory, in bytes: where the Emperor reads it for the next instance, and now.

        :returns: whether that changed anything.
        """
        if not limit or self.holds(limit):
            return False
        write(self.limit, limit, 0, 0)
        if group := control_group.of_app(self.name):
            group.joinpath("memory.max").write_text(limit)
        return True

    # The links

    @property
    def leads_to(self) -> str:
        """The release to which the link of the mode chain leads; empty when there is none."""
        return target(self.params["link"] or "")

    def lead(self, release: str) -> None:
        """Let it lead to a release."""
        if self.params["link"] and release:
            link(release, self.params["link"])

    @property
    def visited(self) -> str:
        """The socket to which visitors have to come: that of what was started last; empty when the app does not run."""
        taken = self.taken
        return visited(taken[-1], taken[-1].content or "") if taken else ""

    @property
    def reached(self) -> bool:
        """Whether they come there."""
        return not self.params["upstream"] or target(self.params["upstream"]) == self.visited

    def receive(self, sock: str) -> bool:
        """Let visitors come to a socket, from one moment to the next. Returns whether that changed anything."""
        return bool(self.params["upstream"]) and link(sock, self.params["upstream"])

    # Writing

    def write(self, place: Place, content: str) -> None:
        """Write a vassal file: the Emperor starts or reloads the vassal."""
        user = pwd.getpwnam(self.name)
        before = max((os.stat(taken.file).st_mtime for taken in self.taken), default=0)
        # The Emperor compares whole seconds: two changes within one would be one to him. And by its time we know the
        # newer one of two files, though the clock may have been set back.
        write(place.file, content, user.pw_uid, user.pw_gid, modified=max(time.time(), int(before) + 1))

    # Looking

    def look(self, sock: str, generation: str, patience: float | None = None) -> None:
        """Ask the health question once.

        :param patience: seconds to wait for an answer; the parameter start_timeout if None.
        :raises Unhealthy: when the answer is not that of a healthy instance of this generation.
        """
        wanted, path = self.params["health_status"], self.params["health_path"]
        patience = self.params["start_timeout"] if patience is None else patience
        try:
            answer = uwsgi_client.request(sock, path, self.params["health_host"], timeout=patience)
        except OSError as error:
            raise Unhealthy(f"it does not answer ({error.strerror or error})") from error
        if answer.status != wanted:
            begin = re.sub(r"\s+", " ", answer.body[:300].decode("utf-8", "replace")).strip()
            raise Unhealthy(f"it answers {path} with status {answer.status or 'none'} instead of {wanted}: {begin}")
        if answer.headers.get(HEADER, "") != generation:
            raise Unhealthy("an instance of another generation answers")

    def wait(self, sock: str, generation: str, seconds: float, hopeless: Callable[[], bool] | None = None) -> None:
        """Wait until a healthy instance of this generation answers.

        :param seconds: how long to wait.
        :param hopeless: called before every look; tells whether somebody accepts, raises Stop when there is nothing to
            wait for, and Unhealthy when nobody would answer yet, so that a question would only wait in the queue.
        :raises Unhealthy: with what it last did.
        """
        deadline = time.monotonic() + seconds
        # While nobody accepts, a question waits in the queue, and nobody notices when all is hopeless. So ask again;
        # once somebody accepts, with twice the patience each time: an app that is slow to answer gets its time.
        first = patience = min(PATIENCE, self.params["start_timeout"])
        while True:
            accepting = False
            try:
                accepting = bool(hopeless and hopeless())
                self.look(sock, generation, patience if hopeless else None)
                return
            except Stop:
                raise
            except Unhealthy as reason:
                if time.monotonic() > deadline:
                    raise Unhealthy(f"after {seconds:.0f} s {reason}") from reason
                if not accepting:
                    patience = first
                elif isinstance(reason.__cause__, TimeoutError):
                    patience = min(2 * patience, self.params["start_timeout"])
            time.sleep(PAUSE)

    def healthy(self, place: Place, patience: float = 0) -> bool:
        """Whether a place has an instance that answers well, to whom visitors come."""
        content = place.content or ""
        try:
            for sock in dict.fromkeys((place.socket, visited(place, content))):
                self.wait(sock, generation_of(content), patience)
        except Unhealthy:
            return False
        return True

    def journal(self, since: float) -> str:
        """What the app wrote to the journal since a moment (seconds since 1970)."""
        command = ["journalctl", "--no-pager", "--quiet", "--output=cat"]
        command += [f"--since=@{since:.0f}", f"--identifier={self.name}"]
        return excerpt(subprocess.run(command, capture_output=True, text=True, errors="replace", check=False).stdout)


def visited(place: Place, content: str) -> str:
    """The socket on which visitors reach a place: the app's held one, or the place's own."""
    if not content:
        return ""
    found = launch(content)
    return place.socket if found.get("visitors") == "own" else found.get("socket", place.socket)


def write(path: str, content: str, uid: int, gid: int, modified: float | None = None) -> None:
    """Put a file in its place in one step, readable for its owner alone.

    :param modified: time of its last change, seconds since 1970; now if None.
    """
    staged = path + ".new"  # beside it, so that the rename is atomic; not "*.ini"
    remove(staged)
    # Exclusively: in a directory of the app's user, a link may wait there for root to write through.
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
    with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(content)
        file.flush()
        os.fchown(file.fileno(), uid, gid)
        if modified:
            os.utime(file.fileno(), (modified, modified))
        os.fsync(file.fileno())
    os.replace(staged, path)


def remove(path: str) -> None:
    """Remove a file if it is there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


# --- preflight


def preflight(app: App, content: str, generation: str) -> processes.Memory | None:
    """Start the app once on a socket of its own, with everything as it will be, and ask the health question.

    :returns: what it uses with one worker, None where the kernel does not tell.
    :raises Unhealthy: with the reason and the app's own last words.
    """
    run, user = app.params["run"], pwd.getpwnam(app.name)
    file, sock, stats = (os.path.join(run, f"preflight.{kind}") for kind in ("ini", "sock", "stats"))
    text = rehearsal(content, run)
    if app.params["release"]:
        text = text.replace(app.params["link"], app.params["release"])
    write(file, text, user.pw_uid, user.pw_gid)
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        process = subprocess.Popen(
            [*WITH_PARENT, app.params["wrapper"], "--ini", file], cwd="/", env={}, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, text=True,
            user=user.pw_uid, group=user.pw_gid, extra_groups=[],
        )  # fmt: skip

        dying = deaths(stats)

        def hopeless() -> bool:
            if process.poll() is not None:
                raise Stop(f"it ends before it answers (exit code {process.returncode})")
            return dying()

        try:
            app.wait(sock, generation, app.params["start_timeout"], hopeless)
            with contextlib.suppress(OSError):
                return processes.memory(processes.of_file(file, user.pw_uid), user.pw_uid, user.pw_gid)
            return None
        except Unhealthy as reason:
            output.seek(0)
            raise Unhealthy(f"{reason}\n{excerpt(output.read())}") from reason
        finally:
            end(process)
            for leftover in (file, sock, stats):
                remove(leftover)


def end(process: subprocess.Popen[str]) -> None:
    """End the rehearsal and its children: politely, then for good."""
    for means, seconds in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
        try:
            os.killpg(process.pid, means)
            process.wait(seconds)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # workers that outlived their master


# What uWSGI says of itself at every start, however well or badly the app does.
CHATTER = re.compile(
    r"^\s*(\*\*\* (WARNING: you have enabled harakiri|Starting|Operational|uWSGI is running|Python threads|has_emperor"
    r"|Stats server)"
    r"|compiled with|os: |nodename|machine: "
    r"|clock source|pcre jit|detected |current working|chdir\(\)|your |lock engine|thunder lock|uwsgi (zerg )?socket"
    r"|zerg sockets|Python version|--- Python VM|Python main|python threads|mapped |spawned |Set PythonHome"
    r"|\[uWSGI\] getting|.*announcing my loyalty|.*received message \d from emperor"
    r"|setting procname|unable to find|gracefully|setgid|setuid|set close-on-exec|SIGINT/SIGTERM|goodbye|VACUUM"
    r"|worker \d+ buried|running \"(call|callret|unix_signal):)",
    re.IGNORECASE,
)


def excerpt(log: str) -> str:
    """The end of a log, without uWSGI's chatter."""
    return "\n".join([line for line in log.splitlines() if line.strip() and not CHATTER.match(line)][-LOG_LINES:])


def check_memory(app: App, content: str, used: processes.Memory | None) -> None:
    """See that the host has room for a second instance.

    Its size is the rehearsal's, which had one worker, and for each other worker what that one shared with nobody.

    :raises Unhealthy: when there is not enough memory.
    """
    if used is None:
        return
    needed = used.total + max(number(content, "processes") - 1, 0) * used.private
    available, reserve = processes.available_memory(), app.params["memory_reserve"] * MIB
    if needed > available - reserve:
        raise Unhealthy(
            f"a second instance beside the running one needs about {needed // MIB} MiB, but of the host's "
            f"{available // MIB} MiB of available memory {reserve // MIB} MiB have to stay free "
            "(flask_apps_memory_reserve): set reload of this app to chain or graceful, or workers.processes lower, "
            "or give the host more memory"
        )


# --- statistics


def statistics(sock: str) -> dict[str, Any] | None:
    """What an instance says of itself on its statistics socket; None when it says nothing."""
    try:
        return uwsgi_client.statistics(sock, timeout=2)
    except (OSError, ValueError):
        return None


def workers(stats: dict[str, Any]) -> list[dict[str, Any]]:
    """The workers that run."""
    return [one for one in stats["workers"] if one["pid"] > 0 and one["status"] != "cheap"]


def serves_any(stats: dict[str, Any]) -> bool:
    """Whether a worker accepts requests, or would be started for one: a cheap one is when a question comes."""
    running = workers(stats)
    return any(one["accepting"] for one in running) or all(one["status"] == "cheap" for one in stats["workers"])


def idle(place: Place) -> bool:
    """Whether an instance says that it has no request."""
    stats = statistics(place.stats)
    return stats is not None and not any(core["in_request"] for one in workers(stats) for core in one["cores"])


def deaths(sock: str) -> Callable[[], bool]:
    """A function that raises Stop when workers die again and again and none of them serves, and before Unhealthy.

    It tells whether one accepts requests, or would be started for one.

    :param sock: the statistics socket of the instance.
    """
    starts: dict[int, int] = {}
    silences = 0

    def dying() -> bool:
        nonlocal silences
        try:
            stats = uwsgi_client.statistics(sock, timeout=1)
        except TimeoutError:
            # A master is there and has its hands full. Between two batches of workers that die it may answer once.
            silences += 1
            if silences >= SILENCES:
                raise Stop("its workers die as soon as they start") from None
            raise Unhealthy("none of its workers has loaded the app") from None
        except (OSError, ValueError):
            return False  # it loads the app, and does not listen yet
        if serves_any(stats):
            silences = 0
            return True
        for one in stats["workers"]:
            first = starts.setdefault(one["id"], one["respawn_count"])
            if one["respawn_count"] - first >= DEATHS:
                raise Stop("its workers die as soon as they start")
        raise Unhealthy("none of its workers has loaded the app")

    return dying


def watch(place: Place) -> Callable[[], bool]:
    """A function that raises Stop when the instance of a place cannot come up any more.

    It tells whether it accepts requests.
    """
    stats = statistics(place.stats)
    running = place.instance()
    master = [process for process in running if stats and process.pid == stats["pid"]]
    former = running[1:]
    dying = deaths(place.stats)
    masters: set[Process] = set()

    def hopeless() -> bool:
        if master and not processes.alive(master[0]):
            raise Stop("it ends when it starts")
        if any(processes.alive(worker) for worker in former):
            return False  # it ends its requests first, and accepts no others
        accepting = dying()
        if not accepting:
            masters.update(place.instance()[:1])
            if len(masters) > DEATHS:
                raise Stop("it ends as soon as it starts, again and again")
        return accepting

    return hopeless


# --- ending what runs


def stop(app: App, place: Place) -> None:
    """End the instance of a place after its running requests; what does not end is killed."""
    instance, drain = place.instance(), app.params["drain_timeout"]
    family = processes.with_descendants(instance)
    if instance and visited(place, place.content or "") == place.socket:
        # Nobody comes here any more, but who came may wait in its queue, which ends with the instance.
        wait_idle(place, drain)
    remove(place.file)
    bury(app, family, instance[1:], drain + EMPEROR)
    # The statistics last: they tell the next run that this one was killed meanwhile.
    for leftover in (place.socket, place.stats):
        remove(leftover)


def bury(app: App, family: list[Process], takers: list[Process], seconds: float) -> None:
    """Wait until processes that were told to stop have ended, and kill those that never will.

    :param takers: the workers among them.
    :param seconds: how long their requests may take.
    """
    user, run = pwd.getpwnam(app.name), app.params["run"]
    told = rested = began = time.monotonic()
    while any(processes.alive(process) for process in family):
        now = time.monotonic()
        if processes.connections(takers, user.pw_uid, user.pw_gid, run + "/") != 0:
            rested = now
        if now > began + seconds or now - rested > HANGS:
            processes.kill(family)
        elif now - told > AGAIN:
            # uWSGI loses the signal in a worker that is just starting (its own handler is not there yet), and its
            # master then waits for ever.
            processes.kill(takers, signal.SIGHUP)
            told = now
        time.sleep(PAUSE)


def wait_idle(place: Place, seconds: float) -> None:
    """Wait until an instance had no request at three looks in a row, or the time is over."""
    deadline, looks = time.monotonic() + seconds, 0
    while looks < 3 and time.monotonic() < deadline:
        looks = looks + 1 if idle(place) else 0
        time.sleep(PAUSE)


# --- going over


def beside(app: App, content: str, generation: str) -> None:
    """Start a second instance, and leave the first as it is.

    :raises Unhealthy: when it does not become healthy.
    """
    place = next(place for place in app.places if place not in app.taken)
    stop(app, place)  # what a run that was killed left to end by itself, and its sockets
    app.lead(app.params["release"])
    app.write(place, content)
    # The Emperor looks for new files once in a while.
    app.wait(place.socket, generation, app.params["start_timeout"] + EMPEROR, watch(place))


def in_place(app: App, content: str, generation: str) -> None:
    """Let the running instance reload itself, with the sockets it has.

    :raises Unhealthy: when it does not become healthy.
    """
    (place,) = app.taken
    hopeless = watch(place)
    app.write(place, content)
    seconds = app.params["start_timeout"] + app.params["drain_timeout"] + EMPEROR
    app.wait(place.socket, generation, seconds, hopeless)


def chain(app: App, _content: str, generation: str) -> None:
    """Let the workers load the release to which the link leads, one at a time.

    uWSGI's own chain reload would go on to the next worker when one died, and tell nobody. Each worker gets the signal
    it would get from that: it ends after its requests, and its master starts another one.

    :raises Unhealthy: when one does not come up, or does not answer well.
    """
    (place,) = app.taken
    app.lead(app.params["release"])
    stats = statistics(place.stats)
    if stats is None:
        raise Unhealthy("its statistics cannot be read")
    for worker in workers(stats):
        renew(app, place, worker)
        for _look in range(3):
            app.look(place.socket, generation)


def renew(app: App, place: Place, worker: dict[str, Any]) -> None:
    """Let one worker be replaced after its requests; when it does not end in time it is killed.

    :raises Unhealthy: when its successor does not come up.
    """
    old = processes.find(worker["pid"])
    if old:
        processes.kill([old], signal.SIGHUP)
        bury(app, [old], [old], app.params["drain_timeout"])
    deadline = time.monotonic() + app.params["start_timeout"]
    while True:
        stats = statistics(place.stats)
        found = next((one for one in workers(stats or {"workers": []}) if one["id"] == worker["id"]), None)
        if found and found["accepting"] and found["pid"] != worker["pid"]:
            return
        if found and found["respawn_count"] - worker["respawn_count"] > DEATHS:
            raise Unhealthy(f"worker {worker['id']} dies as soon as it starts")
        if time.monotonic() > deadline:
            raise Unhealthy(f"worker {worker['id']} did not start within {app.params['start_timeout']} s")
        time.sleep(PAUSE)


def chainable(app: App) -> bool:
    """Whether workers of the running master can load the new release: the same Python and the same uWSGI."""

    def made_of(release: str) -> list[str]:
        venv = f"{release}/venv"
        packages = glob.glob(f"{venv}/lib/python3*/site-packages/pyuwsgi-*.dist-info")
        told = re.findall(r"^(?:home|version) = .*$", read(f"{venv}/pyvenv.cfg") or "", re.MULTILINE)
        return [*told, *sorted(os.path.relpath(package, venv) for package in packages)]

    return bool(app.leads_to) and made_of(app.leads_to) == made_of(app.params["release"])


WAYS = {"beside": beside, "in_place": in_place, "chain": chain}


def way(app: App, content: str) -> str:
    """How to go over from what runs to this content."""
    wanted: str = app.params["reload"]
    if len(app.taken) != 1 or not app.healthy(app.taken[0]):
        return "beside"
    running = app.taken[0].content or ""
    if wanted == "chain":
        return "chain" if running == content and chainable(app) else "beside"
    if wanted == "in_place":
        return "in_place" if launch(running).get("socket") == launch(content).get("socket") else "beside"
    return "beside"


# --- the states


def serves(app: App, content: str, generation: str) -> bool:
    """Whether the content is what runs, or, of two, what was started last.

    :raises Unhealthy: when it is, but does not answer well, or visitors do not reach it.
    """
    released = not app.params["release"] or app.params["release"] == app.leads_to
    if not released or not app.taken or app.taken[-1].content != content:
        return False
    for sock in dict.fromkeys((app.taken[-1].socket, visited(app.taken[-1], content))):
        app.wait(sock, generation, app.params["start_timeout"])
    return True


def present(app: App, content: str, generation: str) -> bool:
    """Let the app run as the content says. Returns whether anything changed.

    :raises Unhealthy: when it cannot; the app then runs as it did before, or, the first time, does not run.
    """
    began, complaint = time.time(), ""
    try:
        # In a chain that was broken off some workers have the old release, though everything looks new.
        if not (app.before and app.params["reload"] == "chain") and serves(app, content, generation):
            return app.receive(app.visited)
    except Unhealthy as reason:
        complaint = f"runs as configured, but {reason}, and "
    if app.before:
        give_back(app)  # a run was killed in its switch
        with contextlib.suppress(Unhealthy):
            if serves(app, content, generation):
                return True
    try:
        used = rehearse(app, content, generation)
        how = way(app, content)
        if how == "beside" and app.taken:
            check_memory(app, content, used)
    except Unhealthy as reason:
        raise Unhealthy(f"{complaint}{would_not_start(content, reason)}") from reason

    app.remember(app.taken[0] if app.taken else None)
    if int(read(app.limit) or 0) < int(app.wanted or 0):
        app.confine(app.wanted)
    try:
        WAYS[how](app, content, generation)
        app.receive(app.visited)
    except Unhealthy as reason:
        log = app.journal(began)
        raise Unhealthy(f"{complaint}did not start: {reason}. {give_back(app)}.\n{log}") from reason
    return True


def would_not_start(content: str, reason: Unhealthy) -> str:
    """Why nothing was changed."""
    return f"was not changed, because {launch(content).get('app', 'it')} would not start: {reason}"


def digest(app: App, content: str) -> str:
    """Names what the rehearsal of this content shows."""
    return rehearsed(content, app.params["release"] or "")


def rehearse(app: App, content: str, generation: str) -> processes.Memory | None:
    """The preflight, unless this run had it already. Returns what the app used in it.

    :raises Unhealthy: with the reason and the app's own last words.
    """
    if app.params["rehearsed"] and app.params["rehearsed"] == digest(app, content) == app.measured.get("digest"):
        size = app.measured["size"]
        return processes.Memory(**size) if size else None
    return preflight(app, content, generation)


def measured(app: App, content: str, generation: str) -> str:
    """See that the content would run, and keep what it uses. Returns what was rehearsed, empty when nothing had to be.

    :raises Unhealthy: when it would not run.
    """
    wanted = digest(app, content)
    if app.measured.get("digest") == wanted:
        return ""
    try:
        used = preflight(app, content, generation)
    except Unhealthy as reason:
        raise Unhealthy(would_not_start(content, reason)) from reason
    kept = {"digest": wanted, "size": used._asdict() if used else None}
    write(app.params["size"], json.dumps(kept), 0, 0)
    return wanted


def give_back(app: App) -> str:
    """Go back to what ran before. Returns what was done, as the begin of a sentence."""
    before = app.before
    if before is None:
        return "Nothing was to be taken back"
    old = app.place(before.colour) if before.colour else None
    moved = before.release not in ("", app.leads_to)
    app.lead(before.release)
    said = "It was stopped, for there is no earlier release to return to"
    if old:
        said = "The earlier release serves again"
        rewritten = old.content != before.content
        if rewritten:
            stats = statistics(old.stats)
            app.write(old, before.content)
            if not (stats and serves_any(stats)):
                # A master whose workers die does not listen to the Emperor, who starts it anew when it is gone.
                processes.kill(old.instance())
        try:
            if moved and not rewritten:
                for worker in workers(statistics(old.stats) or {"workers": []}):
                    renew(app, old, worker)
            seconds = app.params["start_timeout"] + app.params["drain_timeout"] + EMPEROR
            app.wait(old.socket, generation_of(before.content), seconds)
        except Unhealthy as reason:
            said = f"The earlier vassal file was put back, but {reason}"
        app.receive(visited(old, before.content))
    for place in app.taken:
        if place != old:
            stop(app, place)
    if not old and app.params["upstream"]:
        remove(app.params["upstream"])
    if before.limit:
        app.confine(before.limit)
    else:
        remove(app.limit)
    remove(app.memory)
    return said


def settled(app: App) -> bool:
    """End what ran before the last switch, and hold the app to its limit. Returns whether that changed anything."""
    others, scraps = app.others, app.scraps
    for place in others:
        stop(app, place)
    for file in (app.memory, *scraps):
        remove(file)
    confined = app.confine(app.wanted)
    return bool(others or scraps) or confined


def absent(app: App) -> bool:
    """Let the app end after its running requests. Returns whether it ran."""
    existed = bool(app.taken)
    try:
        uid = pwd.getpwnam(app.name).pw_uid
    except KeyError:
        uid = None
    for place in app.taken:
        if uid is None:
            remove(place.file)
        else:
            stop(app, place)
    remove(app.memory)
    rest = [] if uid is None else processes.of_user(uid)  # the account was made for this app alone
    processes.kill(rest)
    processes.wait(rest, HANGS)  # an account with processes cannot be removed
    remove(app.limit)
    if group := control_group.of_app(app.name):
        with contextlib.suppress(OSError):  # it is the Emperor's, and goes with him
            group.rmdir()
    return existed or bool(rest)


def other(app: App, state: str) -> dict[str, Any]:
    """Bring the app into a state other than `present`. Returns the module's answer."""
    if state == "settled":
        return {"changed": settled(app)}
    if state == "absent":
        return {"changed": absent(app)}
    changed, known = app.before is not None, app.contents
    said = discreet(give_back(app), known)
    content = (app.taken[-1].content if app.taken else None) or ""
    return {"changed": changed, "msg": said, "generation": generation_of(content)}


def discreet(text: str, contents: list[str]) -> str:
    """A message without the values of any environment in these vassal files."""
    secret = {}
    for index, content in enumerate(contents):
        with contextlib.suppress(AttributeError, KeyError, ValueError):  # edited by hand
            for name, value in environment(content).items():
                if name not in OPEN_VARIABLES:
                    secret[f"{index} {name}"] = str(value)
    return censor(text, secret)


def main() -> None:
    """Bring the vassal into the wanted state."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "directory": {"type": "path", "required": True},
            "run": {"type": "path", "required": True},
            "state": {"type": "str", "choices": list(STATES), "default": "present"},
            "content": {"type": "str", "no_log": True},
            "reload": {"type": "str", "choices": list(WAYS), "default": "beside"},
            "link": {"type": "path"},
            "release": {"type": "path"},
            "upstream": {"type": "path"},
            "size": {"type": "path"},
            "rehearsed": {"type": "str", "default": ""},
            "wrapper": {"type": "path", "default": "/usr/local/libexec/emperor-wrapper"},
            "health_path": {"type": "str", "default": "/"},
            "health_status": {"type": "int", "default": 200},
            "health_host": {"type": "str", "default": "localhost"},
            "start_timeout": {"type": "int", "default": 60},
            "drain_timeout": {"type": "int", "default": 60},
            "memory_reserve": {"type": "int", "default": 64},
            "memory_limit": {"type": "int", "default": 0},
        },
        required_if=[
            ("state", "present", ["content"]),
            ("state", "measured", ["content", "size"]),
            ("reload", "chain", ["link", "release"]),
        ],
        required_by={"release": ["link"]},
        supports_check_mode=True,
    )
    app = App(module.params)
    state, running = module.params["state"], app.taken
    before = running[-1].content if running else None
    if state == "present":
        content, generation = complete(module.params["content"])
        diff = difference(app, before, content)
        if module.check_mode:
            released = not module.params["release"] or module.params["release"] == app.leads_to
            changed = before != content or not released or not app.reached
            module.exit_json(changed=changed, generation=generation, diff=diff)
        known = [content, *app.contents]
        try:
            with exclusive():
                changed = present(app, content, generation)
        except Unhealthy as reason:
            module.fail_json(msg=discreet(f"The app {app.name} {reason}", known), generation=generation)
        except Busy as reason:
            module.fail_json(msg=str(reason))
        module.exit_json(changed=changed, generation=generation, diff=diff)

    if state == "measured":
        measure(module, app)
    removal: dict[str, Any] = {"diff": difference(app, before, None)} if state == "absent" else {}
    if module.check_mode:
        changed = {
            "settled": bool(app.others or app.scraps) or not app.limited,
            "returned": app.before is not None,
            "absent": bool(running),
        }[state]
        module.exit_json(changed=changed, generation="", **removal)
    try:
        with exclusive():
            module.exit_json(**other(app, state), **removal)
    except Busy as reason:
        module.fail_json(msg=str(reason))


def measure(module: AnsibleModule, app: App) -> None:
    """Answer for the state `measured`."""
    content, generation = complete(module.params["content"])
    if module.check_mode:
        changed = app.measured.get("digest") != digest(app, content)
        module.exit_json(changed=changed, size=app.measured.get("size") or {}, rehearsed="")
    try:
        with exclusive():
            done = measured(app, content, generation)
    except Unhealthy as reason:
        module.fail_json(msg=discreet(f"The app {app.name} {reason}", [content]))
    except Busy as reason:
        module.fail_json(msg=str(reason))
    module.exit_json(changed=bool(done), size=app.measured["size"] or {}, rehearsed=done)


def difference(app: App, before: str | None, after: str | None) -> dict[str, str]:
    """The change of the vassal file, as Ansible shows it."""
    header = f"{app.params['directory']}/{app.name}"
    return {"before": shown(before), "after": shown(after), "before_header": header, "after_header": header}


if __name__ == "__main__":
    main()
