"""The module `vassal`: an app runs as its file says, or as it did before."""

import contextlib
import json
import os
import pwd
import random
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import (
    control_group,
    exclusive,
    links,
    processes,
    uwsgi_client,
    vassal_file,
)
from ansible_collections.flaskops.emperor.plugins.module_utils.processes import Memory, Process
from ansible_collections.flaskops.emperor.plugins.modules import vassal
from ansible_collections.flaskops.emperor.plugins.modules.vassal import Stop, Unhealthy

MIB = 1 << 20


def text(version="1", environment=None, *more, held=None):
    """The text of a vassal file, as the role writes it; `held` is the directory of the held socket."""
    lines = ["; Ansible managed", "[launch]", f"app = {version}:app", "identifier = shop", "binary = /bin/false"]
    lines += [f"environment = {json.dumps(environment or {'SECRET': 'tell nobody'})}"]
    lines += [f"socket = {held}/app.sock", f"holder = {held}/holder.sock"] if held else []
    return "\n".join([*lines, "", "[uwsgi]", f"module = {version}:app", "processes = 2", *more, ""])


@pytest.fixture(autouse=True)
def no_real_process(monkeypatch):
    """The module ends all processes of a user: here nobody is to be found, and nobody is killed."""
    monkeypatch.setattr(processes, "of_user", lambda uid: [])
    monkeypatch.setattr(processes, "kill", lambda *_arguments: None)


@pytest.fixture(autouse=True)
def no_long_wait(monkeypatch):
    for name, seconds in (("PAUSE", 0.005), ("EMPEROR", 5), ("HANGS", 0.2), ("AGAIN", 0.05)):
        monkeypatch.setattr(vassal, name, seconds)


@pytest.fixture
def impatient(params, monkeypatch):
    """Where a test waits in vain it does not wait long."""
    params.update(start_timeout=0.2, drain_timeout=0)
    monkeypatch.setattr(vassal, "EMPEROR", 0.35)


# --- files


def test_a_file_is_written_in_one_step_for_its_owner_alone(tmp_path, deeds):
    path = str(tmp_path / "shop.ini")
    vassal.write(path, "one \udc80", 7, 8)
    inode = os.stat(path).st_ino
    vassal.write(path, "two", 7, 8)
    assert os.stat(path).st_ino != inode  # a reader of the old file is not disturbed
    assert os.stat(path).st_mode & 0o777 == 0o400
    assert vassal_file.read(path) == "two"
    assert deeds.of("own") == [[path + ".new", 7, 8]] * 2
    assert os.listdir(tmp_path) == ["shop.ini"]


def test_a_file_has_the_age_it_is_given_before_it_is_in_its_place(tmp_path, deeds, monkeypatch):
    path, seen, real = str(tmp_path / "shop.ini"), [], os.replace

    def replace(staged, final):
        seen.append(os.stat(staged).st_mtime)
        real(staged, final)

    monkeypatch.setattr(os, "replace", replace)
    vassal.write(path, "x", 7, 8, modified=1_000_000_000)
    vassal.write(path, "x", 7, 8)
    assert seen[0] == 1_000_000_000
    assert abs(seen[1] - time.time()) < 30


def test_what_is_staged_is_no_vassal_yet(tmp_path, deeds):
    # The Emperor takes every *.ini for a vassal.
    vassal.write(str(tmp_path / "shop.ini"), "x", 7, 8)
    assert not deeds.of("own")[0][0].endswith(".ini")


def test_root_writes_through_no_link_an_app_put_there(tmp_path, deeds):
    (tmp_path / "shadow").write_text("root's")
    (tmp_path / "preflight.ini.new").symlink_to("shadow")
    vassal.write(str(tmp_path / "preflight.ini"), "x", 7, 8)
    assert (tmp_path / "shadow").read_text() == "root's"
    assert (tmp_path / "preflight.ini").read_text() == "x"
    assert not (tmp_path / "preflight.ini").is_symlink()


def test_root_writes_through_no_link_that_an_app_puts_there_at_the_last_moment(tmp_path, deeds, monkeypatch):
    (tmp_path / "shadow").write_text("root's")
    monkeypatch.setattr(vassal, "remove", lambda path: os.symlink("shadow", path))
    with pytest.raises(FileExistsError):
        vassal.write(str(tmp_path / "preflight.ini"), "x", 7, 8)
    assert (tmp_path / "shadow").read_text() == "root's"


def test_what_a_killed_run_staged_is_in_nobodys_way(tmp_path, deeds):
    (tmp_path / "shop.ini.new").write_text("half")
    (tmp_path / "shop.ini.new").chmod(0o400)
    vassal.write(str(tmp_path / "shop.ini"), "x", 7, 8)
    assert vassal_file.read(str(tmp_path / "shop.ini")) == "x"


def test_bytes_that_are_no_text_survive_reading_and_writing(tmp_path, deeds):
    (tmp_path / "a").write_bytes(b"\xff\xc3\xbc")
    vassal.write(str(tmp_path / "b"), vassal_file.read(str(tmp_path / "a")) or "", 7, 8)
    assert (tmp_path / "b").read_bytes() == b"\xff\xc3\xbc"
    assert vassal_file.read(str(tmp_path / "none")) is None


def test_the_log_is_shown_without_uwsgis_own_words():
    log = ["*** Starting uWSGI 2.0.30 ***", "compiled with version: 14", "Traceback:", "", "  boom"]
    log += ["spawned uWSGI worker 1", "zerg sockets: 1", "uwsgi zerg socket 0 attached"]
    log += ["[emperor] received message 0 from emperor"]
    assert vassal.excerpt("\n".join(log)) == "Traceback:\n  boom"
    assert vassal.excerpt("\n".join(f"line {number}" for number in range(99))).splitlines() == [
        f"line {number}" for number in range(99 - vassal.LOG_LINES, 99)
    ]


# --- a host


