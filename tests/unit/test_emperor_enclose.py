"""Temporary directories of an app's own: how they are made, and how they are removed with the app."""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import temporary
from role_program import load

FILES = Path(__file__).parents[2] / "roles/uwsgi/files"


@pytest.fixture
def enclose(monkeypatch, tmp_path):
    """The program, whose calls of the kernel and whose end are noted instead of done."""
    module = load(FILES / "emperor_enclose.py")
    done: list[tuple[str, tuple[object, ...]]] = []
    monkeypatch.setattr(module, "done", done, raising=False)
    shared = [tmp_path / one for one in ("tmp", "shm")]
    for one in shared:
        one.mkdir()
    monkeypatch.setattr(module, "SHARED", tuple(map(str, shared)))
    monkeypatch.setattr(module, "call", lambda name, *arguments: module.done.append((name, arguments)))
    for name in ("setgroups", "setgid", "setuid", "execv"):
        monkeypatch.setattr(os, name, lambda *arguments, name=name: module.done.append((name, arguments)))
    return module


def start(module, monkeypatch, file, owner=(1001, 1002)):
    monkeypatch.setattr(module.sys, "argv", ["emperor-enclose", "--emperor-fd", "7", "--ini", file])
    real = os.stat

    def told(path, **more):
        return os.stat_result((0o100400, 1, 1, 1, *owner, 0, 0, 0, 0)) if path == file else real(path, **more)

    monkeypatch.setattr(os, "stat", told)
    module.main()


def test_a_vassal_gets_its_apps_directories_then_its_user_then_the_wrapper(enclose, monkeypatch, tmp_path):
    start(enclose, monkeypatch, "/etc/emperor/vassals/shop.green.ini")
    names = [name for name, _arguments in enclose.done]
    assert names == ["unshare", "mount", "mount", "mount", "setgroups", "setgid", "setuid", "execv"]
    mounts = [arguments[:2] for name, arguments in enclose.done if name == "mount"][1:]
    assert mounts == [(f"{tmp_path}/{one}/shop".encode(), f"{tmp_path}/{one}".encode()) for one in ("tmp", "shm")]
    assert dict(enclose.done)["setuid"] == (1001,)
    assert dict(enclose.done)["setgid"] == (1002,)
    assert dict(enclose.done)["execv"][1][1:] == ["--emperor-fd", "7", "--ini", "/etc/emperor/vassals/shop.green.ini"]
    assert stat.S_IMODE((tmp_path / "tmp/shop").stat().st_mode) == 0o1777


def test_the_second_instance_finds_what_the_first_one_put_there(enclose, monkeypatch, tmp_path):
    start(enclose, monkeypatch, "/etc/emperor/vassals/shop.blue.ini")
    (tmp_path / "tmp/shop/kept").touch()
    start(enclose, monkeypatch, "/etc/emperor/vassals/shop.green.ini")
    assert (tmp_path / "tmp/shop/kept").exists()


@pytest.mark.parametrize("owner", [(0, 1002), (1001, 0)])
def test_no_vassal_runs_as_root(enclose, monkeypatch, owner):
    with pytest.raises(SystemExit, match="give it to the app's user"):
        start(enclose, monkeypatch, "/etc/emperor/vassals/shop.blue.ini", owner)
    assert enclose.done == []


@pytest.mark.parametrize("kind", ["link", "file"])
def test_what_somebody_else_put_there_is_not_used(enclose, monkeypatch, tmp_path, kind):
    if kind == "link":
        (tmp_path / "shm/shop").symlink_to(tmp_path)
    else:
        (tmp_path / "shm/shop").touch()
    with pytest.raises(SystemExit, match=r"gets no temporary directories of its own: .*shm/shop is there"):
        start(enclose, monkeypatch, "/etc/emperor/vassals/shop.blue.ini")
    assert "setuid" not in dict(enclose.done)


@pytest.mark.parametrize(("number", "starts"), [(1, True), (22, False)])
def test_without_namespaces_the_app_starts_and_the_journal_says_so(
    enclose, monkeypatch, number, starts, capsys
):  # fmt: skip
    def call(name, *arguments):
        raise OSError(number, name)

    monkeypatch.setattr(enclose, "call", call)
    if starts:
        start(enclose, monkeypatch, "/etc/emperor/vassals/shop.blue.ini")
        assert "shop shares" in capsys.readouterr().err
        assert [name for name, _arguments in enclose.done][-2:] == ["setuid", "execv"]
    else:
        with pytest.raises(SystemExit, match="shop does not start"):
            start(enclose, monkeypatch, "/etc/emperor/vassals/shop.blue.ini")
        assert enclose.done == []


def test_a_call_that_fails_says_why(monkeypatch):
    module = load(FILES / "emperor_enclose.py")
    with pytest.raises(OSError, match="umount2: "):
        module.call("umount2", b"/nowhere", 0)


@pytest.mark.parametrize("pid", ["77\n", "0\n", ""])
def test_an_absent_apps_temporary_files_go_where_the_emperor_has_them(pid, monkeypatch):
    removed = []
    monkeypatch.setattr(
        subprocess, "run", lambda command, **_more: subprocess.CompletedProcess(command, 0, pid)
    )  # fmt: skip
    monkeypatch.setattr(os.path, "isdir", lambda path: True)
    monkeypatch.setattr(shutil, "rmtree", lambda path, **_more: removed.append(path))
    temporary.remove("shop")
    there = ["/tmp", "/var/tmp", "/dev/shm"] if pid.strip("0\n") else []
    assert removed == [f"/proc/77/root{one}/shop" for one in there]
