"""app_status: what it counts, and that an instance which does not answer is no failure."""

import json
import os
import socket
import threading

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import processes
from ansible_collections.flaskops.emperor.plugins.module_utils.processes import Memory, Process
from ansible_collections.flaskops.emperor.plugins.modules import app_status


def worker(busy=0, respawns=1, accepting=1):
    cores = [{"in_request": int(core < busy)} for core in range(4)]
    return {"accepting": accepting, "respawn_count": respawns, "cores": cores}


@pytest.fixture
def app(tmp_path, run_module, deeds, monkeypatch):
    """An app whose instances are put there by a test."""
    used: dict[str, list[Process]] = {}
    monkeypatch.setattr(processes, "of_file", lambda file, uid: used.get(file, []) if uid == os.getuid() else [])
    monkeypatch.setattr(processes, "memory", lambda those, uid, gid: Memory(100 * len(those), 1, 1))

    class App:
        def put(self, slot, workers, running=3):
            file = tmp_path / f"shop.{slot}.ini"
            file.touch()
            used[str(file)] = [Process(number, 1) for number in range(running)]
            if workers is None:
                return
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(tmp_path / f"shop.{slot}.stats"))
            listener.listen()

            def tell():
                with listener, listener.accept()[0] as connection:
                    connection.sendall(json.dumps({"workers": workers}).encode())

            threading.Thread(target=tell, daemon=True).start()

        def look(self, **more):
            answer = run_module(app_status, name="shop", directory=str(tmp_path), run=str(tmp_path), **more)
            assert not answer["failed"]
            assert not answer["changed"]
            return {name: answer[name] for name in ("workers", "busy", "replaced", "memory", "killed")}

    return App()


def test_workers_requests_and_memory_are_counted(app):
    cheap = worker(respawns=0, accepting=0)
    app.put("green", [worker(busy=3, respawns=4), worker(), cheap])
    assert app.look() == {"workers": 2, "busy": 3, "replaced": 3, "memory": 300, "killed": 0}


def test_check_mode_reads_as_well(app):
    app.put("blue", [worker()])
    assert app.look(check=True)["workers"] == 1


def test_two_instances_are_one_app(app):
    app.put("blue", [worker(busy=1)])
    app.put("green", [worker(busy=2), worker()], running=2)
    assert app.look() == {"workers": 3, "busy": 3, "replaced": 0, "memory": 500, "killed": 0}


def test_an_app_that_does_not_run_has_nothing(app):
    assert app.look() == {"workers": 0, "busy": 0, "replaced": 0, "memory": None, "killed": 0}


def test_an_instance_that_says_nothing_has_memory_and_no_workers(app):
    app.put("blue", None)
    assert app.look() == {"workers": 0, "busy": 0, "replaced": 0, "memory": 300, "killed": 0}


def test_memory_that_the_kernel_does_not_tell_is_not_guessed(app, monkeypatch):
    def fails(those, uid, gid):
        raise OSError

    monkeypatch.setattr(processes, "memory", fails)
    app.put("blue", [worker()])
    assert app.look() == {"workers": 1, "busy": 0, "replaced": 0, "memory": None, "killed": 0}