class Instance:
    """What runs in a place: a master, its workers, and their sockets.

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
        self.content = vassal_file.read(self.file) or ""
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
        body = f"what happened: {vassal_file.launch(self.content).get('environment')}"
        header = f"X-Vassal: {vassal_file.generation_of(self.content)}"
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
        self.instances, self.seen = {}, {}
        self.alive, self.signals, self.asked = set(), [], []
        self.numbers = iter(range(1000, 10**6))
        self.awake = True  # whether the Emperor looks for files
        self.prefer = None  # a release whose workers take all requests
        self.rehearsed, self.memory = [], Memory(30 * MIB, 10 * MIB, 25 * MIB)
        self.lock, self.over = threading.RLock(), False
        self.held = self.hold()
        self.thread = threading.Thread(target=self.live, daemon=True)
        self.thread.start()

    # As the kernel, systemd and the Emperor do it

    def hold(self):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"{self.run}/app.sock")
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
                    for listener in select.select([*listeners, self.held], [], [], 0.002)[0]:
                        self.serve(listener, listeners)
            time.sleep(0.001)

    def listeners(self):
        found = {one.listeners["stats"]: (one, "stats") for one in self.instances.values()}
        serving = [one for one in self.instances.values() if one.serves]
        return found | {one.listeners["sock"]: (one, "sock") for one in serving}

    def serve(self, listener, listeners):
        instance, kind = listeners.get(listener, (None, "held"))
        if kind == "held":
            sharing = [
                one
                for one, what in listeners.values()
                if what == "sock" and "socket" in vassal_file.launch(one.content)
            ]
            if not sharing:
                return  # whoever came waits in the queue
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
        assert (uid, gid, prefix) == (os.getuid(), os.getgid(), self.run + "/")
        with self.lock:
            counted = [one.connections for one in self.instances.values() if set(takers) & set(one.family) & self.alive]
        return None if None in counted else sum(counted)

    # What a test asks

    def app(self, **more):
        return vassal.App({**self.params, **more})

    def text(self, *arguments):
        return text(*arguments, held=self.run)

    def deploy(self, *arguments, content=None, **more):
        content = content or self.text(*arguments)
        return vassal.present(self.app(**more), *vassal_file.complete(content))

    def settle(self, **more):
        return vassal.settled(self.app(**more))

    def runs(self):
        """The vassal files, by colour."""
        found = {one.colour: one.content for one in self.app().places}
        return {colour: content for colour, content in found.items() if content}

    def put(self, colour, content, age=0):
        """As an earlier run left it."""
        place = self.app().place(colour)
        vassal.write(place.file, vassal_file.complete(content)[0], 7, 8, modified=time.time() - age)
        self.until(lambda: place.file in self.instances)
        return self.instances[place.file]

    def instance(self, colour):
        return self.instances[self.app().place(colour).file]

    def path(self, name):
        return f"{self.run}/shop.{name}"

    def until(self, condition):
        for _try in range(2000):
            if condition():
                return
            time.sleep(0.005)
        raise AssertionError("it does not come to that")

    def answers(self, sock):
        """The generation of whoever answers on a socket."""
        return uwsgi_client.request(sock, "/", "localhost", 2).headers["x-vassal"]

    def stop(self):
        self.over = True
        self.thread.join(5)
        for instance in self.instances.values():
            instance.close()
        self.held.close()


@pytest.fixture
def params(tmp_path):
    for name in ("vassals", "run", "home"):
        (tmp_path / name).mkdir()
    return {
        "name": "shop",
        "directory": str(tmp_path / "vassals"),
        "run": str(tmp_path / "run"),
        "reload": "beside",
        "link": None,
        "release": None,
        "serving": str(tmp_path / "home/serving"),  # only for the tests
        "upstream": str(tmp_path / "home/upstream.sock"),
        "wrapper": str(tmp_path / "wrapper"),
        "health_path": "/healthz",
        "health_status": 200,
        "health_host": "shop.example.com",
        "start_timeout": 5,
        "drain_timeout": 5,
        "memory_reserve": 64,
        "memory_limit": 0,
        "size": str(tmp_path / "home/size.json"),
        "rehearsed": "",
    }


@pytest.fixture
def host(params, deeds, program, monkeypatch):
    """A host, with preflight as good as passed."""
    program("journalctl", 'echo "the log of $*"')
    found = Host(params)
    for name in ("of_file", "find", "kill", "connections"):
        monkeypatch.setattr(processes, name, getattr(found, name))
    monkeypatch.setattr(processes, "alive", lambda process: process in found.alive)
    monkeypatch.setattr(processes, "with_descendants", list)
    monkeypatch.setattr(processes, "available_memory", lambda: 1000 * MIB)

    def preflight(app, content, generation):
        found.rehearsed.append(content)
        return found.memory

    monkeypatch.setattr(vassal, "preflight", preflight)
    yield found
    found.stop()


def complete(host, *arguments):
    return vassal_file.complete(host.text(*arguments))[0]


def generation(host, *arguments):
    return vassal_file.complete(host.text(*arguments))[1]


# --- present


def test_the_first_deploy_starts_the_app(host):
    assert host.deploy("1") is True
    assert host.runs() == {"blue": complete(host, "1")}
    assert host.rehearsed == [complete(host, "1")]
    assert b"/healthz" in host.asked[-1]
    assert b"shop.example.com" in host.asked[-1]
    assert host.answers(f"{host.run}/app.sock") == generation(host, "1")


def test_an_app_that_runs_as_it_should_is_not_touched(host):
    host.deploy("1")
    host.settle()
    before = os.stat(host.app().places[0].file)
    assert host.deploy("1") is False
    assert os.stat(host.app().places[0].file) == before
    assert len(host.rehearsed) == 1
    assert host.signals == []


def test_a_change_starts_beside_what_runs_and_ends_that_when_it_is_settled(host):
    host.deploy("1")
    assert host.settle() is False
    assert host.deploy("2") is True
    assert host.runs() == {"blue": complete(host, "1"), "green": complete(host, "2")}
    assert host.answers(host.path("blue.sock")) == generation(host, "1")
    assert host.answers(host.path("green.sock")) == generation(host, "2")
    assert host.settle() is True
    assert host.runs() == {"green": complete(host, "2")}
    assert sorted(os.listdir(host.params["directory"])) == ["shop.green.ini"]
    assert sorted(os.listdir(host.run)) == ["app.sock", "shop.green.sock", "shop.green.stats"]


def test_the_places_take_turns(host):
    for version in ("1", "2", "3"):
        host.deploy(version)
        host.settle()
    assert host.runs() == {"blue": complete(host, "3")}
    assert host.answers(f"{host.run}/app.sock") == generation(host, "3")


def test_a_file_belongs_to_the_apps_user_and_the_memory_to_root(host, deeds):
    host.deploy("1")
    memory = f"{host.params['directory']}/shop.before.new"
    assert deeds.of("own") == [[memory, 0, 0], [host.app().places[0].file + ".new", os.getuid(), os.getgid()]]
    assert not host.app().memory.endswith(".ini")


def test_what_ran_before_is_remembered_before_anything_is_changed(host, monkeypatch):
    host.deploy("1")
    host.settle()
    written = []
    real = vassal.write

    def write(path, content, *owner, **more):
        written.append((os.path.basename(path), content))
        real(path, content, *owner, **more)

    monkeypatch.setattr(vassal, "write", write)
    host.deploy("2")
    (memory, kept), (file, content) = written
    assert (memory, file) == ("shop.before", "shop.green.ini")
    assert json.loads(kept) == {"colour": "blue", "content": complete(host, "1"), "release": "", "limit": ""}
    assert content == complete(host, "2")


def test_a_failed_rehearsal_touches_nothing(host, monkeypatch):
    host.deploy("1")
    host.settle()
    before = os.stat(host.app().places[0].file)

    def refuse(*_arguments):
        raise Unhealthy("no module named shop")

    monkeypatch.setattr(vassal, "preflight", refuse)
    with pytest.raises(Unhealthy, match=r"^was not changed, because 2:app would not start: no module named shop$"):
        host.deploy("2")
    assert os.stat(host.app().places[0].file) == before
    assert os.listdir(host.params["directory"]) == ["shop.blue.ini"]


@pytest.mark.parametrize("fault", ["broken", "silent", "dies", "ends"])
def test_a_failed_start_leaves_what_ran_and_nothing_of_itself(fault, impatient, host):
    host.deploy("1")
    host.settle()
    with pytest.raises(Unhealthy) as failure:
        host.deploy(fault)
    assert str(failure.value).startswith("did not start: ")
    assert ". The earlier release serves again.\nthe log of --no-pager" in str(failure.value)
    assert "--identifier=shop" in str(failure.value)
    assert host.runs() == {"blue": complete(host, "1")}
    assert os.listdir(host.params["directory"]) == ["shop.blue.ini"]
    host.until(lambda: len(host.instances) == 1)
    assert host.answers(f"{host.run}/app.sock") == generation(host, "1")


def test_workers_that_die_as_they_start_are_not_waited_for(host):
    host.deploy("1")
    host.settle()
    began = time.monotonic()
    with pytest.raises(Unhealthy, match="did not start: its workers die as soon as they start"):
        host.deploy("dies", start_timeout=30)
    assert time.monotonic() - began < 20


def test_an_app_that_never_worked_is_stopped_again(impatient, host):
    with pytest.raises(Unhealthy, match="It was stopped, for there is no earlier release to return to"):
        host.deploy("broken")
    assert host.runs() == {}
    assert os.listdir(host.params["directory"]) == []
    assert host.alive == set()


def test_the_answer_is_told(impatient, host):
    with pytest.raises(Unhealthy, match="it answers /healthz with status 500 instead of 200: what happened"):
        host.deploy("broken")


def test_another_status_may_be_the_healthy_one(host):
    assert host.deploy("broken", health_status=500) is True


def later(seconds, what, name, value):
    """Change something in a while."""
    timer = threading.Timer(seconds, lambda: setattr(what, name, value))
    timer.daemon = True
    timer.start()


def test_the_emperor_may_take_his_time_to_notice_a_file(host, monkeypatch):
    monkeypatch.setattr(vassal, "EMPEROR", 20)
    host.awake = False
    later(0.6, host, "awake", True)
    assert host.deploy("1", start_timeout=0.2) is True


def test_nobody_who_answers_for_another_generation_is_taken_for_the_new_one(host, monkeypatch):
    host.put("blue", host.text("1"))
    with pytest.raises(Unhealthy, match="after 0 s an instance of another generation answers"):
        host.app().wait(host.path("blue.sock"), "0" * 12, 0)


@pytest.fixture
def timeouts(monkeypatch):
    """How long was waited for each answer; none comes."""
    waited: list[float] = []

    def request(*_arguments, timeout):
        waited.append(timeout)
        raise TimeoutError if len(waited) != 2 else ConnectionRefusedError

    monkeypatch.setattr(uwsgi_client, "request", request)
    return waited


def test_an_app_that_accepts_is_asked_with_more_patience_each_time(params, timeouts):
    with pytest.raises(Unhealthy, match="it does not answer"):
        vassal.App({**params, "start_timeout": 7}).wait("/s", "0", 0.1, lambda: True)
    assert timeouts[:5] == [2, 4, 4, 7, 7]


def test_while_nobody_accepts_no_question_waits_for_long(params, timeouts):
    # In the queue of an instance that does not accept, a question only keeps us from seeing that it ended.
    accepting = iter([True, True, True, False])
    with pytest.raises(Unhealthy, match="it does not answer"):
        vassal.App({**params, "start_timeout": 7}).wait("/s", "0", 0.1, lambda: next(accepting, False))
    assert timeouts[:3] == [2, 4, 4]
    assert set(timeouts[4:]) == {2}


def test_an_app_that_runs_has_all_its_time_for_an_answer(params, timeouts):
    with pytest.raises(Unhealthy, match="it does not answer"):
        vassal.App({**params, "start_timeout": 7}).wait("/s", "0", 0.05)
    assert set(timeouts) == {7}


# An instance that is there and not well


def test_an_app_that_fell_ill_is_replaced_beside_with_the_same_content(host):
    ill = host.put("blue", host.text("1"), age=60)
    ill.ill = True
    assert host.deploy("1", start_timeout=0.2) is True
    assert host.runs() == {"blue": complete(host, "1"), "green": complete(host, "1")}
    assert host.settle() is True
    assert host.runs() == {"green": complete(host, "1")}
    assert host.answers(f"{host.run}/app.sock") == generation(host, "1")


@pytest.mark.parametrize("reload", ["in_place", "beside"])
def test_an_app_that_fell_ill_is_replaced_beside_by_a_new_release(reload, host):
    host.put("blue", host.text("broken"), age=60)
    assert host.deploy("2", reload=reload) is True
    assert host.runs() == {"blue": complete(host, "broken"), "green": complete(host, "2")}


def test_what_an_ill_app_does_is_told_when_it_would_not_start_either(impatient, host, monkeypatch):
    host.put("blue", host.text("broken"))

    def refuse(*_arguments):
        raise Unhealthy("no database")

    monkeypatch.setattr(vassal, "preflight", refuse)
    with pytest.raises(Unhealthy) as failure:
        host.deploy("broken")
    assert str(failure.value).startswith("runs as configured, but after 0 s it answers /healthz with status 500")
    assert ", and was not changed, because broken:app would not start: no database" in str(failure.value)


def test_when_going_back_does_not_help_this_is_said(impatient, host):
    host.put("blue", host.text("broken"), age=60)
    with pytest.raises(Unhealthy) as failure:
        host.deploy("broken too")
    assert "The earlier vassal file was put back, but after 1 s it answers /healthz with status 500" in str(
        failure.value
    )
    assert host.runs() == {"blue": complete(host, "broken")}


def test_a_healthy_app_that_visitors_do_not_reach_is_replaced(host, monkeypatch):
    # The unit of the held socket was restarted: whoever runs listens on one that nobody reaches.
    deaf = host.put("blue", host.text("1"), age=60)
    deaf.content = deaf.content.replace("socket = ", "; it was: ")
    began = time.monotonic()
    assert host.deploy("1", start_timeout=0.2) is True
    assert time.monotonic() - began > 0.2
    assert host.runs() == {"blue": complete(host, "1"), "green": complete(host, "1")}
    host.settle()
    assert host.answers(f"{host.run}/app.sock") == generation(host, "1")


def test_an_instance_that_visitors_do_not_reach_is_no_healthy_one(host):
    deaf = host.put("blue", host.text("1"))
    place = host.app().places[0]
    assert host.app().healthy(place)
    deaf.content = deaf.content.replace("socket = ", "; it was: ")
    assert not host.app(start_timeout=0.1).healthy(place)


def test_a_file_that_a_person_broke_is_replaced(host, params):
    Path(params["directory"], "shop.blue.ini").write_text("master\n[launch\nenvironment = 5")
    assert host.deploy("1") is True
    assert host.settle() is True
    assert host.runs() == {"green": complete(host, "1")}


# --- the age of files


def test_two_writes_within_a_second_are_two_changes_to_the_emperor(host):
    app, ages = host.app(), []
    for version in "1234":
        app.write(app.places[0], version)
        ages.append(os.stat(app.places[0].file).st_mtime)
    assert all(int(later) - int(earlier) >= 1 for earlier, later in zip(ages, ages[1:], strict=False))
    assert ages[-1] < time.time() + 5


def test_the_file_written_last_is_the_newer_one_though_the_clock_was_set_back(host):
    host.put("green", host.text("1"), age=-3600)  # from the future
    host.deploy("2")
    assert [place.colour for place in host.app().taken] == ["green", "blue"]
    host.settle()
    assert host.runs() == {"blue": complete(host, "2")}


def test_a_file_in_the_usual_case_is_as_old_as_it_is(host):
    app = host.app()
    app.write(app.places[0], "1")
    assert abs(os.stat(app.places[0].file).st_mtime - time.time()) < 30


# --- the ways


def test_in_place_the_running_instance_reloads_itself(host):
    host.deploy("1")
    host.settle()
    master = host.instance("blue").master
    assert host.deploy("2", reload="in_place") is True
    assert host.runs() == {"blue": complete(host, "2")}
    assert host.instance("blue").master == master
    assert host.settle() is False
    assert os.listdir(host.params["directory"]) == ["shop.blue.ini"]


@pytest.mark.parametrize("fault", ["broken", "silent", "dies", "ends"])
def test_after_a_failed_reload_in_place_the_former_file_is_back(fault, impatient, host):
    host.deploy("1")
    host.settle()
    with pytest.raises(Unhealthy, match=r"^did not start: (.|\n)*The earlier release serves again\.\n"):
        host.deploy(fault, reload="in_place")
    assert host.runs() == {"blue": complete(host, "1")}
    assert os.listdir(host.params["directory"]) == ["shop.blue.ini"]
    assert host.answers(f"{host.run}/app.sock") == generation(host, "1")


def test_in_place_the_time_for_running_requests_is_not_the_apps(host, monkeypatch):
    host.deploy("1")
    host.settle()
    waited = []
    monkeypatch.setattr(
        vassal.App, "wait", lambda self, sock, generation, seconds, hopeless=None: waited.append(seconds)
    )
    host.deploy("2", reload="in_place", start_timeout=20, drain_timeout=300)
    assert waited[-1] == 20 + 300 + vassal.EMPEROR


@pytest.fixture
def releases(params, tmp_path):
    """Virtualenvs of releases, made of the same unless said otherwise; returns the directory of one."""

    def make(name, python="3.13.5", uwsgi="2.0.30"):
        venv = tmp_path / "home/releases" / name / "venv"
        if not venv.exists():
            (venv / f"lib/python3.13/site-packages/pyuwsgi-{uwsgi}.dist-info").mkdir(parents=True)
            config = f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {python}\n"
            (venv / "pyvenv.cfg").write_text(config + f"command = python3 -m venv {venv}\n")
        return str(tmp_path / "home/releases" / name)

    return make


@pytest.fixture
def go(host, releases):
    """Deploy a release in the mode chain."""

    def deploy(name, *, content=None, **more):
        chain = {"reload": "chain", "link": host.params["serving"], "release": releases(name)}
        return host.deploy(content=content or host.text("chain"), **chain, **more)

    return deploy


def loaded(instance):
    return [worker.release for worker in instance.workers]


def test_the_first_deploy_of_a_chain_makes_the_link_and_starts_the_app(go, host, releases):
    assert go("r1") is True
    assert host.leads_to == releases("r1")
    assert loaded(host.instance("blue")) == ["r1", "r1"]


def test_in_a_chain_the_workers_take_the_new_release_one_at_a_time(go, host, releases):
    go("r1")
    host.settle()
    instance, begin = host.instance("blue"), os.stat(host.app().places[0].file)
    old = [worker.process for worker in instance.workers]
    assert go("r2") is True
    assert host.leads_to == releases("r2")
    assert loaded(instance) == ["r2", "r2"]
    assert os.stat(host.app().places[0].file) == begin  # or the Emperor would reload all at once
    assert list(dict.fromkeys(host.signals)) == [(signal.SIGHUP, worker) for worker in old]
    assert instance.master in host.alive
    assert host.settle() is False


def test_a_chain_that_was_gone_through_is_not_gone_through_again(go, host):
    go("r1")
    go("r2")
    host.settle()
    host.signals.clear()
    assert go("r2") is False
    assert host.signals == []


@pytest.mark.parametrize(
    ("release", "reason"),
    [
        ("dies", "worker 1 dies as soon as it starts"),
        ("broken", "it answers /healthz with status 500 instead of 200"),
        ("silent", "it answers /healthz with status none instead of 200"),
    ],
)
def test_a_chain_ends_at_the_first_worker_that_is_not_well_and_goes_back(
    release, reason, go, host, releases, monkeypatch
):
    go("r1")
    host.settle()
    second = host.instance("blue").workers[1]
    process, seen = second.process, []
    real = processes.kill

    def kill(those, number=signal.SIGKILL):
        seen.append((os.path.basename(host.leads_to), those[0]))
        real(those, number)

    monkeypatch.setattr(processes, "kill", kill)
    host.prefer = release
    with pytest.raises(Unhealthy) as failure:
        go(release)
    assert str(failure.value).startswith(f"did not start: {reason}")
    assert "The earlier release serves again" in str(failure.value)
    assert (release, process) not in seen  # the second one was never asked to take that release
    assert host.leads_to == releases("r1")
    assert loaded(host.instance("blue")) == ["r1", "r1"]
    assert os.listdir(host.params["directory"]) == ["shop.blue.ini"]


def test_every_worker_that_may_have_the_other_release_goes_back(go, host, monkeypatch):
    go("r1")
    host.settle()
    real, looks = vassal.App.look, []

    def look(self, sock, generation, *rest):
        looks.append(loaded(host.instance("blue")))
        if looks[-1] == ["r2", "r2"]:
            raise Unhealthy("no more")
        real(self, sock, generation, *rest)

    monkeypatch.setattr(vassal.App, "look", look)
    with pytest.raises(Unhealthy, match="The earlier release serves again"):
        go("r2")
    assert looks.count(["r2", "r1"]) == 3  # so often each worker's release is asked
    assert loaded(host.instance("blue")) == ["r1", "r1"]


def test_a_worker_that_does_not_end_is_killed_and_its_successor_awaited(go, host):
    go("r1")
    host.settle()
    instance = host.instance("blue")
    instance.hangs = True
    old = [worker.process for worker in instance.workers]
    assert go("r2") is True
    assert loaded(instance) == ["r2", "r2"]
    assert [one for one in host.signals if one[0] == signal.SIGKILL] == [(signal.SIGKILL, one) for one in old]


def test_a_worker_that_does_not_come_back_is_named(go, host, monkeypatch):
    go("r1")
    host.settle()
    monkeypatch.setattr(Instance, "spawn", lambda self, worker: None)
    with pytest.raises(Unhealthy, match=r"worker 1 did not start within 0\.1 s"):
        vassal.renew(
            host.app(start_timeout=0.1), host.app().places[0], host.instance("blue").statistics()["workers"][0]
        )


def test_a_chain_whose_statistics_cannot_be_read_is_given_up(go, host, monkeypatch, releases):
    go("r1")
    host.settle()
    monkeypatch.setattr(uwsgi_client, "statistics", lambda *_a, **_m: json.loads("no"))
    with pytest.raises(Unhealthy, match="did not start: its statistics cannot be read"):
        go("r2")
    assert host.leads_to == releases("r1")


def test_a_chain_that_cannot_go_on_starts_beside_and_goes_back_from_there(impatient, go, host, releases):
    go("r1")
    host.settle()
    releases("broken", python="3.14.0")
    with pytest.raises(Unhealthy, match="The earlier release serves again"):
        go("broken")
    assert host.leads_to == releases("r1")
    assert list(host.runs()) == ["blue"]
    assert loaded(host.instance("blue")) == ["r1", "r1"]


def test_the_link_is_moved_in_one_step(host, releases, monkeypatch):
    app = host.app(link=host.params["serving"])
    app.lead(releases("r1"))
    Path(host.params["serving"] + ".new").symlink_to("left by a run that was killed")
    real, seen = os.replace, []

    def replace(*paths):
        seen.append(app.leads_to)
        real(*paths)

    monkeypatch.setattr(os, "replace", replace)
    app.lead(releases("r2"))
    assert seen == [releases("r1")]
    assert app.leads_to == releases("r2")
    app.lead(releases("r2"))
    app.lead("")
    assert len(seen) == 1


# Which way

RELOADS = ["beside", "in_place", "chain"]


@pytest.fixture
def way(host, releases):
    """Which way is gone to a content, from release r1 to r2."""

    def choose(reload, content, release="r2"):
        chain = {"link": host.params["serving"], "release": releases(release)} if reload == "chain" else {}
        return vassal.way(host.app(reload=reload, start_timeout=0.2, **chain), vassal_file.complete(content)[0])

    return choose


@pytest.fixture
def running(host, releases):
    """A healthy instance in release r1."""
    Path(host.params["serving"]).symlink_to(releases("r1"))
    return host.put("blue", host.text("chain"), age=60)


@pytest.mark.parametrize("reload", RELOADS)
def test_a_healthy_instance_goes_the_way_that_is_wanted(reload, way, running, host):
    assert way(reload, host.text("chain")) == reload


@pytest.mark.parametrize("reload", RELOADS)
def test_where_nothing_runs_the_app_starts_beside_nothing(reload, way, host):
    assert way(reload, host.text("chain")) == "beside"


@pytest.mark.parametrize("reload", RELOADS)
def test_an_unhealthy_instance_goes_no_other_way(reload, way, running, host):
    running.ill = True
    assert way(reload, host.text("chain")) == "beside"


def test_in_place_no_instance_changes_its_listening_socket(way, running, host):
    assert way("in_place", host.text("2")) == "in_place"
    assert way("in_place", text("2")) == "beside"
    assert way("in_place", text("2", held="/elsewhere")) == "beside"


def test_a_chain_changes_nothing_but_the_release(way, running, host):
    # Workers get everything else from their master.
    assert way("chain", host.text("chain", {"A": "changed"})) == "beside"
    assert way("chain", host.text("chain", None, "harakiri = 5")) == "beside"


def test_a_chain_cannot_change_the_python(way, running, host, releases):
    releases("newer", python="3.14.0")
    assert way("chain", host.text("chain"), "newer") == "beside"


def test_a_chain_cannot_change_the_uwsgi(way, running, host, releases):
    releases("newer", uwsgi="2.0.31")
    assert way("chain", host.text("chain"), "newer") == "beside"


def test_a_chain_needs_a_link_to_start_from(way, running, host):
    os.unlink(host.params["serving"])
    assert way("chain", host.text("chain")) == "beside"
    assert not vassal.chainable(host.app(link=host.params["serving"], release="/of which nothing is known"))


# --- room for two


def test_a_second_instance_needs_what_the_rehearsal_used_and_what_each_more_worker_has_alone(host, monkeypatch):
    # 30 for the first worker and all it shares, 10 for each of three more: 60.
    content = text("1", None, "processes = 4")
    monkeypatch.setattr(processes, "available_memory", lambda: (60 + 64) * MIB)
    vassal.check_memory(host.app(), content, Memory(30 * MIB, 10 * MIB, 25 * MIB))
    monkeypatch.setattr(processes, "available_memory", lambda: (60 + 64) * MIB - 1)
    with pytest.raises(Unhealthy) as refusal:
        vassal.check_memory(host.app(), content, Memory(30 * MIB, 10 * MIB, 25 * MIB))
    assert str(refusal.value) == (
        "a second instance beside the running one needs about 60 MiB, but of the host's 123 MiB of available memory "
        "64 MiB have to stay free (flask_apps_memory_reserve): set reload of this app to chain or graceful, or "
        "workers.processes lower, or give the host more memory"
    )
    vassal.check_memory(host.app(memory_reserve=63), content, Memory(30 * MIB, 10 * MIB, 25 * MIB))


@pytest.mark.parametrize("content", ["", text("1", None, "processes = 1")])
def test_one_worker_needs_no_more_than_the_rehearsal(content, host, monkeypatch):
    monkeypatch.setattr(processes, "available_memory", lambda: (30 + 64) * MIB)
    vassal.check_memory(host.app(), content, Memory(30 * MIB, 10 * MIB, 25 * MIB))


def test_what_the_kernel_does_not_tell_is_no_reason_to_refuse(host, monkeypatch):
    monkeypatch.setattr(processes, "available_memory", lambda: 0)
    vassal.check_memory(host.app(), text("1"), None)


def test_without_room_nothing_is_changed_and_why_is_said(host, monkeypatch):
    host.deploy("1")
    host.settle()
    monkeypatch.setattr(processes, "available_memory", lambda: 100 * MIB)
    with pytest.raises(
        Unhealthy, match=r"^was not changed, because 2:app would not start: a second instance .* 40 MiB"
    ):
        host.deploy("2")
    assert os.listdir(host.params["directory"]) == ["shop.blue.ini"]


def test_room_is_needed_for_two_instances_only(host, monkeypatch):
    monkeypatch.setattr(processes, "available_memory", lambda: 0)
    assert host.deploy("1") is True
    host.settle()
    assert host.deploy("2", reload="in_place") is True


# --- the limit of its memory


@pytest.fixture
def limited(host, tmp_path, monkeypatch):
    """What the Emperor would read for the next instance, and the limit of those that run, in MiB."""
    group = tmp_path / "app-shop"
    group.mkdir()
    group.joinpath("memory.max").write_text("max\n")
    monkeypatch.setattr(control_group, "of_app", lambda name: group if group.exists() and name == "shop" else None)

    def limits():
        texts = [vassal_file.read(str(path)) for path in (Path(host.app().limit), group / "memory.max")]
        return [text and (text if text.strip() == "max" else int(text) // MIB) for text in texts]

    return limits, group


def test_an_app_is_held_to_its_limit_from_its_start(limited, host):
    limits, _group = limited
    host.deploy("1", memory_limit=100)
    assert limits() == [100, 100]
    assert not host.settle(memory_limit=100)


def test_a_higher_limit_comes_before_the_switch_and_a_lower_one_after_it(limited, host):
    limits, _group = limited
    host.deploy("1", memory_limit=100)
    host.settle(memory_limit=100)
    host.deploy("2", memory_limit=200)
    assert limits() == [200, 200]
    host.settle(memory_limit=200)
    host.deploy("3", memory_limit=50)
    assert limits() == [200, 200]
    assert host.settle(memory_limit=50)
    assert limits() == [50, 50]


def test_a_limit_alone_is_a_change_and_no_switch(limited, host):
    limits, _group = limited
    host.deploy("1", memory_limit=100)
    host.settle(memory_limit=100)
    before = host.runs()
    assert not host.deploy("1", memory_limit=120)
    assert host.settle(memory_limit=120)
    assert limits() == [120, 120]
    assert host.runs() == before
    assert not host.settle(memory_limit=120)


@pytest.mark.parametrize("reload", ["beside", "in_place"])
def test_a_limit_that_was_raised_for_a_broken_release_is_taken_back(limited, impatient, host, reload):
    limits, _group = limited
    host.deploy("1", memory_limit=100)
    host.settle(memory_limit=100)
    with pytest.raises(Unhealthy):
        host.deploy("broken", reload=reload, memory_limit=120)
    assert limits() == [100, 100]
    assert not host.settle(memory_limit=100)


def test_nothing_is_left_of_the_limit_of_a_first_release_that_is_taken_back(limited, host):
    limits, _group = limited
    host.deploy("1", memory_limit=100)
    vassal.give_back(host.app())
    assert limits()[0] is None


def test_a_limit_that_somebody_changed_is_put_right(limited, host):
    limits, group = limited
    host.deploy("1", memory_limit=100)
    host.settle(memory_limit=100)
    group.joinpath("memory.max").write_text("max\n")
    assert host.settle(memory_limit=100)
    assert limits() == [100, 100]


def test_without_control_groups_the_limit_is_kept_for_the_day_there_are_some(limited, host):
    limits, group = limited
    group.joinpath("memory.max").unlink()
    group.rmdir()
    host.deploy("1", memory_limit=100)
    assert not host.settle(memory_limit=100)
    assert limits()[0] == 100


def test_a_limit_of_0_changes_none(limited, host):
    limits, _group = limited
    host.deploy("1", memory_limit=100)
    assert not host.settle(memory_limit=0)
    assert limits() == [100, 100]


def test_the_module_says_in_a_dry_run_that_it_would_change_the_limit(limited, module, host):
    limits, _group = limited
    module("1", memory_limit=100)
    module(state="settled", memory_limit=100)
    assert not module(state="settled", check=True, memory_limit=100)["changed"]
    assert module(state="settled", check=True, memory_limit=90)["changed"]
    assert limits() == [100, 100]


def test_nothing_is_left_of_the_limit_of_an_absent_app(limited, host):
    limits, group = limited
    host.deploy("1", memory_limit=100)
    group.joinpath("memory.max").unlink()  # the kernel's files go with their directory
    vassal.absent(host.app())
    assert limits() == [None, None]
    assert not group.exists()


# --- a run that was killed


class Killed(BaseException):
    """The module was killed."""


@pytest.fixture
def kill_at(host, monkeypatch):
    """Let a deploy be killed where this function of the module is called; a switch that was begun stays."""

    def at(name, deploy):
        def killed(*_arguments, **_more):
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(vassal, name, killed)
            if name in vassal.WAYS:
                patch.setitem(vassal.WAYS, name, killed)
            with pytest.raises(Killed):
                deploy()
        assert os.path.exists(host.app().memory)

    return at


@pytest.fixture
def killed(host, kill_at, monkeypatch):
    """Deploy "1", and then another version in a run that is killed at some step."""

    def at(step, version="2", reload="beside"):
        host.deploy("1")
        host.settle()
        if step == "not started yet":
            kill_at(reload, lambda: host.deploy(version, reload=reload))
        elif step == "started":
            kill_at("watch", lambda: host.deploy(version, reload=reload))
        elif step == "written":
            real = vassal.App.wait

            def wait(self, sock, generation, *rest):
                if generation == vassal_file.complete(host.text(version))[1]:
                    raise Killed
                real(self, sock, generation, *rest)

            monkeypatch.setattr(vassal.App, "wait", wait)
            with pytest.raises(Killed):
                host.deploy(version, reload=reload)
            monkeypatch.setattr(vassal.App, "wait", real)
        else:
            host.deploy(version, reload=reload)
        assert os.path.exists(host.app().memory)

    return at


STEPS = [
    ("not started yet", "beside"),
    ("started", "beside"),
    ("not settled", "beside"),
    ("not started yet", "in_place"),
    ("written", "in_place"),
    ("not settled", "in_place"),
]


@pytest.mark.parametrize(("step", "reload"), STEPS)
@pytest.mark.parametrize("version", ["1", "2", "3"])
def test_a_killed_run_is_healed_by_the_next_one(step, reload, version, killed, host):
    killed(step, reload=reload)
    host.deploy(version, reload=reload)
    host.settle()
    assert list(host.runs().values()) == [complete(host, version)]
    assert len(os.listdir(host.params["directory"])) == 1
    host.until(lambda: len(host.instances) == 1)
    assert host.answers(f"{host.run}/app.sock") == generation(host, version)


@pytest.mark.parametrize(("step", "reload"), STEPS[1:2] + STEPS[4:5])
@pytest.mark.parametrize("version", ["broken", "broken too"])
def test_after_a_killed_run_another_failure_goes_back_to_what_last_worked(
    step, reload, version, impatient, killed, host
):
    # Not to the file on disk, which never worked.
    killed(step, "broken", reload)
    with pytest.raises(Unhealthy, match="The earlier release serves again"):
        host.deploy(version, reload=reload)
    assert list(host.runs().values()) == [complete(host, "1")]
    assert host.answers(f"{host.run}/app.sock") == generation(host, "1")


@pytest.mark.parametrize(("step", "reload"), STEPS)
def test_a_killed_run_can_be_taken_back(step, reload, killed, host):
    killed(step, reload=reload)
    assert vassal.give_back(host.app()) == "The earlier release serves again"
    assert host.runs() == {"blue": complete(host, "1")}
    assert not os.path.exists(host.app().memory)
    assert host.answers(f"{host.run}/app.sock") == generation(host, "1")


def test_going_back_to_what_is_wanted_is_a_change_that_needs_no_start(killed, host):
    killed("not settled")
    host.rehearsed.clear()
    assert host.deploy("1") is True
    assert host.rehearsed == []
    assert host.runs() == {"blue": complete(host, "1")}


def test_a_switch_that_only_has_to_be_settled_is_not_repeated(killed, host):
    killed("not settled")
    assert host.deploy("2") is False
    assert len(host.runs()) == 2  # until it is settled, it can be taken back
    assert vassal.give_back(host.app()) == "The earlier release serves again"
    assert host.runs() == {"blue": complete(host, "1")}


def test_a_first_run_that_was_killed_is_finished_by_the_next(kill_at, host):
    kill_at("watch", lambda: host.deploy("1"))
    assert host.deploy("1") is True  # visitors come to it
    assert host.deploy("1") is False
    host.settle()
    assert host.runs() == {"blue": complete(host, "1")}


def test_a_first_run_that_was_killed_is_no_release_to_return_to(impatient, kill_at, host):
    kill_at("watch", lambda: host.deploy("broken"))
    with pytest.raises(Unhealthy, match="was stopped, for there is no earlier release to return to"):
        host.deploy("broken")
    assert host.runs() == {}


def test_of_two_instances_without_the_memory_the_older_is_what_ran_before(host):
    host.put("green", host.text("1"), age=60)
    host.put("blue", host.text("2"))
    before = host.app().before
    assert before
    assert (before.colour, before.content) == ("green", complete(host, "1"))
    assert host.deploy("2") is True  # visitors come to it
    assert host.deploy("2") is False
    assert host.settle() is True
    assert host.runs() == {"blue": complete(host, "2")}


@pytest.mark.parametrize("version", ["1", "3"])
def test_two_instances_without_the_memory_are_healed_by_any_content(version, host):
    host.put("green", host.text("1"), age=60)
    host.put("blue", host.text("2"))
    host.deploy(version)
    host.settle()
    assert list(host.runs().values()) == [complete(host, version)]


def test_one_instance_without_the_memory_is_nothing_to_return_from(host):
    host.put("green", host.text("1"))
    assert host.app().before is None
    assert vassal.give_back(host.app()) == "Nothing was to be taken back"
    assert host.runs() == {"green": complete(host, "1")}


def test_a_run_killed_while_it_ended_the_old_instance_is_healed(host, killed, kill_at):
    killed("not settled")
    kill_at("bury", host.settle)  # the file is gone already
    assert list(host.runs()) == ["green"]
    host.deploy("3")
    host.settle()
    assert list(host.runs().values()) == [complete(host, "3")]


@pytest.mark.parametrize("step", ["renew", "in the middle"])
@pytest.mark.parametrize("release", ["r1", "r2", "r3"])
def test_a_chain_that_was_killed_is_healed_by_the_next_run(step, release, go, host, releases, kill_at, monkeypatch):
    go("r1")
    host.settle()
    instance = host.instance("blue")
    if step == "renew":
        kill_at("renew", lambda: go("r2"))  # the link was moved
    else:
        real = vassal.renew

        def renew(app, place, worker):
            if worker["id"] == 2:
                raise Killed
            real(app, place, worker)

        monkeypatch.setattr(vassal, "renew", renew)
        with pytest.raises(Killed):
            go("r2")
        monkeypatch.setattr(vassal, "renew", real)
        assert loaded(instance) == ["r2", "r1"]
    assert host.leads_to == releases("r2")
    assert go(release) is True
    host.settle()
    assert host.leads_to == releases(release)
    assert loaded(instance) == [release, release]
    assert os.listdir(host.params["directory"]) == ["shop.blue.ini"]


def test_a_chain_killed_before_it_was_settled_is_gone_through_again(go, host, releases):
    # It looks new, but nobody knows whether every worker is.
    go("r1")
    host.settle()
    go("r2")
    host.signals.clear()
    assert go("r2") is True
    assert len(host.signals) >= 4
    assert loaded(host.instance("blue")) == ["r2", "r2"]


def test_another_mode_heals_a_chain_that_was_killed(go, host, kill_at):
    go("r1")
    host.settle()
    kill_at("renew", lambda: go("r2"))
    assert host.deploy("3") is True
    host.settle()
    assert list(host.runs().values()) == [complete(host, "3")]


def test_workers_of_another_mode_are_not_renewed_because_of_a_link_that_was_left(host, releases):
    Path(host.params["serving"]).symlink_to(releases("r1"))
    host.deploy("1")
    host.settle()
    family = host.instance("blue").family
    host.deploy("2")
    assert vassal.give_back(host.app(link=host.params["serving"])) == "The earlier release serves again"
    assert host.instance("blue").family == family


# --- ending


@pytest.fixture
def ending(host, monkeypatch):
    """A running instance, a function that ends it, and the signals since."""
    instance = host.put("blue", host.text("1"))
    instance.workers_at_first = [worker.process for worker in instance.workers]

    def end(**more):
        vassal.stop(host.app(**more), host.app().places[0])

    return SimpleNamespace(instance=instance, end=end, signals=host.signals)


def test_an_instance_ends_without_any_signal_of_ours(ending, host):
    ending.end()
    assert host.signals == []
    assert host.alive == set()
    assert os.listdir(host.run) == ["app.sock"]
    assert host.runs() == {}


def test_a_running_request_may_end(ending, host):
    ending.instance.connections = 1
    later(0.4, ending.instance, "connections", 0)
    began = time.monotonic()
    ending.end(drain_timeout=10)
    assert 0.39 < time.monotonic() - began < 8
    assert signal.SIGKILL not in [number for number, _process in host.signals]


def test_an_instance_without_a_connection_that_does_not_end_is_killed_soon(ending, host):
    ending.instance.hangs = True
    began = time.monotonic()
    ending.end(drain_timeout=60)
    assert vassal.HANGS < time.monotonic() - began < 10
    assert {process for number, process in host.signals if number == signal.SIGKILL} == set(ending.instance.family)


def test_an_instance_hangs_from_the_end_of_its_last_request(ending, host, monkeypatch):
    monkeypatch.setattr(vassal, "HANGS", 0.3)
    ending.instance.hangs = True
    ending.instance.connections = 1
    later(0.25, ending.instance, "connections", 0)
    began = time.monotonic()
    ending.end(drain_timeout=60)
    assert 0.5 < time.monotonic() - began < 10


@pytest.mark.parametrize("connections", [1, None])
def test_an_instance_that_has_a_connection_is_killed_at_the_deadline_and_not_before(
    connections, ending, host, monkeypatch
):
    monkeypatch.setattr(vassal, "EMPEROR", 0.3)
    ending.instance.connections = connections  # None: the kernel does not tell, there may be one
    ending.instance.hangs = True
    began = time.monotonic()
    ending.end(drain_timeout=0.2)
    assert 0.5 < time.monotonic() - began < 8
    assert (signal.SIGKILL, ending.instance.master) in host.signals


def test_workers_are_told_again_and_the_master_never(ending, host, monkeypatch):
    # A worker that was just starting may have lost the signal; to the master it would mean a reload.
    monkeypatch.setattr(vassal, "EMPEROR", 0.3)
    ending.instance.connections = 1
    ending.end(drain_timeout=0)
    told = [process for number, process in host.signals if number == signal.SIGHUP]
    assert set(told) == set(ending.instance.workers_at_first)


def test_nobody_is_told_again_at_once(ending, host, monkeypatch):
    times, real = [time.monotonic()], processes.kill

    def kill(those, number=signal.SIGKILL):
        times.append(time.monotonic())
        real(those, number)

    monkeypatch.setattr(processes, "kill", kill)
    monkeypatch.setattr(vassal, "AGAIN", 0.15)
    monkeypatch.setattr(vassal, "EMPEROR", 2)  # also on a busy machine enough for two times
    ending.instance.connections = 1
    ending.end(drain_timeout=0)
    assert len(times) > 3
    assert times[1] - times[0] >= 0.15
    assert times[2] - times[1] >= 0.15


def test_what_an_instance_started_is_ended_with_it(ending, host, monkeypatch):
    helper = host.process()
    monkeypatch.setattr(processes, "with_descendants", lambda those: [*those, helper] if those else [])
    real = processes.kill

    def kill(those, number=signal.SIGKILL):
        real(those, number)
        host.alive.discard(helper)

    monkeypatch.setattr(processes, "kill", kill)
    monkeypatch.setattr(vassal, "AGAIN", 60)
    ending.end()
    assert host.signals == [(signal.SIGKILL, helper)]


def test_what_is_to_be_ended_is_looked_for_before_the_emperor_is_told(ending, host, monkeypatch):
    # Later a helper whose master has ended would belong to nobody.
    seen = []

    def with_descendants(those):
        seen.append(list(host.runs()))
        return list(those)

    monkeypatch.setattr(processes, "with_descendants", with_descendants)
    ending.end()
    assert seen[0] == ["blue"]


# With sockets of their own (mode upstream)


@pytest.fixture
def two(host):
    """Two instances with sockets of their own, the older in blue."""
    old = host.put("blue", text("1"), age=60)
    new = host.put("green", text("2"))
    return SimpleNamespace(old=old, new=new, blue=host.path("blue.sock"), green=host.path("green.sock"))


@pytest.fixture
def reached(host):
    """The socket to which visitors come, by its file name."""
    return lambda: os.path.basename(links.target(host.params["upstream"]))


def test_visitors_come_to_what_was_started_last(host, reached):
    host.deploy("1")
    assert reached() == "app.sock"
    assert host.deploy("1") is False
    for version, sock in {"2": "shop.green.sock", "3": "shop.blue.sock"}.items():
        host.settle()
        assert host.deploy(content=text(version)) is True
        assert reached() == sock
        assert host.answers(host.params["upstream"]) == vassal_file.complete(text(version))[1]
    host.settle()
    host.deploy("4")
    assert reached() == "app.sock"


def test_visitors_come_to_a_release_only_when_it_answers_well(host, monkeypatch, reached):
    host.deploy(content=text("1"))
    host.settle()
    seen = []
    real = vassal.App.wait

    def wait(app, sock, *arguments):
        seen.append((os.path.basename(sock), reached()))
        real(app, sock, *arguments)

    monkeypatch.setattr(vassal.App, "wait", wait)
    host.deploy(content=text("2"))
    assert set(seen) == {("shop.blue.sock", "shop.blue.sock"), ("shop.green.sock", "shop.blue.sock")}
    with pytest.raises(Unhealthy):
        host.deploy(content=text("broken"), start_timeout=0.2)
    assert reached() == "shop.blue.sock"


def test_the_sockets_of_a_place_go_with_its_instance(two, host):
    assert host.settle() is True
    assert sorted(os.listdir(host.run)) == ["app.sock", "shop.green.sock", "shop.green.stats"]


def test_visitors_come_to_the_held_socket_when_the_instance_itself_goes_over_to_it(host, reached):
    own = host.text("1").replace("\n[uwsgi]", "visitors = own\n\n[uwsgi]")
    host.deploy(content=own)
    assert reached() == "shop.blue.sock"
    host.settle()
    assert host.deploy("1", reload="in_place") is True
    assert list(host.runs()) == ["blue"]
    assert reached() == "app.sock"


@pytest.mark.parametrize("led", ["nowhere", None])
def test_a_link_that_somebody_changed_is_mended(led, module, host, reached):
    module("1")
    module(state="settled")
    os.unlink(host.params["upstream"])
    if led:
        os.symlink(led, host.params["upstream"])
    assert module("1", check=True)["changed"]
    assert reached() == (led or "")
    assert module("1")["changed"]
    assert reached() == "app.sock"
    assert not module("1", check=True)["changed"]
    assert not module("1")["changed"]


def test_a_run_that_was_killed_before_visitors_went_over_is_made_up_for(host, kill_at, reached):
    host.deploy(content=text("1"))
    host.settle()
    kill_at("link", lambda: host.deploy(content=text("2")))
    assert reached() == "shop.blue.sock"
    assert host.deploy(content=text("2")) is True
    assert reached() == "shop.green.sock"
    assert host.settle() is True
    assert host.deploy(content=text("2")) is False


def test_an_instance_is_told_to_stop_when_it_was_idle_for_a_moment(two, host, monkeypatch):
    looks = []
    real = vassal.idle

    def idle(place):
        looks.append(os.path.exists(place.file))
        two.old.in_request = int(len(looks) in (1, 2, 5))  # idle at the looks 3, 4 and, in a row, 6, 7, 8
        host.until(
            lambda: (vassal.statistics(place.stats) or {})["workers"][0]["cores"][1]["in_request"] == two.old.in_request
        )
        return real(place)

    monkeypatch.setattr(vassal, "idle", idle)
    host.settle(drain_timeout=30)
    assert looks == [True] * 8


def test_an_instance_that_is_never_idle_is_told_to_stop_when_its_time_is_over(two, host):
    two.old.in_request = 1
    began = time.monotonic()
    host.settle(drain_timeout=0.4)
    assert 0.4 < time.monotonic() - began < 10
    assert list(host.runs()) == ["green"]


def test_an_instance_that_says_nothing_of_itself_is_not_taken_for_idle(host):
    assert not vassal.idle(host.app().places[0])


def test_on_a_shared_socket_nobody_is_left_behind(host, monkeypatch):
    host.put("blue", host.text("1"), age=60).in_request = 1
    host.put("green", host.text("2"))
    monkeypatch.setattr(vassal, "wait_idle", None)
    host.settle()
    assert not os.path.lexists(host.path("blue.sock"))


def test_visitors_return_before_what_they_came_to_ends(two, host, monkeypatch, reached):
    host.deploy(content=text("2"))
    assert reached() == "shop.green.sock"
    seen, real = [], vassal.stop

    def stop(app, place):
        seen.append((place.colour, reached()))
        real(app, place)

    monkeypatch.setattr(vassal, "stop", stop)
    vassal.give_back(host.app())
    assert seen == [("green", "shop.blue.sock")]
    assert host.runs() == {"blue": vassal_file.complete(text("1"))[0]}
    assert host.answers(host.params["upstream"]) == vassal_file.complete(text("1"))[1]


def test_an_instance_that_a_killed_run_was_ending_is_returned_to(two, host, kill_at, reached):
    host.app().remember(host.app().places[0])
    kill_at("wait_idle", host.settle)
    assert vassal.give_back(host.app()) == "The earlier release serves again"
    assert reached() == "shop.blue.sock"
    assert host.answers(two.blue) == vassal_file.complete(text("1"))[1]


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("buried", [True, False])
def test_a_run_that_was_killed_while_it_ended_an_instance_leaves_no_sockets(buried, own, host, monkeypatch):
    host.put("blue", text("1") if own else host.text("1"), age=60)
    host.put("green", text("2") if own else host.text("2"))
    bury = vassal.bury

    def killed(*arguments):
        if buried:
            bury(*arguments)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(vassal, "bury", killed)
        with pytest.raises(Killed):
            host.settle()
    assert list(host.runs()) == ["green"]
    assert os.path.exists(host.path("blue.stats"))
    assert host.settle() is True
    assert host.settle() is False
    assert not os.path.exists(host.path("blue.stats"))
    assert not os.path.lexists(host.path("blue.sock"))


def test_a_place_is_taken_again_only_when_it_is_empty(host, monkeypatch):
    # A run was killed after it had told the old instance to stop.
    leaving = host.put("green", host.text("0"))
    leaving.connections = 1
    host.put("blue", host.text("1"))
    os.unlink(leaving.file)
    later(0.5, leaving, "connections", 0)
    assert host.deploy("2", start_timeout=0.2, drain_timeout=10) is True
    assert leaving.master not in host.alive
    host.settle()
    assert host.runs() == {"green": complete(host, "2")}


# --- statistics


def stats(*workers):
    """What a statistics socket tells of workers, each (id, respawn count, accepting)."""
    return {
        "pid": 1,
        "workers": [
            {
                "id": number,
                "pid": 100 + count,
                "accepting": accepting,
                "status": "idle",
                "respawn_count": count,
                "cores": [],
            }
            for number, count, accepting in workers
        ],
    }


NOBODY, SILENCE = ConnectionRefusedError(), TimeoutError()


@pytest.fixture
def dying(monkeypatch):
    """Look whether workers die, when the statistics socket tells this, or raises that."""
    tells: list[Any] = []

    def statistics(sock, timeout):
        if isinstance(tells[-1], OSError):
            raise tells[-1]
        return tells[-1]

    monkeypatch.setattr(uwsgi_client, "statistics", statistics)
    look = vassal.deaths("/stats")

    def told(one):
        tells.append(one)
        look()

    return told


def not_yet(dying, *told):
    for one in told:
        with pytest.raises(Unhealthy, match="none of its workers has loaded the app") as reason:
            dying(one)
        assert not isinstance(reason.value, Stop)


def hopeless(dying, told):
    with pytest.raises(Stop, match="its workers die as soon as they start"):
        dying(told)


def test_workers_that_die_again_and_again_are_hopeless(dying):
    not_yet(dying, *(stats((1, count, 0), (2, 1, 0)) for count in (4, 5, 6)))
    hopeless(dying, stats((1, 7, 0), (2, 1, 0)))


def test_a_worker_that_serves_gives_hope(dying):
    for count in (1, 5, 9):
        dying(stats((1, count, 0), (2, 1, 1)))


def test_whoever_tells_nothing_because_he_is_not_there_yet_gives_hope(dying):
    for _look in range(20):
        dying(NOBODY)


def test_a_master_that_is_there_and_silent_for_long_is_hopeless(dying):
    # It has its hands full with workers that die.
    not_yet(dying, *[SILENCE] * (vassal.SILENCES - 1))
    hopeless(dying, SILENCE)


def test_a_master_that_is_silent_now_and_then_is_not_hopeless(dying):
    for _time in range(3):
        not_yet(dying, *[SILENCE] * (vassal.SILENCES - 1))
        dying(stats((1, 1, 1)))


def test_workers_that_start_with_the_first_question_are_asked(dying):
    cheap = stats((1, 1, 0), (2, 1, 0))
    for worker in cheap["workers"]:
        worker.update(status="cheap", pid=0)
    for _look in range(5):
        dying(cheap)


def test_a_master_that_answers_between_two_batches_of_dying_workers_is_hopeless(dying):
    for _time in range(vassal.SILENCES - 1):
        not_yet(dying, SILENCE)
        not_yet(dying, stats((1, 2, 0), (2, 1, 0)))
    hopeless(dying, SILENCE)


def test_whoever_tells_nonsense_gives_hope(dying, monkeypatch):
    monkeypatch.setattr(uwsgi_client, "statistics", lambda *_arguments, **_more: json.loads(""))
    for _look in range(20):
        dying(NOBODY)


def test_workers_that_end_their_requests_tell_nothing_of_those_that_come(host, monkeypatch):
    """A master that reloads is silent while they do, or says that they accept."""
    former = host.put("blue", host.text("1")).workers[0].process
    hopeless = vassal.watch(host.app().places[0])

    def statistics(sock, timeout):
        raise SILENCE

    monkeypatch.setattr(uwsgi_client, "statistics", statistics)
    monkeypatch.setattr(host, "bury", lambda file, instance: None)
    for _look in range(20):
        assert not hopeless()
    with host.lock:
        for worker in host.instance("blue").workers:
            host.alive.discard(worker.process)
    assert former not in host.alive
    for _look in range(vassal.SILENCES - 1):
        with pytest.raises(Unhealthy, match="none of its workers has loaded the app"):
            hopeless()
    with pytest.raises(Stop, match="its workers die as soon as they start"):
        hopeless()


@pytest.mark.parametrize(("fault", "killed"), [("dies", True), ("broken", False)])
def test_a_master_whose_workers_die_would_not_read_its_former_file_and_is_killed(fault, killed, host, impatient):
    host.deploy("1")
    host.settle()
    master = host.instance("blue").master
    with pytest.raises(Unhealthy, match="The earlier release serves again"):
        host.deploy(fault, reload="in_place")
    assert ((signal.SIGKILL, master) in host.signals) is killed
    assert host.answers(f"{host.run}/app.sock") == generation(host, "1")


def test_nobody_is_asked_before_he_can_answer(host):
    # The question would wait in the queue, and nobody would see meanwhile that the workers die.
    slow = host.put("blue", host.text("1"))
    with host.lock:
        slow.accepting = False
    later(0.3, slow, "accepting", True)
    place = host.app().places[0]
    host.app().wait(place.socket, generation(host, "1"), 20, vassal.watch(place))
    assert len(host.asked) == 1


def test_a_cheap_worker_is_none():
    one, other = stats((1, 1, 1), (2, 1, 1))["workers"]
    assert vassal.workers({"workers": [one, {**other, "status": "cheap"}]}) == [one]
    assert vassal.workers({"workers": [{**one, "pid": 0}, other]}) == [other]


def test_a_master_that_is_another_one_at_every_look_is_hopeless(host, monkeypatch):
    looks: list[None] = []
    monkeypatch.setattr(vassal_file.Place, "instance", lambda _place: [Process(len(looks), 7), Process(99, 7)])
    hopeless = vassal.watch(host.app().places[0])
    for _look in range(3):
        looks.append(None)
        hopeless()
    looks.append(None)
    with pytest.raises(Stop, match="it ends as soon as it starts, again and again"):
        hopeless()


def test_a_master_that_takes_its_time_is_waited_for(host, monkeypatch):
    monkeypatch.setattr(vassal_file.Place, "instance", lambda _place: [Process(1, 7)])
    hopeless = vassal.watch(host.app().places[0])
    for _look in range(20):
        hopeless()


def test_a_master_that_ended_is_hopeless(host):
    instance = host.put("blue", host.text("1"))
    hopeless = vassal.watch(host.app().places[0])
    hopeless()
    with host.lock:
        host.alive.discard(instance.master)
        with pytest.raises(Stop, match="it ends when it starts"):
            hopeless()


def test_before_a_master_is_there_its_end_is_not_noticed(host):
    hopeless = vassal.watch(host.app().places[0])
    hopeless()


# --- preflight


# Starts as the wrapper would, reads the file it is given and answers as uWSGI would, until it is ended.
SERVER = f"""#!{sys.executable}
import json, os, re, signal, socket, subprocess, sys, threading
content = open(sys.argv[sys.argv.index("--ini") + 1]).read()
print("Traceback: it has", sorted(os.environ), flush=True)
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


