"""The module `release`: which release runs, which one to return to, and which ones to remove."""

import json
import os
import shutil

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils.releases.registry import Releases
from ansible_collections.flaskops.emperor.plugins.modules import release
from release_home import known, observe


def test_release_with_a_truncated_description_is_incomplete(home):
    known(home, "a")
    (home / "releases/a/release.json").write_text('{"id": "a", "cre')
    assert Releases(str(home)).all() == []
    assert Releases(str(home)).incomplete() == ["a"]


def test_rollback_goes_to_the_release_that_was_active_last(home):
    for name, activated in (("a", 30.0), ("b", 10.0), ("c", 20.0)):
        known(home, name, activated=activated)
    releases = Releases(str(home))
    os.symlink("releases/a", home / "current")
    assert (releases.current(), releases.previous()) == ("a", "c")


@pytest.mark.parametrize("facts", [{}, {"activated": 99.0, "failed": True}, {"failed": True}])
def test_rollback_skips_releases_that_never_ran_or_failed(facts, home):
    known(home, "a", activated=1.0)
    known(home, "b", activated=2.0)
    known(home, "c", **facts)
    os.symlink("releases/b", home / "current")
    assert Releases(str(home)).previous() == "a"
    (home / "current").unlink()
    os.symlink("releases/a", home / "current")
    shutil.rmtree(home / "releases/b")
    assert Releases(str(home)).previous() == ""


def test_second_rollback_goes_further_back(home, current):
    for name in "abc":
        known(home, name)
        current(name)
    found = observe(home, "c")
    assert (found["current"], found["previous"]) == ("c", "b")
    answer = current("b", fail_others=["c"])
    assert (answer["current"], answer["previous"]) == ("b", "a")
    answer = current("a", fail_others=["b"])
    assert (answer["current"], answer["previous"]) == ("a", "")


def test_failed_release_that_is_activated_counts_as_good_again(home, current, run_module):
    known(home, "a")
    known(home, "b")
    assert run_module(release, home=str(home), state="failed", id="b")["changed"]
    assert not run_module(release, home=str(home), state="failed", id="b")["changed"]
    current("b")
    assert current("a")["previous"] == "b"


def test_marking_a_missing_release_as_failed_changes_nothing(home, run_module):
    assert not run_module(release, home=str(home), state="failed", id="zzz")["changed"]


def test_slots_list_the_current_release_first_and_then_new_to_old(home):
    for name in "abcd":
        known(home, name)
    assert Releases(str(home)).slots("b") == ["b", "d", "c", "a"]
    assert Releases(str(home)).slots("b", "a") == ["b", "a", "d", "c"]
    assert Releases(str(home)).slots("") == ["d", "c", "b", "a"]


def test_pruning_keeps_the_current_the_previous_and_the_newest_releases(home, current):
    for name in "abcdefg":
        known(home, name)
    current("a", keep=99)
    current("b", keep=99)
    answer = current("b", keep=4)
    assert (answer["current"], answer["previous"]) == ("b", "a")
    assert [one["id"] for one in answer["releases"]] == ["g", "f", "b", "a"]
    assert sorted(answer["removed"]) == ["c", "d", "e"]
    assert sorted(os.listdir(home / "releases")) == ["a", "b", "f", "g"]


@pytest.mark.parametrize("keep", [1, 0, -1])
def test_the_release_that_runs_is_never_removed(keep, home, current):
    known(home, "a")
    known(home, "b")
    current("b", keep=9)
    assert current("a", keep=keep)["removed"] == ["b"]
    assert os.listdir(home / "releases") == ["a"]


def test_pruning_removes_incomplete_releases_and_keeps_files_of_a_person(home, current):
    known(home, "a")
    (home / "releases/half/src").mkdir(parents=True)
    (home / "releases/README").write_text("hands off")
    answer = current("a")
    assert answer["removed"] == ["half"]
    assert sorted(os.listdir(home / "releases")) == ["README", "a"]


