"""A host for tests of the vassals: the Emperor, the instances of an app, and what the kernel tells of them."""

import contextlib
import json
import os
import random
import select
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils import host as host_files
from ansible_collections.flaskops.emperor.plugins.module_utils import (
    uwsgi_client,
)
from ansible_collections.flaskops.emperor.plugins.module_utils.processes import Memory, Process
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal import (
    drain,
    slots,
    states,
    store,
    switch,
    watch,
)
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.config import Config

MIB = 1 << 20


EMPTY: dict[str, Any] = {"launch": {}, "options": []}


def config(version="1", environment=None, *more, held=None, **launch):
    """A vassal, as the role makes it; `held` is the directory of the held socket, `more` are lines of options."""
    launch |= {"app": f"{version}:app", "identifier": "shop", "binary": "/bin/false"}
    launch["environment"] = environment or {"SECRET": "tell nobody"}
    launch |= {"socket": f"{held}/app.sock", "holder": f"{held}/holder.sock"} if held else {}
    options = ["module = " + launch["app"], "processes = 2", *more]
    return Config.of({"launch": launch, "options": [line.split(" = ", 1) for line in options]})


class Instance:
    """What runs in a slot: a master, its workers, and their sockets.

    A file (or, in a chain, a release) that says `broken` makes it answer with status 500, one that says `silent` not at
    all, one that says `dies` lets its workers die as they start, one that says `ends` the master too.
    """

    def __init__(self, host, file):
        self.host, self.file = host, file
        self.stopping = False
        self.ill = self.hangs = False  # it answers badly; it does not end when it is told to
        self.connections = 0  # accepted and not closed yet; None when the kernel does not tell
        self.in_request = 0
        self.accepting = True  # its workers have loaded the app
        self.listeners = {kind: self.listen(kind) for kind in ("sock", "stats")}
        self.master = host.process()
        self.workers = [SimpleNamespace(id=number, spawned=0) for number in (1, 2)]
        self.load()

    def listen(self, kind):
        listener = socket.socket(socket.AF_UNIX)
        path = f"{self.host.run}/{Path(self.file).stem}.{kind}"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        listener.bind(path)
        listener.listen()
        return listener

    def load(self):
        """Read the file, as at a start and at a reload."""
        self.content = host_files.read(self.file) or ""
        self.says = self.content.rpartition("module = ")[2].partition(":")[0]
        for worker in self.workers:
            self.spawn(worker)
        if "ends" in self.says:
            self.host.alive -= set(self.family)

    def spawn(self, worker):
        worker.process, worker.spawned = self.host.process(), worker.spawned + 1
        worker.release = os.path.basename(self.host.leads_to) if self.says == "chain" else ""
        worker.dies = "dies" in self.says + worker.release

    @property
    def serves(self):
        return self.accepting and not self.stopping and not all(worker.dies for worker in self.workers)

    @property
    def family(self):
        return [self.master, *(worker.process for worker in self.workers)]

    def answer(self, connection):
        serving = [worker for worker in self.workers if not worker.dies]
        worker = next((one for one in serving if one.release == self.host.prefer), random.choice(serving))
        says = self.says + worker.release
        if "silent" in says:
            return
        status = "500 Oh no" if "broken" in says or self.ill else "200 OK"
        body = f"what happened: {Config.parse(self.content).environment}"
        header = f"X-Vassal: {Config.parse(self.content).named}"
        connection.sendall(f"HTTP/1.1 {status}\r\n{header}\r\n\r\n{body}".encode())

    def statistics(self):
        workers = [
            {
                "id": worker.id,
                "pid": worker.process.pid,
                "accepting": int(self.accepting and not worker.dies),
                "status": "idle",
                "respawn_count": worker.spawned,
                "cores": [{"in_request": 0}, {"in_request": self.in_request}],
            }
            for worker in self.workers
        ]
        spare = {"id": 3, "pid": 0, "accepting": 0, "status": "cheap", "respawn_count": 0, "cores": []}
        return {"pid": self.master.pid, "workers": [*workers, spare]}

    def close(self):
        for listener in self.listeners.values():
            listener.close()