@pytest.fixture
def rehearse(params, deeds, tmp_path):
    (tmp_path / "wrapper").write_text(SERVER)
    (tmp_path / "wrapper").chmod(0o755)

    def run(version, *arguments, **more):
        content, generation = vassal_file.complete(text(version, *arguments, held=params["run"]))
        return vassal.preflight(vassal.App({**params, "start_timeout": 20, **more}), content, generation)

    return run


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
    return sorted(os.listdir(tmp_path / "run"))


def test_a_good_app_passes_and_leaves_nothing(rehearse, tmp_path, deeds):
    rehearse("1")
    assert left(tmp_path) == ["child", "content"]
    assert ended(int((tmp_path / "run/child").read_text()))
    (command, uid, gid) = next(what for what in deeds.of("run as") if "--ini" in what[0])
    assert command[-3:] == [str(tmp_path / "wrapper"), "--ini", str(tmp_path / "run/preflight.ini")]
    assert (uid, gid) == (os.getuid(), os.getgid())


def test_what_the_rehearsal_uses_is_measured_while_it_runs(rehearse, tmp_path):
    used = rehearse("1")
    assert used
    assert MIB < used.private <= used.total < 200 * MIB
    assert used.private <= used.rss < 200 * MIB


def test_what_the_kernel_does_not_tell_is_not_guessed(rehearse, program):
    program("cat", "exit 1")
    assert rehearse("1") is None


