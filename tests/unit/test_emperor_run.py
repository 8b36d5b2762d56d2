"""emperor-run: the right release, environment and sandbox, and no secret in the arguments of a unit."""

import json
import os
import pwd
import sys
from pathlib import Path

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import host as host_library
from role_program import load

sys.modules["emperor_host"] = host_library
PROGRAM = Path(__file__).parents[2] / "roles/uwsgi/files/emperor_run.py"
UNIT = """[Service]
ExecStart=/opt/emperor/bin/uwsgi
CapabilityBoundingSet=CAP_SETUID
# A comment
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths=/run/emperor /srv/flask_apps
SystemCallFilter=@system-service
SystemCallFilter=~@debug
Restart=always
"""


@pytest.fixture
def host(tmp_path, monkeypatch):
    """The program, and a host with one app."""
    module = load(PROGRAM)
    home = tmp_path / "srv/shop"
    for release in ("aaa", "bbb"):
        (home / "releases" / release / "src").mkdir(parents=True)
        (home / "releases" / release / "release.json").write_text("{}")
    (home / "releases/half").mkdir()
    (home / "current").symlink_to("releases/aaa")
    (tmp_path / "vassals").mkdir()
    (tmp_path / "emperor.service").write_text(UNIT)
    monkeypatch.setattr(module, "UNIT", str(tmp_path / "emperor.service"))
    monkeypatch.setattr(module, "VASSALS", str(tmp_path / "vassals"))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    user = pwd.struct_passwd(("shop", "x", 1, 7, "", str(home / "shared"), "/bin/false"))
    monkeypatch.setattr(pwd, "getpwnam", lambda name: user)
    vars(module)["home"] = home
    return module


def vassal(host, name, environment, age=0):
    path = Path(host.VASSALS, name)
    path.write_text(
        "; Ansible managed\n[launch]\napp = shop:app\ntasks = 700\n"
        f"environment = {json.dumps(environment)}\n\n[uwsgi]\n"
    )
    os.utime(path, (1000 - age, 1000 - age))
    return str(path)


def of(host, release):
    venv = f"{host.home}/{release}/venv"
    return {"PATH": f"{venv}/bin:/usr/bin", "VIRTUAL_ENV": venv, "KEY": "hunter2 %(x)s", "EMPEROR_APP": "shop:app"}


def test_sandbox_is_the_emperors(host):
    file = vassal(host, "shop.blue.ini", of(host, "releases/aaa"))
    Path(host.VASSALS, "shop.limit").write_text("1048576")
    command = host.outside("shop", "", ["flask", "shell", "--x"])
    properties = [one.partition("=")[2] for one in command if one.startswith("--property=")]
    assert properties == [
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "ReadWritePaths=/run/emperor /srv/flask_apps",
        "SystemCallFilter=@system-service",
        "SystemCallFilter=~@debug",
        "Slice=emperor-shop.slice",
        "CapabilityBoundingSet=",
        f"WorkingDirectory={host.home}/releases/aaa/src",
        "TasksMax=700",
        "OOMScoreAdjust=500",
        "MemoryMax=1048576",
    ]
    assert {"--uid=shop", "--gid=7", "--pipe", "--wait"} <= set(command)
    assert command[-6:] == ["--inside", file, "aaa", "flask", "shell", "--x"]
    assert "hunter2" not in " ".join(command)


@pytest.mark.parametrize("running", ["releases/aaa", "serving"])
def test_environment_is_that_of_the_chosen_release(running, host):
    file = vassal(host, "shop.blue.ini", of(host, running))
    found = host.of_release(host.environment(file), str(host.home), "bbb")
    venv = f"{host.home}/releases/bbb/venv"
    assert found == {"PATH": f"{venv}/bin:/usr/bin", "VIRTUAL_ENV": venv, "KEY": "hunter2 %(x)s", "RELEASE_ID": "bbb"}


def test_environment_is_that_of_the_newer_of_two_instances(host):
    vassal(host, "shop.blue.ini", {}, age=10)
    newer = vassal(host, "shop.green.ini", {})
    assert host.vassal("shop") == newer


@pytest.mark.parametrize(
    ("name", "release", "sentence"),
    [
        ("blog", "", "blog does not run on this host: choose from shop."),
        ("shop", "half", "Release half is not on this host: choose from aaa, bbb."),
    ],
)
def test_missing_app_or_release_is_refused_with_a_sentence(name, release, sentence, host):
    vassal(host, "shop.blue.ini", {})
    with pytest.raises(host.Refused) as refusal:
        host.outside(name, release, ["true"])
    assert str(refusal.value) == sentence


def test_user_other_than_root_is_refused_with_the_cure(host, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(host.Refused, match="use sudo"):
        host.outside("shop", "", ["true"])


def test_sandbox_of_the_unit_is_that_of_every_command():
    template = Path(__file__).parents[2] / "roles/uwsgi/templates/emperor-app@.service.j2"
    lines = host_library.sandbox(template.read_text())
    assert {"RestrictNamespaces=yes", "SystemCallFilter=@system-service", "ProtectControlGroups=yes"} <= set(lines)
    assert not [line for line in lines if "mnt" in line or "mount" in line]


@pytest.mark.parametrize(("instance", "file"), [("1a2b-2", "worker@1a2b.json"), ("", "worker.json")])
def test_side_process_is_what_its_file_says(instance, file, host, tmp_path, monkeypatch):
    (tmp_path / "sides/shop").mkdir(parents=True)
    job = {"command": ["rq", "worker"], "directory": str(host.home), "environment": {"KEY": "hunter2"}}
    (tmp_path / "sides/shop" / file).write_text(json.dumps(job))
    monkeypatch.setattr(host, "SIDES", str(tmp_path / "sides"))
    monkeypatch.chdir("/")
    became = []
    monkeypatch.setattr(os, "execvpe", lambda *arguments: became.append((os.getcwd(), *arguments)))
    host.side("shop", "worker", *([instance] if instance else []))
    own = {b"EMPEROR_INSTANCE": instance.encode()} if instance else {}
    assert became == [(str(host.home), "rq", ["rq", "worker"], {b"KEY": b"hunter2", **own})]


def test_side_process_that_serves_is_told_its_socket_and_finds_no_old_one(host, tmp_path, monkeypatch):
    (tmp_path / "sides/shop").mkdir(parents=True)
    sock = tmp_path / "side.live.1a2b-2.sock"
    sock.touch()
    job = {
        "command": ["uvicorn", "--uds", "{socket}"],
        "directory": "/",
        "environment": {},
        "socket": f"{tmp_path}/side.live",
    }
    (tmp_path / "sides/shop/live@1a2b.json").write_text(json.dumps(job))
    monkeypatch.setattr(host, "SIDES", str(tmp_path / "sides"))
    became = []
    monkeypatch.setattr(os, "execvpe", lambda *arguments: became.append(arguments))
    host.side("shop", "live", "1a2b-2")
    ((_program, command, environment),) = became
    assert command == ["uvicorn", "--uds", str(sock)]
    assert environment[b"EMPEROR_SOCKET"] == os.fsencode(sock)
    assert not sock.exists()