class Host:
    """The Emperor of a host, the app's instances, the socket that systemd holds, and the processes of all of them."""

    def __init__(self, params):
        self.params, self.run = params, params["run"]
        self.sockets = slots.held(self.run)
        self.instances, self.seen = {}, {}
        self.alive, self.signals, self.asked = set(), [], []
        self.numbers = iter(range(1000, 10**6))
        self.awake = True  # whether the Emperor looks for files
        self.prefer = None  # a release whose workers take all requests
        self.tried, self.memory = [], Memory(30 * MIB, 10 * MIB, 25 * MIB)
        self.lock, self.over = threading.RLock(), False
        self.held = {self.hold(name): name for name in ("app", "blue", "green")}
        self.thread = threading.Thread(target=self.live, daemon=True)
        self.thread.start()

    # As the kernel, systemd and the Emperor do it

    def hold(self, name):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"{self.sockets}/{name}.sock")
        listener.listen()
        return listener

    def process(self):
        process = Process(next(self.numbers), 7)
        self.alive.add(process)
        return process

    @property
    def leads_to(self):
        return os.readlink(self.params["serving"])

    def live(self):
        while not self.over:
            with self.lock:
                self.scan()
                listeners = self.listeners()
                with contextlib.suppress(OSError, ValueError):
                    for listener in select.select([*listeners, *self.waited_on()], [], [], 0.002)[0]:
                        self.serve(listener, listeners)
            time.sleep(0.001)

    def listeners(self):
        found = {one.listeners["stats"]: (one, "stats") for one in self.instances.values()}
        serving = [one for one in self.instances.values() if one.serves]
        return found | {one.listeners["sock"]: (one, "sock") for one in serving}

    def waited_on(self):
        """The sockets that systemd holds on which an instance accepts. On the others what comes waits in the queue."""
        found: dict[Any, list[Instance]] = {}
        for listener, name in self.held.items():
            for file, one in self.instances.items():
                said = Config.parse(one.content)
                if (
                    one.serves
                    and said.socket
                    and (name == "app" or (said.launch.get("clients") == "slot" and name in file))
                ):
                    found.setdefault(listener, []).append(one)
        return found

    def serve(self, listener, listeners):
        instance, kind = listeners.get(listener, (None, "held"))
        if kind == "held":
            sharing = self.waited_on().get(listener)
            if not sharing:
                return  # none accepts any more
            instance = random.choice(sharing)
        with listener.accept()[0] as connection:
            if kind == "stats":
                connection.sendall(json.dumps(instance.statistics()).encode())
            else:
                self.asked.append(connection.recv(65536))
                instance.answer(connection)

    def scan(self):
        there = {}
        for path in Path(self.params["directory"]).glob("*.ini"):
            with contextlib.suppress(FileNotFoundError):
                there[str(path)] = int(path.stat().st_mtime)  # whole seconds
        for file, modified in there.items() if self.awake else []:
            instance = self.instances.get(file)
            if instance is None:
                self.instances[file], self.seen[file] = Instance(self, file), modified
            elif modified > self.seen[file] and not instance.stopping:
                instance.load()
                self.seen[file] = modified
        for file, instance in list(self.instances.items()):
            if file not in there and self.awake:
                instance.stopping = True
            if instance.stopping and not instance.hangs and not instance.connections:
                self.alive -= set(instance.family)
            self.bury(file, instance)

    def bury(self, file, instance):
        if instance.master not in self.alive:
            self.alive -= set(instance.family)
            instance.close()
            del self.instances[file]
            return
        for worker in instance.workers:
            if worker.process not in self.alive or worker.dies:
                self.alive.discard(worker.process)
                if not instance.stopping:
                    instance.spawn(worker)

    # What the module asks of the kernel

    def of_file(self, file, uid):
        assert uid == os.getuid()
        with self.lock:
            instance = self.instances.get(file)
            return [one for one in instance.family if one in self.alive] if instance else []

    def find(self, pid):
        with self.lock:
            return next((one for one in self.alive if one.pid == pid), None)

    def kill(self, those, number=signal.SIGKILL):
        with self.lock:
            for process in those:
                if process not in self.alive:
                    continue
                self.signals.append((number, process))
                for instance in self.instances.values():
                    obeys = not instance.hangs and not instance.connections
                    if process in instance.family and (number == signal.SIGKILL or obeys):
                        self.alive.discard(process)

    def connections(self, takers, uid, gid, prefix):
        assert (uid, gid, prefix) == (os.getuid(), os.getgid(), (self.run + "/", self.sockets + "/"))
        with self.lock:
            counted = [one.connections for one in self.instances.values() if set(takers) & set(one.family) & self.alive]
        return None if None in counted else sum(counted)

    # What a test asks

    def app(self, **more):
        return store.App({**self.params, **more})

    def config(self, *arguments, **launch):
        return config(*arguments, held=self.sockets, **launch)

    def deploy(self, *arguments, content=None, **more):
        return states.switched(self.app(**more), content or self.config(*arguments))

    def commit(self, **more):
        return states.committed(self.app(**more))

    def runs(self):
        """The vassal files, by slot."""
        found = {one.slot: one.text for one in self.app().slots}
        return {slot: text for slot, text in found.items() if text}

    def put(self, name, content, age=0):
        """As an earlier run left it."""
        slot = self.app().slot(name)
        host_files.write(slot.file, content.render(), 7, 8, modified=time.time() - age)
        self.until(lambda: slot.file in self.instances)
        return self.instances[slot.file]

    def instance(self, name):
        return self.instances[self.app().slot(name).file]

    def path(self, name):
        return f"{self.run}/shop.{name}"

    def until(self, condition):
        for _try in range(2000):
            if condition():
                return
            time.sleep(0.005)
        raise AssertionError("it does not come to that")

    def answers(self, sock):
        """The generation of the instance that answers on a socket."""
        return uwsgi_client.request(sock, "/", "localhost", 2).headers["x-vassal"]

    def stop(self):
        self.over = True
        self.thread.join(5)
        for instance in self.instances.values():
            instance.close()
        for listener in self.held:
            listener.close()