def test_a_chain_rehearses_the_release_and_not_where_the_link_leads_yet(rehearse, params, tmp_path):
    environment = {"EMPEROR_SERVING": params["serving"], "VIRTUAL_ENV": params["serving"] + "/venv"}
    rehearse("1", environment, link=params["serving"], release="/releases/r2")
    found = vassal_file.environment((tmp_path / "run/content").read_text())
    assert found == {"EMPEROR_SERVING": "/releases/r2", "VIRTUAL_ENV": "/releases/r2/venv"}


def test_without_a_chain_the_rehearsal_has_the_file_as_it_is(rehearse, params, tmp_path):
    rehearse("1", {"A": params["serving"]}, link=params["serving"])
    assert vassal_file.environment((tmp_path / "run/content").read_text()) == {"A": params["serving"]}


def test_an_app_that_ends_is_not_waited_for_and_its_last_words_are_told(rehearse, tmp_path):
    began = time.monotonic()
    with pytest.raises(Unhealthy) as failure:
        rehearse("gone")
    assert time.monotonic() - began < 15
    assert str(failure.value).startswith("it ends before it answers (exit code 22)\n")
    assert "Traceback: it has" in str(failure.value)
    assert "PATH" not in str(failure.value)  # the environment is the vassal file's, nothing of root's
    assert left(tmp_path) == []


