"""An app that is removed ends after its requests, and nothing of it goes on."""

import os
import pwd
import signal
from pathlib import Path

from ansible_collections.flaskops.emperor.plugins.module_utils import (
    processes,
)
from ansible_collections.flaskops.emperor.plugins.module_utils.processes import Process
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal import (
    states,
    store,
)
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.slots import Slot
from vassal_host import later


def test_an_absent_app_ends_and_loses_its_files(host):
    host.deploy("1")
    host.commit()
    host.deploy("2")
    assert len(host.instances) == 2
    assert states.absent(host.app()) is True
    assert os.listdir(host.params["directory"]) == []
    assert os.listdir(host.run) == []
    assert host.alive == set()
    assert states.absent(host.app()) is False


def test_requests_of_an_absent_app_finish(host):
    instance = host.put("blue", host.config("1"))
    instance.connections = 1
    later(0.5, instance, "connections", 0)
    assert states.absent(host.app(drain_timeout=10)) is True
    assert signal.SIGKILL not in [number for number, _process in host.signals]


def test_remaining_processes_of_the_user_are_killed_and_awaited(host, monkeypatch):
    # The account was made for this app alone, and cannot be removed before.
    rest, waited = [host.process()], []
    monkeypatch.setattr(processes, "of_user", lambda uid: [one for one in rest if one in host.alive])
    monkeypatch.setattr(processes, "wait", lambda those, seconds: waited.append((those, set(host.alive))))
    monkeypatch.setattr(processes, "kill_user", lambda uid: host.alive.clear())
    assert states.absent(host.app()) is True
    assert waited == [(rest, set())]


def test_processes_are_killed_until_none_is_left(host, monkeypatch):
    left = [Process(number, 7) for number in range(3)]
    monkeypatch.setattr(processes, "of_user", lambda uid: left[:1])
    monkeypatch.setattr(processes, "wait", lambda those, seconds: True)
    monkeypatch.setattr(processes, "kill_user", lambda uid: left.pop(0))
    assert states.absent(host.app()) is True
    assert left == []


def test_an_app_without_a_user_is_absent(params, monkeypatch):
    def nobody(name):
        raise KeyError(name)

    monkeypatch.setattr(pwd, "getpwnam", nobody)
    assert states.absent(store.App(params)) is False
    for name in ("shop.blue.ini", "shop.before"):
        Path(params["directory"], name).write_text("{}")
    assert states.absent(store.App(params)) is True
    assert os.listdir(params["directory"]) == []


CONFINED = ["daemon-reload", "set-property emperor-app@shop.service MemorySwapMax=0"]


def test_first_deploy_starts_the_emperor_of_the_app_and_absent_stops_it(host, program, tmp_path):
    program("systemctl", f'echo "$*" >> {tmp_path}/told')
    host.deploy("1")
    assert (tmp_path / "told").read_text().splitlines() == [*CONFINED, "start emperor-app@shop.service"]
    states.absent(host.app())
    assert "stop emperor-app@shop.service emperor-shop.slice" in (tmp_path / "told").read_text().splitlines()


def test_emperor_that_runs_is_only_woken(host, program, tmp_path, monkeypatch):
    program("systemctl", f'echo "$*" >> {tmp_path}/told')
    monkeypatch.setattr(Slot, "wake_emperor", lambda _slot: True)
    host.deploy("1")
    assert (tmp_path / "told").read_text().splitlines() == CONFINED