def test_activating_again_changes_nothing(home, current):
    known(home, "a")
    assert current("a")["changed"]
    before = (home / "releases/a/release.json").read_text()
    assert not current("a")["changed"]
    assert (home / "releases/a/release.json").read_text() == before


def test_activation_is_recorded_after_a_run_killed_before_recording_it(home, current):
    known(home, "a")
    os.symlink("releases/a", home / "current")
    answer = current("a")
    assert answer["changed"]
    assert answer["releases"][0]["activated"] > 0


def test_links_left_by_a_killed_run_are_removed(home, current):
    known(home, "a")
    known(home, "b")
    current("a")
    os.symlink("releases/a", home / "current.new")
    os.symlink("a", home / "static/0.new")
    answer = current("b")
    assert not answer["failed"], answer
    assert answer["current"] == "b"
    assert not (home / "current.new").is_symlink()
    assert not (home / "static/0.new").is_symlink()


def test_current_is_a_relative_link(home, current):
    known(home, "a")
    current("a")
    assert os.readlink(home / "current") == "releases/a"


def test_missing_release_is_refused(home, current):
    assert current("zzz")["msg"] == "Release zzz is not on this host: build it first."


@pytest.mark.parametrize("name", ["../etc", "a/b", "A", ".hidden", "a\n"])
def test_invalid_release_id_is_refused(name, home, current):
    assert "must be letters, digits" in current(name)["msg"]


def test_check_mode_changes_nothing_and_returns_what_would_change(home, current):
    for name in "abc":
        known(home, name)
    current("a", keep=9)
    before = {path: os.lstat(path).st_ctime_ns for path in home.rglob("*")}
    answer = current("c", check=True, diff=True, keep=2)
    assert answer["changed"]
    assert answer["removed"] == ["b"]
    assert before == {path: os.lstat(path).st_ctime_ns for path in home.rglob("*")}
    assert current("c", keep=2)["removed"] == ["b"]
    assert not current("c", check=True, keep=2)["changed"]


def test_check_mode_on_a_bare_host_works(run_module, tmp_path):
    answer = run_module(release, home=str(tmp_path / "none"), state="current", id="aaa", check=True)
    assert answer["changed"]
    assert not run_module(release, home=str(tmp_path / "none"), state="failed", id="aaa", check=True)["changed"]


def test_check_mode_marks_nothing_as_failed(home, run_module):
    known(home, "a")
    assert run_module(release, home=str(home), state="failed", id="a", check=True)["changed"]
    assert not json.loads((home / "releases/a/release.json").read_text()).get("failed")


ALL_RIGHT = {"static_right": True, "persistent_right": True, "files_right": True}


def test_missing_home_has_no_releases_and_nothing_wrong(tmp_path):
    found = observe(tmp_path / "nowhere", "aaa", static={})
    assert found == {"releases": [], "current": "", "previous": "", "broken": [], "superfluous": [], **ALL_RIGHT}


def test_active_release_has_its_static_links(built, current, home):
    built("aaa")
    assert not observe(home, "bbb")["static_right"]
    current("aaa")
    found = observe(home, "aaa")
    assert (found["current"], found["superfluous"], found["static_right"]) == ("aaa", [], True)


def test_old_and_incomplete_releases_are_superfluous(built, current, home):
    for name in "abc":
        built(name)
        current(name)
    (home / "releases/d").mkdir()
    assert sorted(observe(home, "c", keep=2)["superfluous"]) == ["a", "d"]


def test_looking_at_an_app_reads_each_description_once(home, monkeypatch):
    for name in "abc":
        known(home, name, activated=float(ord(name)))
    read, load = [], json.load

    def noted(file):
        read.append(file.name)
        return load(file)

    monkeypatch.setattr(json, "load", noted)
    assert [one["id"] for one in observe(home, "c")["releases"]] == ["c", "b", "a"]
    assert sorted(read) == [str(home / "releases" / name / "release.json") for name in "abc"]
