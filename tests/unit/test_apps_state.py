"""apps_state: one look at everything that belongs to the apps of a host, which fails for nothing that is missing."""

import os

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import lock, system, web
from ansible_collections.flaskops.emperor.plugins.modules import apps_state

TOLD = {"there": True, "active": False, "enabled": True, "stale": False, "since": 0.0}


@pytest.fixture
def look(run_module, tmp_path, monkeypatch):
    """Look at a host that is below tmp_path."""

    def check(port, host, path, status, patience, tls):
        return f"get {port} {host}{path} {status}{' by HTTPS' if tls else ''}"

    monkeypatch.setattr(web, "check", check)
    monkeypatch.setattr(system, "units", lambda names: dict.fromkeys(names, TOLD))

    def run(*apps, **more):
        arguments = {"directory": str(tmp_path / "vassals"), "root": str(tmp_path / "srv"), **more}
        return run_module(apps_state, apps=list(apps), **arguments)

    return run


def app(tmp_path, name="shop", **more):
    return {
        "name": name,
        "home": str(tmp_path / "srv" / name),
        "run": str(tmp_path / "run" / name),
        "patience": 1,
        **more,
    }


def test_looking_at_a_bare_host_does_not_fail(look, tmp_path):
    health = {"health_host": "shop.test", "health_path": "/healthz", "health_status": 204, "port": 8443, "tls": True}
    one = app(tmp_path, name="no-such-user", **health)
    nowhere = {"files": [f"{tmp_path}/nowhere"], "nginx": f"{tmp_path}/nowhere"}
    answer = look(one, units=["nginx.service"], check=True, **nowhere)
    assert not answer["failed"]
    assert not answer["changed"]
    found = answer["apps"]["no-such-user"]
    assert found["account"] is None
    assert found["releases"]["releases"] == found["vassal"]["slots"] == []
    assert found["health"] == "get 8443 shop.test/healthz 204 by HTTPS"
    assert answer["certificates"] == {}
    assert answer["files"] == {f"{tmp_path}/nowhere": None}
    assert answer["units"] == {"nginx.service": TOLD}
    assert answer["found"] == []


def test_absent_app_gets_no_health_check(look, tmp_path):
    one = app(tmp_path, check=False)
    del one["patience"]  # as the plan asks for an app that is to be absent
    answer = look(one)
    assert not answer["failed"], answer
    assert answer["apps"]["shop"]["health"] == ""


def test_apps_are_found_by_their_releases_and_by_their_vassals(look, tmp_path):
    (tmp_path / "srv/blog/releases").mkdir(parents=True)
    (tmp_path / "srv/notes").mkdir()
    (tmp_path / "vassals").mkdir()
    (tmp_path / "vassals/wiki.blue.ini").touch()
    assert look()["found"] == ["blog", "wiki"]


def test_paths_are_described_without_following_links(look, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "file").chmod(0o640)
    (tmp_path / "link").symlink_to("file")
    paths = [str(tmp_path / name) for name in ("file", "link", "", "file/below")]
    file, link, directory, below = (look(files=paths)["files"][path] for path in paths)
    assert (file["kind"], file["mode"], file["executable"]) == ("file", "0640", False)
    assert file["digest"] == "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    assert (link["kind"], link["target"], link["digest"]) == ("link", "file", "")
    assert directory["kind"] == "directory"
    assert below is None


def test_account_is_described_as_it_is():
    found = apps_state.account("root")
    assert found
    assert (found["home"], found["group"]) == ("/root", "root")
    assert os.path.isabs(found["shell"])


def test_host_that_another_run_has_locked_is_not_looked_at(look, tmp_path, monkeypatch, lock_file):
    monkeypatch.setattr(lock, "PATH", str(tmp_path / "flask_apps.json"))
    run = {"controller": "laptop", "system": "x", "user": "alice", "pid": 1, "start": 1}
    asked = {"replace": "", "wait": 0}
    assert look(lock={**asked, "owner": run})["held"]
    assert "apps" in look(lock={**asked, "owner": run})
    answer = look(app(tmp_path), lock={**asked, "owner": {**run, "pid": 2}})
    assert answer["holder"]["pid"] == 1
    assert not answer["held"]
    assert "apps" not in answer
