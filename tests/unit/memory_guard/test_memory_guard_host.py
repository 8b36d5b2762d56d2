"""The memory guard: what it reads of a host, made of files and sockets here."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import exclusive
from ansible_collections.flaskops.emperor.plugins.module_utils import host as host_library
from guard_programs import MIB, NOW, TICKS, UID, guard_host, memory_guard


class Host(guard_host.Host):  # type: ignore[misc]
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


def test_memory_and_pressure_of_the_host_are_read(host):
    host.put("proc/pressure/memory", "some avg10=30.00 avg60=1.00 avg300=0.00 total=1\nfull avg10=12.50 avg60=2.00\n")
    assert host.memory() == (1000 * MIB, 400 * MIB, 12.5)


def test_pressure_counts_as_none_where_the_kernel_does_not_tell_it(host):
    assert host.memory() == (1000 * MIB, 400 * MIB, 0.0)


def test_missing_available_memory_is_an_error(host):
    host.put("proc/meminfo", "MemTotal: 5 kB\n")
    with pytest.raises(OSError, match="MemAvailable"):
        host.memory()


def test_instance_has_the_workers_of_its_statistics(host, serve):
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
def test_app_cannot_name_a_process_of_another_user_or_parent(parent, uid, host, serve):
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
def test_invalid_statistics_give_no_instance(answer, host, serve):
    with serve(answer):
        assert host.instance("shop.blue") is None


def test_endless_statistics_give_no_instance(host, serve, monkeypatch):
    monkeypatch.setattr(guard_host, "TIMEOUT", 0.3)

    def drip():
        while True:
            yield b" "
            time.sleep(0.05)

    with serve(drip):
        began = time.monotonic()
        assert host.instance("shop.blue") is None
    assert time.monotonic() - began < 2


def test_too_long_statistics_give_no_instance(host, serve, monkeypatch):
    monkeypatch.setattr(host_library, "STATISTICS", 1000)
    with serve(json.dumps(THREE).encode() + b" " * 1000):
        assert host.instance("shop.blue") is None


def test_instance_that_does_not_answer_is_skipped(host, serve):
    (host.root / "vassals" / "gone.blue.ini").write_text("")
    (host.root / "vassals" / "note.before").write_text("")
    with serve(THREE):
        assert [one.name for one in host.instances()] == ["shop.blue"]


def test_process_behind_a_socket_is_the_one_the_kernel_names(tmp_path):
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
def test_signal_is_not_sent_to_a_process_that_started_later():
    with subprocess.Popen(["sleep", "60"]) as child:
        host = memory_guard.Host("", "", "")
        process = host.process(child.pid)
        with pytest.raises(ProcessLookupError):
            host.ask(process._replace(started=process.started - 1))
        assert child.poll() is None
        host.ask(process)
        assert child.wait(10) == -signal.SIGHUP
    assert not host.alive(process)
