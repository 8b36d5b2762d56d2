"""The memory guard: what it reads of a host, made of files and sockets here, and whom it asks, on a host in memory."""

import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import exclusive
from ansible_collections.flaskops.emperor.plugins.module_utils import host as host_library
from hypothesis import given, settings
from hypothesis import strategies as st

FILES = Path(__file__).parents[2] / "roles/uwsgi/files"


def load(name):
    """A program or module as it is installed on hosts."""
    specification = importlib.util.spec_from_file_location(name, FILES / f"{name}.py")
    assert specification
    assert specification.loader
    module = sys.modules[name] = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


sys.modules["emperor_host"] = host_library
guard_host = load("guard_host")
memory_guard = load("memory_guard")
MIB = memory_guard.MIB
TICKS = os.sysconf("SC_CLK_TCK")
UID = 1001  # of the app
NOW = 1000.0  # seconds since boot


# --- what is read


class Host(guard_host.Host):  # type: ignore[name-defined, misc]
    """A host below a directory: its /proc, its vassals and their sockets. Process 10 serves every stats socket."""

    def __init__(self, root):
        for name in ("proc", "vassals", "run"):
            (root / name).mkdir()
        super().__init__(str(root / "vassals"), str(root / "run"), str(root / "lock"), str(root / "proc"))
        self.root, self.who = root, (10, UID)
        self.tell_memory(1000, 400)
        self.put("proc/locks", "")

    def now(self):
        return NOW

    def listener(self, connection):
        return self.who

    def put(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def tell_memory(self, total, available):
        self.put("proc/meminfo", f"MemTotal: {total * 1024} kB\nMemFree: 1 kB\nMemAvailable: {available * 1024} kB\n")

    def run_process(self, pid, parent, anonymous, swapped=0, uid=UID, started=100, state="S"):
        fields = [state, str(parent), *["0"] * 17, str(int(started * TICKS))]
        self.put(f"proc/{pid}/stat", f"{pid} (uw) S 1 (gi) {' '.join(fields)} 0 0\n")
        self.put(f"proc/{pid}/status", f"Name:\tuwsgi\nPPid:\t{parent}\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n"
                 f"VmRSS:\t 999999 kB\nRssAnon:\t {anonymous * 1024} kB\nVmSwap:\t {swapped * 1024} kB\n")  # fmt: skip


def told(number, pid, *, accepting=1, requests=0, status="idle"):
    cores = [{"id": core, "in_request": int(core < requests)} for core in range(4)]
    return {"id": number, "pid": pid, "accepting": accepting, "status": status, "cores": cores}


@pytest.fixture
def host(tmp_path):
    made = Host(tmp_path)
    made.run_process(10, 1, 20)
    for pid, size in ((11, 30), (12, 220), (13, 20)):
        made.run_process(pid, 10, size)
    return made


@pytest.fixture
def serve(host):
    """Let an instance have a vassal file and answer its statistics, whatever they are; for use with `with`."""

    @contextlib.contextmanager
    def run(answer, name="shop.blue"):
        (host.root / "vassals" / f"{name}.ini").write_text("")
        directory = host.root / "run" / name.rpartition(".")[0]
        directory.mkdir(exist_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        # A path longer than a socket's may be (108 bytes): through the directory.
        place = os.open(directory, os.O_PATH)
        path = f"/proc/self/fd/{place}/{name}.stats"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        listener.bind(path)
        listener.listen()

        def work():
            with contextlib.suppress(OSError):
                while True:
                    with listener.accept()[0] as connection:
                        for piece in answer() if callable(answer) else [answer]:
                            connection.sendall(piece if isinstance(piece, bytes) else json.dumps(piece).encode())

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            thread.join(5)
            os.close(place)

    return run


THREE = {"workers": [told(1, 11), told(2, 12, requests=1, status="busy"), told(3, 13)]}


def test_memory_is_that_of_the_host(host):
    host.put("proc/pressure/memory", "some avg10=30.00 avg60=1.00 avg300=0.00 total=1\nfull avg10=12.50 avg60=2.00\n")
    assert host.memory() == (1000 * MIB, 400 * MIB, 12.5)


def test_memory_without_pressure_information(host):
    assert host.memory() == (1000 * MIB, 400 * MIB, 0.0)


def test_memory_that_is_not_told_is_an_error(host):
    host.put("proc/meminfo", "MemTotal: 5 kB\n")
    with pytest.raises(OSError, match="MemAvailable"):
        host.memory()


def test_an_instance_has_the_workers_it_tells_of(host, serve):
    with serve(THREE):
        (instance,) = host.instances()
    assert (instance.name, instance.app, instance.master.pid) == ("shop.blue", "shop", 10)
    assert instance.complete
    assert [(one.number, one.process.pid, one.own // MIB, one.idle) for one in instance.workers] == [
        (1, 11, 10, True),
        (2, 12, 200, False),
        (3, 13, 0, True),
    ]
    assert {one.age for one in instance.workers} == {NOW - 100}


def test_swapped_memory_counts(host, serve):
    host.run_process(11, 10, 20, swapped=300)
    with serve(THREE):
        assert host.instance("shop.blue").workers[0].own == 300 * MIB


def test_a_cheap_worker_is_not_missing(host, serve):
    with serve({"workers": [told(1, 11), told(2, 12), told(3, 0, status="cheap")]}):
        instance = host.instance("shop.blue")
    assert (instance.complete, instance.cheap, len(instance.workers)) == (True, {3}, 2)


@pytest.mark.parametrize(
    "one",
    [
        told(3, 13, accepting=0),
        told(3, 0),  # died, and was not started again yet
        told(3, 99),  # gone since it was told of
    ],
)
def test_a_worker_that_accepts_no_requests_is_missing(one, host, serve):
    with serve({"workers": [told(1, 11), told(2, 12), one]}):
        instance = host.instance("shop.blue")
    assert (instance.complete, len(instance.workers)) == (False, 2)


@pytest.mark.parametrize(("parent", "uid"), [(1, UID), (10, 0), (10, UID + 1)])
def test_an_app_cannot_name_a_process_that_is_not_its_own(parent, uid, host, serve):
    host.run_process(13, parent, 500, uid=uid)
    with serve(THREE):
        instance = host.instance("shop.blue")
    assert 13 not in {one.process.pid for one in instance.workers}
    assert not instance.complete


def test_root_cannot_be_the_user_of_an_app(host, serve):
    host.who = (10, 0)
    for pid in (11, 12, 13):
        host.run_process(pid, 10, 100, uid=0)
    with serve(THREE):
        assert host.instance("shop.blue").workers == ()


@pytest.mark.parametrize(
    "answer",
    [b"", b"{", b"[]", b"5", b'{"workers": 5}', b'{"workers": [5]}', b'{"workers": [{"status": "idle", "pid": "x"}]}',
     b"\xff", [1], {"workers": [{"id": 1, "pid": 11, "status": "idle"}]}],
)  # fmt: skip
def test_nonsense_is_no_instance(answer, host, serve):
    with serve(answer):
        assert host.instance("shop.blue") is None


def test_an_answer_without_an_end_is_no_instance(host, serve, monkeypatch):
    monkeypatch.setattr(guard_host, "TIMEOUT", 0.3)

    def drip():
        while True:
            yield b" "
            time.sleep(0.05)

    with serve(drip):
        began = time.monotonic()
        assert host.instance("shop.blue") is None
    assert time.monotonic() - began < 2


def test_an_answer_that_is_too_long_is_no_instance(host, serve, monkeypatch):
    monkeypatch.setattr(host_library, "STATISTICS", 1000)
    with serve(json.dumps(THREE).encode() + b" " * 1000):
        assert host.instance("shop.blue") is None


def test_who_does_not_answer_is_passed_over(host, serve):
    (host.root / "vassals" / "gone.blue.ini").write_text("")
    (host.root / "vassals" / "note.before").write_text("")
    with serve(THREE):
        assert [one.name for one in host.instances()] == ["shop.blue"]


def test_the_listener_is_known_by_the_kernel(tmp_path):
    left, right = socket.socketpair()
    with left, right:
        assert memory_guard.Host("", "", "").listener(left) == (os.getpid(), os.getuid())


def test_a_switch_is_known_by_its_note(host):
    assert not host.switching("shop")
    (host.root / "vassals/shop.before").write_text("{}")
    assert host.switching("shop")
    assert not host.switching("blog")


def test_a_deploy_is_known_by_its_lock(tmp_path, lock_file):
    host = memory_guard.Host("", "", str(lock_file))
    assert not host.deploying()
    with exclusive.exclusive():
        assert host.deploying()
    assert not host.deploying()


@pytest.fixture
def hang_up():
    """SIGHUP ends the processes of a test, also when the tests run under nohup, which has it ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hang_up")
def test_the_signal_goes_to_this_very_process():
    with subprocess.Popen(["sleep", "60"]) as child:
        host = memory_guard.Host("", "", "")
        process = host.process(child.pid)
        with pytest.raises(ProcessLookupError):
            host.ask(process._replace(started=process.started - 1))
        assert child.poll() is None
        host.ask(process)
        assert child.wait(10) == -signal.SIGHUP
    assert not host.alive(process)


# --- who is asked


class Worker:
    """A worker of the host in memory. Its state is accepting, ending, dead, starting or cheap."""

    def __init__(self, pid, own, started=0.0, follows=None):
        self.pid, self.own, self.started, self.follows = pid, own, started, follows
        self.state, self.requests, self.replaced = "accepting", 0, False


class World:
    """A host in memory. Whoever is asked in a way that could be noticed makes the test fail at once.

    :ivar fresh: MiB of its own that a worker has when it starts.
    """

    floor = 250

    def __init__(self, **apps):
        self.clock, self.pid = NOW, 100
        self.rest = 1000  # MiB that would be available without what the workers have of their own
        self.stalled, self.locked, self.fresh = 0.0, False, 0
        self.switches: set[str] = set()
        self.asked: list[tuple[Worker, float]] = []
        self.said: list[str] = []
        self.places = {f"{app}.blue": [self.worker(own) for own in sizes] for app, sizes in apps.items()}
        self.guard = memory_guard.Guard(self, f"{self.floor}M", 2, self.said.append)

    def worker(self, own, *more):
        self.pid += 1
        return Worker(self.pid, own, *more)

    @property
    def workers(self):
        return [one for place in self.places.values() for one in place]

    # What the guard uses of a host

    def now(self):
        return self.clock

    def memory(self):
        used = sum(one.own for one in self.workers if one.state != "dead")
        return memory_guard.Memory(2000 * MIB, (self.rest - used) * MIB, self.stalled)

    def deploying(self):
        return self.locked

    def switching(self, app):
        return app in self.switches

    def instances(self):
        return [self.instance(name) for name in self.places]

    def instance(self, name):
        found, place = [], self.places[name]
        for number, one in enumerate(place, 1):
            if one.state in ("accepting", "ending"):  # uWSGI tells no difference
                process = memory_guard.Process(one.pid, 0)
                age = self.clock - one.started
                found.append(memory_guard.Worker(number, process, one.own * MIB, age, not one.requests))
        cheap = frozenset(number for number, one in enumerate(place, 1) if one.state == "cheap")
        complete = len(found) + len(cheap) == len(place)
        master = memory_guard.Process(len(name), 0)
        return memory_guard.Instance(name, name.rpartition(".")[0], master, tuple(found), cheap, complete)

    def alive(self, process):
        return any(one.pid == process.pid and one.state not in ("dead", "cheap") for one in self.workers)

    def ask(self, process):
        name, place, victim = next(
            (name, place, one) for name, place in self.places.items() for one in place if one.pid == process.pid
        )
        available = self.memory().available // MIB
        urgent = available < self.floor or self.stalled >= memory_guard.STALLED
        assert available < 2 * self.floor, "enough is available"
        assert victim.state == "accepting", victim.state
        assert self.clock - victim.started >= memory_guard.YOUNG, "too young"
        assert urgent or not victim.requests, "busy, and it is not urgent"
        assert urgent or not self.locked, "a deploy is at work, and it is not urgent"
        assert name.rpartition(".")[0] not in self.switches, "amid a switch"
        others = [one for one in place if one is not victim and one.state != "cheap"]
        assert others, "the last one"
        assert all(one.state == "accepting" for one in others), "two of an app"
        recent = [one for one, at in self.asked if self.clock - at < memory_guard.PATIENCE]
        assert all(one.replaced for one in recent), "two at once"
        victim.state = "ending"
        self.asked.append((victim, self.clock))

    # What happens on it

    def go_on(self, starts=True):
        """What takes time goes one step on."""
        for place in self.places.values():
            for index, one in enumerate(place):
                if one.state == "starting":
                    one.state = "accepting"
                    if one.follows:
                        one.follows.replaced = True
                elif one.state == "dead" and starts:
                    place[index] = self.worker(self.fresh, self.clock, one)
                    place[index].state = "starting"
                elif one.state == "ending" and not one.requests:
                    one.state = "dead"

    def look(self, seconds=0.0, starts=True):
        """Let the guard look until so many seconds are over, at least once."""
        end = self.clock + seconds
        while True:
            pause = self.guard.look()
            assert pause > 0
            self.clock += pause
            self.go_on(starts)
            if self.clock > end:
                return

    def victims(self):
        return [victim.own for victim, _at in self.asked]


def test_while_enough_is_available_no_app_is_looked_at(monkeypatch):
    world = World(shop=[100, 300])
    monkeypatch.setattr(world, "instances", None)
    world.rest = 900
    assert world.guard.look() == 2
    assert not world.asked


def test_below_it_the_largest_idle_worker_is_asked_after_two_looks():
    world = World(shop=[100, 200], blog=[50, 250])
    world.look()
    assert not world.asked
    world.look(30)
    assert world.victims() == [250]
    assert world.said == [
        "asked the idle worker 2 of blog (pid 104, 250 MiB of its own) to end after its requests: 400 MiB of memory "
        "are available, twice the floor is 500 MiB",
        "worker 2 of blog is replaced (pid 105, 0 MiB of its own): available memory went from 400 to 650 MiB",
    ]


def test_as_few_as_needed_one_after_the_other():
    world = World(shop=[60, 90, 80], blog=[110, 100, 20])
    world.rest = 800
    world.look(60)
    assert world.victims() == [110, 100]  # 340 MiB, 450 MiB, and then 550 MiB


def test_a_worker_that_had_a_request_at_one_of_two_looks_is_not_idle():
    world = World(shop=[400, 250])
    world.places["shop.blue"][0].requests = 1
    world.rest = 1100
    world.look()
    world.places["shop.blue"][0].requests, world.places["shop.blue"][1].requests = 0, 1
    world.look()
    assert not world.asked
    world.look()
    assert world.victims() == [400]


@pytest.mark.parametrize("why", ["memory", "pressure"])
def test_when_it_is_urgent_and_none_is_idle_the_largest_is_asked_at_once(why):
    world = World(shop=[300, 100], blog=[200, 100])
    for one in world.workers:
        one.requests = 1
    world.look(30)
    assert not world.asked
    if why == "memory":
        world.rest = 900
    else:
        world.stalled = memory_guard.STALLED
    world.look()
    assert world.victims() == [300]


def test_an_idle_one_is_asked_before_a_larger_busy_one():
    world = World(shop=[300, 300], blog=[100, 150])
    for one in world.places["shop.blue"]:
        one.requests = 1
    world.rest = 1050
    world.look()
    assert world.victims() == [150]


@pytest.mark.parametrize("state", ["starting", "dead"])
def test_no_worker_of_an_app_that_lacks_one_is_asked(state):
    world = World(shop=[300, 300, 0], blog=[100, 50])
    world.places["shop.blue"][2].state = state
    world.rest = 900
    world.guard.look()
    world.guard.look()
    assert world.victims() == [100]


def test_an_apps_only_worker_is_never_asked():
    world = World(shop=[600])
    world.rest = 700
    world.look(120)
    assert not world.asked


def test_a_cheap_worker_does_not_count_as_another_one():
    world = World(shop=[600, 0])
    world.places["shop.blue"][1].state = "cheap"
    world.rest = 700
    world.look(120)
    assert not world.asked


def test_a_young_worker_is_not_asked():
    world = World(shop=[300, 300])
    for one in world.workers:
        one.started = world.clock
    world.look(memory_guard.YOUNG - 3)
    assert not world.asked
    world.look(6)
    assert len(world.asked) == 1


def test_while_a_deploy_is_at_work_only_what_is_urgent_is_done():
    world = World(shop=[300, 300])
    world.locked = True
    world.look(60)
    assert not world.asked
    world.rest = 800
    world.look()
    assert world.victims() == [300]


def test_an_app_amid_a_switch_is_left_alone():
    world = World(shop=[400, 350], blog=[20, 30])
    world.switches.add("shop")
    world.look(60)
    assert world.victims()[0] == 30
    assert max(world.victims()) == 30


def test_an_app_with_two_instances_is_left_alone():
    world = World(shop=[300, 300])
    world.places["shop.green"] = [world.worker(200), world.worker(200)]
    world.rest = 1400
    world.look(60)
    assert not world.asked


def test_a_worker_that_hangs_holds_up_other_apps_for_a_while_and_its_own_until_it_ends():
    world = World(shop=[400, 300], blog=[60, 10])
    world.guard.look()
    world.guard.look()
    assert world.victims() == [400]
    world.workers[0].requests = 1  # never ends
    world.look(memory_guard.PATIENCE - 5)
    assert world.victims() == [400]
    world.look(60)
    assert world.victims() == [400, 60]
    world.workers[0].requests, world.rest = 0, 700
    world.look(60)
    assert world.victims() == [400, 60, 300]


def test_an_app_whose_worker_does_not_come_back_is_left_alone():
    world = World(shop=[400, 300], blog=[60, 10])
    world.rest = 800
    world.look(2 * memory_guard.PATIENCE, starts=False)
    assert world.victims() == [400, 60]


def test_a_worker_that_becomes_cheap_instead_is_over():
    world = World(shop=[300, 200, 100])
    world.look()
    world.look()
    first = world.places["shop.blue"][0]
    first.state, first.own, first.replaced = "cheap", 0, True
    world.rest = 700
    world.look(10)
    assert world.victims()[1:] == [200]


def test_where_fresh_workers_are_as_large_it_backs_off_and_says_so_once():
    world = World(shop=[300, 300, 300])
    world.rest, world.fresh = 1300, 295
    world.look(500)
    assert world.victims() == [300]
    assert len(world.said) == 3
    assert world.said[-1] == (
        "405 MiB of memory are available, twice the floor is 500 MiB, but replacing a worker would not help: of the 3 "
        "that may be replaced none would give back more than 5 MiB"
    )
    world.look(memory_guard.REMEMBERED)  # then it tries again
    assert len(world.asked) == 2


def test_a_worker_that_grows_after_its_start_is_measured_while_it_is_young():
    world = World(shop=[300, 300, 300])
    world.rest = 1300

    def grow(seconds):
        world.look(seconds)
        for one in world.workers:
            one.own = 300  # what every worker needs once it has worked

    world.look(4)
    assert world.victims() == [300]
    for _second in range(100):
        grow(1)
    assert world.victims() == [300]


def test_it_says_again_that_it_cannot_help_when_memory_was_enough_in_between():
    world = World(shop=[600])
    for _time in range(2):
        world.rest = 700
        world.look(3 * memory_guard.PATIENCE)
        world.rest = 2000
        world.look(10)
    assert len(world.said) == 2


APPS = st.lists(st.lists(st.integers(0, 400), min_size=1, max_size=4), min_size=1, max_size=3)
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["leak", "request", "answer", "die", "rest", "lock", "switch", "cheap", "stall", "fresh", "-"]),
        st.integers(0, 11),
        st.integers(0, 1500),
    ),
    max_size=80,
)


@settings(max_examples=400, deadline=None)
@given(sizes=APPS, events=EVENTS)
def test_nobody_is_ever_asked_in_a_way_that_could_be_noticed(sizes, events):
    """`World.ask` has what must never happen; whatever happens to the workers, the guard finds its way."""
    world = World(**{f"app{index}": one for index, one in enumerate(sizes)})
    for event, index, number in events:
        one = world.workers[index % len(world.workers)]
        app = f"app{index % len(sizes)}"
        if event == "leak":
            one.own += number
        elif event == "request":
            one.requests += 1
        elif event == "answer":
            one.requests = 0
        elif event == "die" and one.state == "accepting":
            one.state, one.requests = "dead", 0
        elif event == "cheap" and one.state in ("accepting", "cheap"):
            one.state, one.requests = ("cheap" if one.state == "accepting" else "starting"), 0
            one.started = world.clock
        elif event == "rest":
            world.rest = 4 * number
        elif event == "lock":
            world.locked = not world.locked
        elif event == "switch":
            world.switches ^= {app}
        elif event == "stall":
            world.stalled = number / 100
        elif event == "fresh":
            world.fresh = number // 4
        world.look(number % 7)


# --- the program


@pytest.mark.parametrize(("text", "size"), [("10%", 200), ("0%", 0), ("300M", 300)])
def test_limits(text, size):
    assert memory_guard.limit(text, 2000 * MIB) == size * MIB


@pytest.mark.parametrize("text", ["", "10", "10G", "-5%", "1.5%", "10 %", "10%\n"])
def test_a_limit_that_says_nothing_is_refused(text):
    with pytest.raises(ValueError, match="give a percentage like 10%"):
        memory_guard.limit(text, MIB)


def installed(tmp_path):
    """The program and what it shares with others, as the role installs them, below a directory of the test."""
    library = tmp_path / "lib"
    library.mkdir()
    (library / "emperor_host.py").write_text(Path(str(host_library.__file__)).read_text())
    (library / "guard_host.py").write_text((FILES / "guard_host.py").read_text())
    text = (FILES / "memory_guard.py").read_text()
    assert text.startswith("#!/usr/bin/python3 -IS\n")
    (tmp_path / "guard").write_text(text.replace("/usr/local/lib/emperor", str(library)))
    return str(tmp_path / "guard")


def start(tmp_path, floor):
    command = [sys.executable, "-IS", installed(tmp_path), f"--floor={floor}", "--interval=0.1", f"--run={tmp_path}"]
    command += [f"--vassals={tmp_path}", f"--lock={tmp_path}/lock"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_the_program_refuses_a_floor_that_says_nothing(tmp_path):
    with start(tmp_path, "much") as process:
        assert process.communicate(timeout=20)[0] == (
            "the floor is 'much': give a percentage like 10%, or MiB like 300M\n"
        )
    assert process.returncode == 1


def test_the_program_guards_until_it_is_stopped(tmp_path):
    with start(tmp_path, "1M") as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        process.terminate()
        assert process.communicate(timeout=20)[0] == ""
