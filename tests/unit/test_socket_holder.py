"""The program that hands out an app's listening socket: started as systemd does, asked as uWSGI asks."""

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

HOLDER = Path(__file__).parents[2] / "roles/uwsgi/files/socket_holder.py"

# Becomes the program with the descriptors 3 and 4 and the variables systemd sets (sd_listen_fds(3)).
SYSTEMD = """
import fcntl, os, sys
program, count, *descriptors = sys.argv[1:]
copies = [fcntl.fcntl(int(one), fcntl.F_DUPFD, 10) for one in descriptors]  # out of the way of 3 and 4
for place, copy in enumerate(copies, 3):
    os.dup2(copy, place)
environment = {"LISTEN_FDS": count, "LISTEN_PID": str(os.getpid())} if count else {}
os.execve(sys.executable, [sys.executable, "-IS", program], environment)
"""


@contextlib.contextmanager
def launch(*descriptors, count, program=HOLDER):
    command = [sys.executable, "-c", SYSTEMD, str(program), count, *map(str, descriptors)]
    with subprocess.Popen(command, pass_fds=descriptors, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def sockets(tmp_path):
    """The listening sockets and those where they are asked for."""
    all_of_them = []
    for name in ("app.sock", "blue.sock", "green.sock", "holder.sock", "blue.holder", "green.holder"):
        one = socket.socket(socket.AF_UNIX)
        one.bind(str(tmp_path / name))
        one.listen()
        all_of_them.append(one)
    yield all_of_them
    for one in all_of_them:
        one.close()


@pytest.fixture
def holder(sockets):
    with launch(*[one.fileno() for one in sockets], count="6") as process:
        yield process


@pytest.fixture
def connect(tmp_path):
    def made(name):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(10)
        connection.connect(str(tmp_path / name))
        return connection

    return made


def ask(connect, where="holder.sock"):
    """What uWSGI gets: the word, the number, the descriptors. It reads once, as uwsgi_zerg_attach() does."""
    with connect(where) as connection:
        answer, descriptors, _flags, _address = socket.recv_fds(connection, 14, 8)
        assert connection.recv(1) == b""
    return answer, [socket.socket(fileno=one) for one in descriptors]


def test_answer_has_magic_word_count_and_one_descriptor(holder, connect):
    answer, given = ask(connect)
    assert answer == b"uwsgi-zerg" + struct.pack("@i", 1)
    assert len(given) == 1
    given[0].close()


def test_given_descriptor_is_the_apps_listening_socket(holder, connect, tmp_path):
    ((given,),) = [ask(connect)[1]]
    assert given.getsockname() == str(tmp_path / "app.sock")
    with connect("app.sock") as client, given, given.accept()[0] as connection:
        client.sendall(b"hello")
        assert connection.recv(5) == b"hello"


@pytest.mark.parametrize("slot", ["blue", "green"])
def test_instance_in_a_slot_also_gets_the_socket_of_the_slot(slot, holder, connect, tmp_path):
    answer, given = ask(connect, f"{slot}.holder")
    assert answer == b"uwsgi-zerg" + struct.pack("@i", 2)
    assert [one.getsockname() for one in given] == [str(tmp_path / "app.sock"), str(tmp_path / f"{slot}.sock")]
    for one in given:
        one.close()


def test_the_two_sockets_of_version_1_0_are_enough(sockets, connect):
    with launch(sockets[0].fileno(), sockets[3].fileno(), count="2"):
        assert ask(connect)[0] == b"uwsgi-zerg" + struct.pack("@i", 1)


def test_all_instances_share_one_queue(holder, connect):
    (first,), (second,) = [ask(connect)[1] for _who in range(2)]
    with connect("app.sock") as one, connect("app.sock") as other, first, second:
        for client, instance in ((one, second), (other, first)):  # in the order of their coming, whoever accepts
            with instance.accept()[0] as connection:
                connection.sendall(b"welcome")
                assert client.recv(7) == b"welcome"


def test_client_that_hangs_up_at_once_does_not_end_the_holder(holder, connect):
    for _who in range(50):
        connect("holder.sock").close()
    assert ask(connect)[0][:10] == b"uwsgi-zerg"
    assert holder.poll() is None


def test_client_that_does_not_read_blocks_no_other(holder, connect):
    with connect("holder.sock"):
        assert ask(connect)[0][:10] == b"uwsgi-zerg"


def test_holder_keeps_no_descriptor_of_its_clients(holder, connect):
    for _who in range(2):
        for one in ask(connect)[1]:
            one.close()
    before = len(os.listdir(f"/proc/{holder.pid}/fd"))
    for _who in range(20):
        for one in ask(connect)[1]:
            one.close()
    time.sleep(0.05)  # the last one is closed after it was answered
    assert len(os.listdir(f"/proc/{holder.pid}/fd")) == before


def test_clients_wait_while_the_holder_restarts(holder, sockets, connect):
    holder.send_signal(signal.SIGTERM)
    holder.wait(20)
    with connect("app.sock") as client, connect("holder.sock") as instance:
        with launch(*[one.fileno() for one in sockets], count="6"):
            answer, (given,), _flags, _address = socket.recv_fds(instance, 14, 8)
        assert answer[:10] == b"uwsgi-zerg"
        with socket.socket(fileno=given) as listener, listener.accept()[0] as connection:
            connection.sendall(b"at last")
            assert client.recv(7) == b"at last"


@pytest.mark.parametrize("count", ["", "3"])
def test_holder_without_its_sockets_does_not_start(count, sockets):
    with launch(*[one.fileno() for one in sockets], count=count) as process:
        assert process.communicate(timeout=20)[1] == (
            "start emperor@NAME.socket instead: systemd must pass the sockets\n"
        )
    assert process.returncode == 1


def test_holder_rejects_sockets_meant_for_another_process(sockets, tmp_path):
    # Whoever started it got them, and did not clear the variables.
    parent = tmp_path / "parent.py"
    parent.write_text(
        "import subprocess, sys\n"
        f"command = [sys.executable, '-IS', {str(HOLDER)!r}]\n"
        "sys.exit(subprocess.call(command, close_fds=False, timeout=10))\n"
    )
    with launch(*[one.fileno() for one in sockets], count="6", program=parent) as process:
        assert "start emperor@NAME.socket instead" in process.communicate(timeout=20)[1]
    assert process.returncode == 1


def test_program_needs_only_the_standard_library():
    assert HOLDER.read_text().startswith("#!/usr/bin/python3 -IS\n")
