"""The module `release`: which release runs, which one to return to, and which ones to remove."""

import json
import os
import shutil

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils.releases.registry import Releases
from ansible_collections.flaskops.emperor.plugins.modules import release
from release_home import known, observe


def test_a_description_cut_off_by_a_crash_counts_as_none(home):
    known(home, "a")
    (home / "releases/a/release.json").write_text('{"id": "a", "cre')
    assert Releases(str(home)).all() == []
    assert Releases(str(home)).incomplete() == ["a"]


def test_the_release_to_return_to_is_the_one_that_was_active_last(home):
    for name, activated in (("a", 30.0), ("b", 10.0), ("c", 20.0)):
        known(home, name, activated=activated)
    releases = Releases(str(home))
    os.symlink("releases/a", home / "current")
    assert (releases.current(), releases.previous()) == ("a", "c")


@pytest.mark.parametrize("facts", [{}, {"activated": 99.0, "failed": True}, {"failed": True}])
def test_nobody_returns_to_a_release_that_never_ran_or_was_failed(facts, home):
    known(home, "a", activated=1.0)
    known(home, "b", activated=2.0)
    known(home, "c", **facts)
    os.symlink("releases/b", home / "current")
    assert Releases(str(home)).previous() == "a"
    (home / "current").unlink()
    os.symlink("releases/a", home / "current")
    shutil.rmtree(home / "releases/b")
    assert Releases(str(home)).previous() == ""


def test_after_a_rollback_the_next_one_goes_further_back(home, current):
    for name in "abc":
        known(home, name)
        current(name)
    found = observe(home, "c")
    assert (found["current"], found["previous"]) == ("c", "b")
    answer = current("b", fail_others=["c"])
    assert (answer["current"], answer["previous"]) == ("b", "a")
    answer = current("a", fail_others=["b"])
    assert (answer["current"], answer["previous"]) == ("a", "")


def test_a_failed_release_that_runs_after_all_is_good_again(home, current, run_module):
    known(home, "a")
    known(home, "b")
    assert run_module(release, home=str(home), state="failed", id="b")["changed"]
    assert not run_module(release, home=str(home), state="failed", id="b")["changed"]
    current("b")
    assert current("a")["previous"] == "b"


def test_rejecting_what_is_not_there_changes_nothing(home, run_module):
    assert not run_module(release, home=str(home), state="failed", id="zzz")["changed"]


def test_the_current_release_comes_first_and_the_others_from_new_to_old(home):
    for name in "abcd":
        known(home, name)
    assert Releases(str(home)).slots("b") == ["b", "d", "c", "a"]
    assert Releases(str(home)).slots("b", "a") == ["b", "a", "d", "c"]
    assert Releases(str(home)).slots("") == ["d", "c", "b", "a"]


def test_pruning_keeps_the_current_the_one_to_return_to_and_the_newest(home, current):
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


def test_what_a_killed_run_left_is_pruned_and_what_a_person_left_is_not(home, current):
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


def test_a_run_killed_before_it_wrote_down_that_the_release_runs_is_made_up_for(home, current):
    known(home, "a")
    os.symlink("releases/a", home / "current")
    answer = current("a")
    assert answer["changed"]
    assert answer["releases"][0]["activated"] > 0


def test_a_run_killed_between_link_and_rename_is_made_up_for(home, current):
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


def test_a_release_that_is_not_there_is_refused(home, current):
    assert current("zzz")["msg"] == "Release zzz is not on this host: build it first."


@pytest.mark.parametrize("name", ["../etc", "a/b", "A", ".hidden", "a\n"])
def test_an_id_that_is_no_name_is_refused(name, home, current):
    assert "must be letters, digits" in current(name)["msg"]


def test_check_mode_activates_and_removes_nothing_but_says_what_would_be(home, current):
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


def test_check_mode_rejects_nothing(home, run_module):
    known(home, "a")
    assert run_module(release, home=str(home), state="failed", id="a", check=True)["changed"]
    assert not json.loads((home / "releases/a/release.json").read_text()).get("failed")


ALL_RIGHT = {"static_right": True, "persistent_right": True, "files_right": True}


def test_nothing_is_found_where_no_app_was(tmp_path):
    found = observe(tmp_path / "nowhere", "aaa", static={})
    assert found == {"releases": [], "current": "", "previous": "", "superfluous": [], **ALL_RIGHT}


def test_release_that_runs_is_as_it_should_be(built, current, home):
    built("aaa")
    assert not observe(home, "bbb")["static_right"]
    current("aaa")
    found = observe(home, "aaa")
    assert (found["current"], found["superfluous"], found["static_right"]) == ("aaa", [], True)


def test_releases_beyond_those_kept_and_what_a_killed_run_left_are_superfluous(built, current, home):
    for name in "abc":
        built(name)
        current(name)
    (home / "releases/d").mkdir()
    assert sorted(observe(home, "c", keep=2)["superfluous"]) == ["a", "d"]
