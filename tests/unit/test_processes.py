"""processes: real ones, found, measured and ended, and never mistaken for others."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import host, processes
from ansible_collections.flaskops.emperor.plugins.module_utils.processes import Process

ME = os.getuid(), os.getgid()
# A parent and its two children with the same arguments, as uWSGI's master and workers have them.
FAMILY = """
import os, time
children = [os.fork()]
if children[-1]:
    children.append(os.fork())
if all(children):
    print(os.getpid(), *children, flush=True)
time.sleep(60)
"""


@pytest.fixture
def start():
    """Start a Python program; it is killed after the test, with all that it started. Returns it."""
    with contextlib.ExitStack() as cleanup:

        def run(program, *arguments, executable=sys.executable):
            child = subprocess.Popen(
                [executable, "-c", program, *map(str, arguments)], text=True, start_new_session=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )  # fmt: skip
            cleanup.enter_context(child)

            def end():
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)

            cleanup.callback(end)
            return child

        yield run


def numbers(child):
    """The process numbers a program tells."""
    return [int(word) for word in child.stdout.readline().split()]


@pytest.fixture
def sleeper(start):
    """A process that runs until it is ended, and its child to wait for it by."""
    child = start("print(flush=True); input()")
    child.stdout.readline()
    found = processes.find(child.pid)
    assert found
    return found, child


# --- finding


def test_this_very_process_is_found_with_its_parent_and_its_user():
    (me,) = [one for one in processes.every() if one.process.pid == os.getpid()]
    assert me.parent == os.getppid()
    assert me.uid == os.getuid()
    assert processes.find(os.getpid()) == me.process
    assert processes.alive(me.process)


def test_process_is_identified_by_its_start_time_too(sleeper):
    now = time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK")
    assert now - 6000 < sleeper[0].started <= now


def test_reaped_process_is_not_found(start):
    child = start("")
    child.wait()
    assert processes.find(child.pid) is None


def test_the_processes_of_a_user_are_found(sleeper):
    assert sleeper[0] in processes.of_user(os.getuid())
    assert processes.of_user(4_000_000_000) == []


def test_process_with_any_name_is_read_correctly(tmp_path, sleeper):
    file = tmp_path / ") Z 1 2 ("
    file.write_text("#!/bin/sh\necho\nread line\n")
    file.chmod(0o755)
    with subprocess.Popen([file], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()
        found = next(one for one in processes.every() if one.process.pid == child.pid)
        assert (found.parent, host.look(child.pid).dead) == (os.getpid(), False)
        assert found.process.started >= sleeper[0].started
        child.kill()


@pytest.mark.parametrize("order", [1, -1])
def test_of_a_file_the_parent_comes_before_its_children(order, start, monkeypatch):
    pids = numbers(start(FAMILY, "--ini", "/vassals/shop.blue.ini"))
    listed = list(processes.every())[::order]  # numbers start anew at some time: a child's may be the lower one
    monkeypatch.setattr(processes, "every", lambda: iter(listed))
    found = processes.of_file("/vassals/shop.blue.ini", os.getuid())
    assert found[0].pid == pids[0]
    assert sorted(one.pid for one in found) == sorted(pids)


def test_file_counts_only_as_a_whole_argument(start):
    numbers(start(FAMILY, "/vassals/shop.blue.ini.new", "--ini=/vassals/shop.blue.ini", "x/vassals/shop.blue.ini"))
    assert processes.of_file("/vassals/shop.blue.ini", os.getuid()) == []


def test_process_of_another_user_is_not_of_the_app(start):
    numbers(start(FAMILY, "/vassals/shop.blue.ini"))
    assert processes.of_file("/vassals/shop.blue.ini", os.getuid() + 1) == []


def test_descendants_are_listed_completely_and_once(start):
    program = "import os, subprocess\nchild = subprocess.Popen(['sh', '-c', 'echo $$; sleep 60 & echo $!; wait'])\n"
    child = start(program + "child.wait()")
    shell, sleep = numbers(child), numbers(child)
    parent = processes.find(child.pid)
    assert parent
    assert [one.pid for one in processes.with_descendants([parent])] == [child.pid, *shell, *sleep]
    middle = processes.find(shell[0])
    assert middle
    assert [one.pid for one in processes.with_descendants([parent, middle, parent])] == [child.pid, *shell, *sleep]
    assert [one.pid for one in processes.with_descendants([middle])] == [*shell, *sleep]
    assert processes.with_descendants([]) == []


# --- alive or not


def test_a_running_process_is_alive(sleeper):
    assert processes.alive(sleeper[0])


def test_a_process_that_got_the_number_later_is_another_one(sleeper):
    assert not processes.alive(Process(sleeper[0].pid, sleeper[0].started - 1))


def test_a_zombie_is_not_alive(sleeper):
    found, child = sleeper
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it is dead, and nobody has buried it
    assert processes.find(child.pid) == found
    assert not processes.alive(found)
    child.wait()
    assert not processes.alive(found)


def test_waiting_ends_with_the_last_process(start):
    children = [start(f"import time; time.sleep({seconds})") for seconds in (0, 0.3)]
    found = [one for one in map(processes.find, [child.pid for child in children]) if one]
    assert processes.wait(found, 20) is True
    assert not any(processes.alive(one) for one in found)


def test_waiting_ends_when_the_time_is_over(sleeper):
    began = time.monotonic()
    assert processes.wait([sleeper[0]], 0.2) is False
    assert 0.2 <= time.monotonic() - began < 10
    assert processes.wait([], 0) is True


def test_kill_ends_a_process(sleeper):
    processes.kill([sleeper[0]])
    assert sleeper[1].wait(10) == -signal.SIGKILL


def test_kill_sends_the_given_signal(sleeper):
    processes.kill([sleeper[0]], signal.SIGTERM)
    assert sleeper[1].wait(10) == -signal.SIGTERM


def test_later_process_with_the_same_pid_is_not_killed(sleeper):
    processes.kill([Process(sleeper[0].pid, sleeper[0].started - 1)])
    with pytest.raises(subprocess.TimeoutExpired):
        sleeper[1].wait(0.1)


def test_killing_a_dead_process_is_no_error(start, monkeypatch):
    child = start("")
    found = processes.find(child.pid)
    assert found
    child.wait()
    processes.kill([found])
    monkeypatch.setattr(processes, "alive", lambda process: True)  # it dies after we looked
    processes.kill([found])


# --- memory


USE = "import sys; used = b'x' * (int(sys.argv[1]) << 20); print(flush=True); input()"
MIB = 1 << 20


def test_the_memory_of_processes_is_their_sum_and_what_the_last_has_alone(start, deeds):
    found = []
    for size in (40, 20):
        child = start(USE, size)
        child.stdout.readline()
        found += [one for one in [processes.find(child.pid)] if one]
        time.sleep(2 / os.sysconf("SC_CLK_TCK"))
    memory = processes.memory(found[::-1], *ME)
    assert 60 * MIB < memory.total < 100 * MIB
    assert 20 * MIB < memory.private < 38 * MIB
    assert memory.private <= memory.rss < memory.private + 30 * MIB  # what it shares, with whatever else runs here
    alone = processes.memory(found[:1], *ME)
    assert 40 * MIB < alone.private <= alone.total < memory.total


def test_memory_is_read_as_the_user_to_whom_the_kernel_shows_it(sleeper, deeds):
    processes.memory([sleeper[0]], 7, 8)
    assert deeds.of("run as") == [[["cat", f"/proc/{sleeper[0].pid}/smaps_rollup"], 7, 8]]


def test_memory_that_the_kernel_does_not_show_is_an_error(start, deeds):
    child = start("")
    found = processes.find(child.pid)
    assert found
    child.wait()
    with pytest.raises(OSError, match=f"smaps_rollup of process {child.pid} cannot be read"):
        processes.memory([found], *ME)


def test_memory_of_no_processes_is_an_error(deeds):
    # 0 would be taken for a measurement.
    with pytest.raises(OSError, match="no process to measure"):
        processes.memory([], *ME)


def test_available_memory_is_in_bytes():
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert free / 4 < processes.available_memory() <= total


# --- connections

# Accepts as many connections as it is told to, a line each, and closes them when it is told to close.
SERVER = """
import socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
accepted = []
print(flush=True)
for line in sys.stdin:
    if line == "accept\\n":
        accepted.append(listener.accept()[0])
    else:
        accepted.pop().close()
    print(flush=True)