def complete(host, *arguments):
    return host.config(*arguments).render()


def generation(host, *arguments):
    return host.config(*arguments).generation


def later(seconds, what, name, value):
    """Change something in a while."""
    timer = threading.Timer(seconds, lambda: setattr(what, name, value))
    timer.daemon = True
    timer.start()


def loaded(instance):
    return [worker.release for worker in instance.workers]


# Where the functions are at which a run is killed.
STEP_IN = {"beside": switch, "start": switch, "in_place": switch, "renew": switch, "watch": watch,
           "bury": drain, "wait_idle": drain, "link": store}  # fmt: skip


class Killed(BaseException):
    """The module was killed."""


NOBODY, SILENCE = ConnectionRefusedError(), TimeoutError()


def ended(pid):
    """Whether a process is gone, or dead and only not buried by its adoptive parent."""
    for _try in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def left(tmp_path):
    return sorted(os.listdir(tmp_path / "run/shop"))


# Starts as the wrapper would, reads the file it is given and answers as uWSGI would, until it is ended.
SERVER = f"""#!{sys.executable}
import json, os, re, signal, socket, subprocess, sys, threading
content = open(name := sys.argv[sys.argv.index("--ini") + 1]).read()
print("Traceback: it has", sorted(os.environ), "mode", oct(os.stat(name).st_mode & 0o777), flush=True)
if "module = gone" in content:
    sys.exit(22)
def listen(kind):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(re.search(f"^{{kind}} = (.*)$", content, re.M).group(1))
    listener.listen()
    return listener
def tell(listener):
    count = 0
    while True:
        count += 1
        worker = {{"id": 1, "pid": 5, "accepting": 0, "status": "idle", "respawn_count": count, "cores": []}}
        with listener.accept()[0] as connection:
            connection.sendall(json.dumps({{"pid": os.getpid(), "workers": [worker]}}).encode())
if "module = dying" in content:
    tell(listen("stats"))
listener = listen("socket")
listen("stats")
if "stubborn" in content:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "60"])
open(os.path.join(os.path.dirname(sys.argv[2]), "child"), "w").write(str(child.pid))
open(os.path.join(os.path.dirname(sys.argv[2]), "content"), "w").write(content)
while True:
    connection = listener.accept()[0]
    connection.recv(65536)
    status = "500 Oh" if "broken" in content else "200 OK"
    generation = re.search("X-Vassal: (.*)$", content, re.M).group(1)
    connection.sendall(f"HTTP/1.1 {{status}}\\r\\nX-Vassal: {{generation}}\\r\\n\\r\\n".encode())
    connection.close()
"""