def test_an_app_whose_workers_die_is_not_waited_for(rehearse, tmp_path):
    began = time.monotonic()
    with pytest.raises(Unhealthy, match=r"^its workers die as soon as they start\nTraceback"):
        rehearse("dying")
    assert time.monotonic() - began < 15
    assert left(tmp_path) == []


def test_an_app_that_answers_badly_is_told_and_ended(rehearse, tmp_path):
    with pytest.raises(Unhealthy, match="after 1 s it answers /healthz with status 500"):
        rehearse("broken", start_timeout=1)
    assert left(tmp_path) == ["child", "content"]
    assert ended(int((tmp_path / "run/child").read_text()))


def test_an_app_that_does_not_obey_is_killed_with_its_children(rehearse, tmp_path, monkeypatch):
    real = subprocess.Popen.wait
    monkeypatch.setattr(subprocess.Popen, "wait", lambda self, timeout=None: real(self, min(timeout or 9, 0.2)))
    rehearse("stubborn")
    assert ended(int((tmp_path / "run/child").read_text()))


# --- absent


def test_an_absent_app_ends_and_loses_its_files(host):
    host.deploy("1")
    host.settle()
    host.deploy("2")
    assert len(host.instances) == 2
    assert vassal.absent(host.app()) is True
    assert os.listdir(host.params["directory"]) == []
    assert os.listdir(host.run) == ["app.sock"]
    assert host.alive == set()
    assert vassal.absent(host.app()) is False