"""


@pytest.fixture
def server(start, tmp_path, deeds):
    child = start(SERVER, tmp_path / "app sock")
    child.stdout.readline()
    found = processes.find(child.pid)
    assert found
    with contextlib.ExitStack() as cleanup:

        def tell(what):
            if what == "accept":
                cleanup.enter_context(socket.socket(socket.AF_UNIX)).connect(str(tmp_path / "app sock"))
            child.stdin.write(what + "\n")
            child.stdin.flush()
            child.stdout.readline()

        yield found, tell


def connections(process, prefix):
    return processes.connections([process], *ME, f"{prefix}/")


def test_connections_count_from_their_acceptance_to_their_end(server, tmp_path):
    process, tell = server
    counted = [connections(process, tmp_path)]
    for what in ("accept", "accept", "close", "accept", "close", "close"):
        tell(what)
        counted.append(connections(process, tmp_path))
    assert counted == [0, 1, 2, 1, 2, 1, 0]


def test_client_in_the_queue_is_no_connection_yet(server, tmp_path):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "app sock"))
        assert connections(server[0], tmp_path) == 0


def test_connections_of_other_processes_and_on_other_sockets_do_not_count(server, tmp_path):
    server[1]("accept")
    assert connections(processes.find(os.getpid()), tmp_path) == 0  # the client's end
    assert connections(server[0], tmp_path / "other") == 0


def test_connections_are_read_as_the_user_to_whom_the_kernel_shows_them(server, tmp_path, deeds):
    processes.connections([server[0]], 7, 8, str(tmp_path))
    command, uid, gid = deeds.of("run as")[-1]
    assert command[:2] == ["find", f"/proc/{server[0].pid}/fd"]
    assert (uid, gid) == (7, 8)


def test_dead_processes_have_no_connections(start, deeds):
    child = start("")
    found = processes.find(child.pid)
    child.wait()
    assert connections(found, "/run") == 0
    assert processes.connections([], *ME, "/run/") == 0
    assert "find" not in [command[0] for command, *_rest in deeds.of("run as")]


def test_connections_that_the_kernel_does_not_show_are_unknown(server, tmp_path, program):
    program("find", "echo 'Permission denied' >&2; exit 1")
    assert connections(server[0], tmp_path) is None


def test_process_that_ends_while_it_is_read_has_no_connections(sleeper, program, deeds):
    pid = sleeper[0].pid
    program("find", f"kill -9 {pid}; while grep -q '^State:.[^Z]' /proc/{pid}/status; do :; done; exit 1")
    assert connections(sleeper[0], "/run") == 0
