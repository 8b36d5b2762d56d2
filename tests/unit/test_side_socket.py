"""The program that gives the socket of a side process a second name: only if it is the app's, and somebody listens."""

import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from role_program import load

PROGRAM = Path(__file__).parents[2] / "roles/uwsgi/files/side_socket.py"


@pytest.fixture
def program():
    return load(PROGRAM)


@pytest.fixture
def place(tmp_path):
    """The directory of the app, the one of root's, and a socket that listens."""
    for name in ("run", "held"):
        (tmp_path / name).mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "run/live.sock"))
        listening.listen()
        yield tmp_path


def reached(path):
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def test_second_name_leads_to_the_socket_whatever_becomes_of_the_first(program, place):
    own, held = place / "run/live.sock", place / "held/live.sock"
    assert program.hold(str(own), str(held), os.geteuid())
    assert program.hold(str(own), str(held), os.geteuid())  # once more: the same
    own.unlink()
    own.symlink_to("/run/elsewhere.sock")
    assert reached(held)
    assert os.listdir(place / "held") == ["live.sock"]


def make_link(place):
    (place / "run/x").symlink_to(place / "run/live.sock")


def make_file(place):
    (place / "run/x").write_text("")


def make_dead_socket(place):
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(place / "run/x"))


@pytest.mark.parametrize("make", [make_link, make_file, make_dead_socket, lambda _place: None])
def test_anything_else_gets_no_second_name(program, place, make):
    make(place)
    assert not program.hold(str(place / "run/x"), str(place / "held/x"), os.geteuid())
    assert os.listdir(place / "held") == []


def test_socket_of_another_user_gets_no_second_name(program, place):
    assert not program.hold(str(place / "run/live.sock"), str(place / "held/x"), os.geteuid() + 1)
    assert os.listdir(place / "held") == []


@pytest.fixture
def wait(program, place, monkeypatch):
    """Run the program for a process; returns a thread."""

    def start(process):
        (place / "shop").mkdir()
        job = {"socket": f"{place}/run/side", "held": f"{place}/run-sockets/sides/side"}
        (place / "shop/live@aaa.json").write_text(json.dumps(job))
        monkeypatch.setattr(program, "SIDES", str(place))
        monkeypatch.setattr(
            program, "pwd", SimpleNamespace(getpwnam=lambda _name: SimpleNamespace(pw_uid=os.geteuid()))
        )
        monkeypatch.setattr(os, "chown", lambda *_arguments: None)
        monkeypatch.setattr(sys, "argv", ["x", "shop", "live", "aaa-1"])
        monkeypatch.setenv("MAINPID", str(process.pid))
        thread = threading.Thread(target=program.main)
        thread.start()
        return thread

    return start


def test_process_that_listens_late_is_waited_for(wait, place):
    process = subprocess.Popen(["sleep", "60"])
    thread = wait(process)
    time.sleep(0.2)
    assert thread.is_alive()
    os.rename(place / "run/live.sock", place / "run/side.aaa-1.sock")
    thread.join(10)
    assert not thread.is_alive()
    process.kill()
    process.wait()
    assert reached(place / "run-sockets/sides/side.aaa-1.sock")
    assert stat.S_IMODE((place / "run-sockets/sides").stat().st_mode) == 0o710


def test_process_that_ends_is_not_waited_for(wait):
    process = subprocess.Popen(["sleep", "60"])
    thread = wait(process)
    process.kill()
    process.wait()
    thread.join(10)
    assert not thread.is_alive()