def test_an_absent_apps_requests_may_end(host):
    instance = host.put("blue", host.text("1"))
    instance.connections = 1
    later(0.5, instance, "connections", 0)
    assert vassal.absent(host.app(drain_timeout=10)) is True
    assert signal.SIGKILL not in [number for number, _process in host.signals]


def test_what_the_user_still_runs_is_killed_and_its_end_awaited(host, monkeypatch):
    # The account was made for this app alone, and cannot be removed before.
    rest, waited = [host.process()], []
    monkeypatch.setattr(processes, "of_user", lambda uid: [one for one in rest if one in host.alive])
    monkeypatch.setattr(processes, "wait", lambda those, seconds: waited.append((those, set(host.alive))))

    def kill(those, number=signal.SIGKILL):
        host.signals += [(number, one) for one in those]

    monkeypatch.setattr(processes, "kill", kill)
    assert vassal.absent(host.app()) is True
    assert host.signals == [(signal.SIGKILL, rest[0])]
    assert waited == [(rest, {rest[0]})]


def test_an_app_without_a_user_is_absent(params, monkeypatch):
    def nobody(name):
        raise KeyError(name)

    monkeypatch.setattr(pwd, "getpwnam", nobody)
    assert vassal.absent(vassal.App(params)) is False
    for name in ("shop.blue.ini", "shop.before"):
        Path(params["directory"], name).write_text("{}")
    assert vassal.absent(vassal.App(params)) is True
    assert os.listdir(params["directory"]) == []


