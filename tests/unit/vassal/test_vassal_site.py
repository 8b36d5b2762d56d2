"""The module `vassal` beyond the app: the site that leads to it, what clients get, and the release that is current."""

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import nginx, service, web
from ansible_collections.flaskops.emperor.plugins.module_utils.releases.registry import Releases
from vassal_host import complete, generation

THROUGH = {"port": 80, "tls": False, "at_once": 3}


@pytest.fixture
def done(monkeypatch):
    """What was done to nginx and asked of it, in turn."""
    found: list[tuple[str, ...]] = []

    def make_current(_module, name, _files, action, _test):
        found.append((name, action))
        return [action], ""

    def wait(**asked):
        found.append(("asked", asked["generation"], asked["at_once"]))
        return "", 1

    monkeypatch.setattr(service, "make_current", make_current)
    monkeypatch.setattr(web, "wait", wait)
    return found


@pytest.fixture
def site(program, monkeypatch, tmp_path):
    """A site of an nginx that refuses every configuration with the word "fault"."""
    root = tmp_path / "nginx"
    (root / "sites-enabled").mkdir(parents=True)
    (root / "nginx.conf").write_text("include sites-enabled/*;\n")
    program("nginx", 'if grep -rn fault "$(dirname "$4")" >&2; then exit 1; fi')
    monkeypatch.setattr(nginx, "ROOT", str(root))
    return root / "sites-enabled/shop.conf"


def test_site_is_written_when_the_app_runs_and_before_clients_are_asked_for(module, host, site, done):
    answer = module("1", site_files=[{"path": str(site), "content": "new\n"}], through=THROUGH)
    assert answer["changed"]
    assert site.read_text() == "new\n"
    assert done == [("nginx.service", "reload"), ("asked", generation(host, "1"), 3)]
    assert [one["after_header"] for one in answer["diff"]][1:] == [str(site)]
    assert host.runs() == {"blue": complete(host, "1")}


def test_faulty_site_is_refused_before_the_app_is_touched(module, host, site, done):
    module("1")
    answer = module("2", site_files=[{"path": str(site), "content": "fault\n"}], through=THROUGH)
    assert "nginx refuses the new configuration" in answer["msg"]
    assert not site.exists()
    assert (host.runs(), done) == ({"blue": complete(host, "1")}, [])


def test_check_mode_tests_the_site_and_touches_nothing(module, host, site, done):
    answer = module("1", site_files=[{"path": str(site), "content": "new\n"}], through=THROUGH, check=True)
    assert answer["changed"]
    assert not site.exists()
    assert (host.runs(), done) == ({}, [])
    module("1")
    assert module("1", site_files=[{"path": str(site), "content": "new\n"}], through=THROUGH, check=True)["changed"]
    faulty = [{"path": str(site), "content": "fault\n"}]
    assert "refuses" in module("1", site_files=faulty, check=True)["msg"]
    # It may be right beside a file that only a real run writes before.
    assert module("1", site_files=faulty, site_pending=True, check=True)["diff"][1]["after"] == "fault\n"
    assert "refuses" in module("1", site_files=faulty, site_pending=True)["msg"]


def test_switch_that_clients_do_not_see_fails_and_can_be_rolled_back(module, host, done, monkeypatch):
    module("1", through=THROUGH)
    module(state="committed")
    monkeypatch.setattr(web, "wait", lambda **_asked: ("Clients of shop get no answer.", 1))
    answer = module("2", through=THROUGH)
    assert (answer["failed"], answer["msg"]) == (True, "Clients of shop get no answer.")
    assert module(state="rolled_back")["msg"] == "The earlier release serves again"
    assert host.runs() == {"blue": complete(host, "1")}


def test_committed_release_becomes_the_current_one_and_old_ones_go(module, tmp_path):
    home = tmp_path / "home"
    releases = Releases(str(home))
    for name in "abc":
        (home / "releases" / name / "src").mkdir(parents=True)
        releases.record(name, id=name, created=ord(name), label="", activated=ord(name))
    (home / "static").mkdir()
    current = {"home": str(home), "id": "b", "keep": 2, "fail_others": ["c"]}
    module("1")
    assert module(state="committed", current=current, check=True)["changed"]
    assert not (home / "current").is_symlink()
    assert module(state="committed", current=current)["changed"]
    assert releases.current() == "b"
    assert sorted(one["id"] for one in releases.all()) == ["a", "b"], "the one that failed goes first"
    assert not module(state="committed", current=current)["changed"]
    assert not module(state="committed", current=current, check=True)["changed"]