# --- the module


@pytest.fixture
def module(run_module, params, host):
    own = ("serving", "start_timeout", "drain_timeout", "link", "release")
    arguments = {name: value for name, value in params.items() if name not in own}
    arguments.update(start_timeout=1, drain_timeout=0)

    def run(version="1", environment=None, **more):
        needed = more.get("state", "present") in ("present", "measured")
        content = {"content": host.text(version, environment)} if needed else {}
        return run_module(vassal, **{**arguments, **content, **more})

    return run


def test_the_module_deploys_and_says_which_generation_answers(module, host):
    answer = module("1")
    assert answer["changed"]
    assert answer["generation"] == generation(host, "1")
    again = module("1")
    assert (again["changed"], again["generation"]) == (False, answer["generation"])


def test_a_settled_switch_can_not_be_taken_back(module, host):
    module("1")
    assert not module(state="settled")["changed"]
    module("2")
    assert module(state="settled")["changed"]
    assert not module(state="settled")["changed"]
    answer = module(state="returned")
    assert not answer["changed"]
    assert answer["msg"] == "Nothing was to be taken back"
    assert answer["generation"] == generation(host, "2")


def test_what_a_run_that_was_killed_left_unfinished_is_removed(module, host):
    module("1")
    module(state="settled")
    vassals = host.params["directory"]
    scraps = [f"{host.run}/preflight.{kind}" for kind in ("ini", "sock", "stats")]
    scraps += [f"{vassals}/shop.{kind}.new" for kind in ("blue.ini", "green.ini", "before", "limit")]
    scraps.append(host.params["upstream"] + ".new")
    for scrap in scraps:
        os.symlink("nowhere", scrap)
        assert module(state="settled", check=True)["changed"], scrap
        assert os.path.lexists(scrap)
        assert module(state="settled")["changed"], scrap
        assert not os.path.lexists(scrap)
    assert not module(state="settled")["changed"]
    assert host.runs() == {"blue": complete(host, "1")}


def test_a_switch_that_is_not_settled_is_taken_back(module, host):
    module("1")
    module(state="settled")
    module("2")
    answer = module(state="returned")
    assert answer["changed"]
    assert answer["msg"] == "The earlier release serves again"
    assert answer["generation"] == generation(host, "1")
    assert host.runs() == {"blue": complete(host, "1")}


def test_a_first_deploy_that_is_taken_back_leaves_nothing(module, host):
    module("1")
    answer = module(state="returned")
    assert answer["changed"]
    assert answer["generation"] == ""
    assert host.runs() == {}
    assert os.listdir(Path(host.params["upstream"]).parent) == []


def test_check_mode_says_what_would_be_and_does_nothing(module, host):
    answer = module("1", check=True)
    assert answer["changed"]
    assert host.runs() == {}
    assert not os.path.lexists(host.params["upstream"])
    assert not module(state="absent", check=True)["changed"]
    assert not module(state="returned", check=True)["changed"]
    module("1")
    assert not module("1", check=True)["changed"]
    assert module("2", check=True)["changed"]
    assert module("2", check=True)["generation"] == generation(host, "2")
    assert module(state="absent", check=True)["changed"]
    assert not module(state="settled", check=True)["changed"]
    assert module(state="returned", check=True)["changed"]
    module(state="settled")
    assert not module(state="returned", check=True)["changed"]
    module("2")
    assert module(state="settled", check=True)["changed"]
    assert len(host.runs()) == 2
    assert len(host.rehearsed) == 2
    assert host.signals == []


def test_check_mode_sees_that_a_chain_is_to_go_on(module, host, releases):
    link = {"reload": "chain", "link": host.params["serving"]}
    module("chain", **link, release=releases("r1"))
    assert not module("chain", **link, release=releases("r1"), check=True)["changed"]
    assert module("chain", **link, release=releases("r2"), check=True)["changed"]
    assert host.leads_to == releases("r1")


@pytest.mark.parametrize("check", [True, False])
def test_the_diff_shows_the_change_without_values(check, module, host):
    module("1", {"KEY": "s3cret one"})
    module(state="settled")
    answer = module("2", {"KEY": "s3cret two"}, check=check, diff=True)
    assert "module = 1:app" in answer["diff"]["before"]
    assert "module = 2:app" in answer["diff"]["after"]
    assert "environment = KEY (values: " in answer["diff"]["after"]
    assert answer["diff"]["before_header"] == answer["diff"]["after_header"] == f"{host.params['directory']}/shop"
    assert "s3cret" not in json.dumps(answer)


@pytest.mark.parametrize("check", [True, False])
def test_the_diff_of_a_removal_shows_what_goes_without_values(check, module, host):
    module("1", {"KEY": "s3cret one"})
    answer = module(state="absent", check=check, diff=True)
    assert answer["changed"]
    assert "module = 1:app" in answer["diff"]["before"]
    assert answer["diff"]["after"] == ""
    assert "s3cret" not in json.dumps(answer)
    assert bool(host.runs()) is check


def test_a_failure_names_the_app_and_no_value(impatient, module, program):
    program("journalctl", "echo 'KeyError: s3cret value'")
    answer = module("broken", {"KEY": "s3cret value"})
    assert answer["failed"]
    assert answer["msg"].startswith("The app shop did not start: after 1 s it answers /healthz with status 500")
    assert answer["msg"].endswith("KeyError: ********")
    assert "s3cret" not in json.dumps(answer)
    assert answer["generation"]


def test_a_failure_shows_no_value_of_the_release_before_either(module, host, program):
    program("journalctl", "echo 'KeyError: s3cret of old, s3cret of new'")
    module("1", {"KEY": "s3cret of old"})
    module(state="settled")
    answer = module("dies", {"KEY": "s3cret of new"})
    assert answer["msg"].endswith("KeyError: ********, ********")


def test_a_value_that_begins_like_another_one_is_hidden_whole(module, host, program):
    program("journalctl", "echo 'KeyError: s3cret and more'")
    module("1", {"KEY": "s3cret and more"})
    module(state="settled")
    assert module("dies", {"KEY": "s3cret"})["msg"].endswith("KeyError: ********")


def test_what_every_app_has_is_shown(module, program):
    program("journalctl", "echo 'in /srv/flask_apps/shop/shared'")
    answer = module("dies", {"KEY": "s3cret", "HOME": "/srv/flask_apps/shop/shared"})
    assert answer["msg"].endswith("in /srv/flask_apps/shop/shared")


def test_a_return_that_does_not_help_says_so_and_shows_no_value(impatient, module, host):
    module("1", {"KEY": "s3cret value"})
    module(state="settled")
    module("2")
    host.instance("blue").ill = True
    answer = module(state="returned")
    assert answer["msg"].startswith(
        "The earlier vassal file was put back, but after 1 s it answers /healthz with status 500"
    )
    assert "********" in answer["msg"]
    assert "s3cret" not in json.dumps(answer)


def test_a_file_that_a_person_broke_hides_no_other_values(module, host, program):
    program("journalctl", "echo 'KeyError: s3cret value'")
    Path(host.params["directory"], "shop.green.ini").write_text('[launch]\nenvironment = ["x"]\n')
    assert module("dies", {"KEY": "s3cret value"})["msg"].endswith("KeyError: ********")


def test_the_module_removes_the_app(module, host):
    module("1")
    assert module(state="absent")["changed"]
    assert host.runs() == {}
    assert not module(state="absent")["changed"]


@pytest.mark.parametrize("state", vassal.STATES)
def test_in_every_state_the_module_waits_for_others(state, module, host, lock_file, monkeypatch):
    monkeypatch.setattr(exclusive, "SECONDS", 0.1)
    with exclusive.exclusive(str(lock_file)):
        answer = module(state=state)
    assert answer["failed"]
    assert answer["msg"].startswith("Another module of a run is still at work on this host")
    assert host.runs() == {}


# --- measured


SIZE = {"total": 30 * MIB, "private": 10 * MIB, "rss": 25 * MIB}


def kept(host):
    return json.loads(Path(host.params["size"]).read_text())


def test_a_release_is_measured_once_and_nothing_is_started(module, host, deeds):
    answer = module("1", state="measured")
    assert answer["changed"]
    assert answer["size"] == SIZE
    assert kept(host) == {"digest": answer["rehearsed"], "size": SIZE}
    assert ("own", host.params["size"] + ".new", 0, 0) in deeds
    assert host.runs() == {}
    again = module("1", state="measured")
    assert (again["changed"], again["size"], again["rehearsed"]) == (False, SIZE, "")
    assert len(host.rehearsed) == 1


def test_what_was_measured_is_not_rehearsed_again_in_the_same_run(module, host):
    rehearsed = module("1", state="measured")["rehearsed"]
    assert module("1", rehearsed=rehearsed)["changed"]
    assert len(host.rehearsed) == 1
    assert host.runs() == {"blue": complete(host, "1")}


def test_what_an_earlier_run_measured_is_rehearsed_again(module, host):
    module("1", state="measured")
    module("1", rehearsed=module("1", state="measured")["rehearsed"])
    assert len(host.rehearsed) == 2


def test_what_was_not_measured_is_rehearsed(module, host):
    rehearsed = module("1", state="measured")["rehearsed"]
    module("2", rehearsed=rehearsed)
    assert len(host.rehearsed) == 2
    Path(host.params["size"]).unlink()
    module("1", rehearsed=rehearsed)
    assert len(host.rehearsed) == 3


def test_a_second_instance_needs_what_was_measured(module, host, monkeypatch):
    module("1")
    module(state="settled")
    host.memory = Memory(950 * MIB, 10 * MIB, 945 * MIB)
    rehearsed = module("2", state="measured")["rehearsed"]
    answer = module("2", rehearsed=rehearsed)
    assert "a second instance beside the running one needs about 960 MiB" in answer["msg"]
    host.memory = None  # the kernel does not tell
    rehearsed = module("3", state="measured")["rehearsed"]
    assert module("3", rehearsed=rehearsed)["changed"]


def test_a_size_that_is_not_known_is_not_measured_for_again(module, host):
    host.memory = None
    assert module("1", state="measured")["size"] == {}
    again = module("1", state="measured")
    assert (again["changed"], again["size"]) == (False, {})


def test_what_would_not_run_is_refused_as_before_a_switch_and_leaves_no_size(module, host, monkeypatch):
    def fails(app, content, generation):
        raise Unhealthy("it ends\nKeyError: s3cret value")

    monkeypatch.setattr(vassal, "preflight", fails)
    answer = module("1", {"KEY": "s3cret value"}, state="measured")
    assert answer["failed"]
    assert answer["msg"] == ("The app shop was not changed, because 1:app would not start: it ends\nKeyError: ********")
    assert not os.path.exists(host.params["size"])
    assert host.runs() == {}


def test_check_mode_tells_the_size_that_is_known_and_measures_nothing(module, host):
    answer = module("1", state="measured", check=True)
    assert (answer["changed"], answer["size"], answer["rehearsed"]) == (True, {}, "")
    module("1", state="measured")
    assert not module("1", state="measured", check=True)["changed"]
    answer = module("2", state="measured", check=True)
    assert (answer["changed"], answer["size"]) == (True, SIZE)
    assert len(host.rehearsed) == 1


def test_a_size_is_measured_in_a_file(run_module, tmp_path):
    answer = run_module(vassal, name="shop", directory=str(tmp_path), run=str(tmp_path), state="measured", content="x")
    assert "size" in answer["msg"]


def test_content_is_needed_for_an_app_to_run(run_module, tmp_path):
    answer = run_module(vassal, name="shop", directory=str(tmp_path), run=str(tmp_path))
    assert "content" in answer["msg"]


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"reload": "chain"}, "link, release"),
        ({"release": "/r2"}, "link"),
        ({"link": "/l", "reload": "chain"}, "release"),
    ],
)
def test_a_chain_needs_a_link_and_a_release(given, missing, run_module, tmp_path):
    answer = run_module(vassal, name="shop", directory=str(tmp_path), run=str(tmp_path), content="x", **given)
    assert answer["failed"]
    assert missing in answer["msg"]
