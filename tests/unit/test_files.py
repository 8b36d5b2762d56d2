"""The module `files`: every file is as it should be afterwards, and nothing else is touched."""

import grp
import os
import pwd
import stat

import pytest
from ansible_collections.flaskops.emperor.plugins.modules import files


@pytest.fixture
def put(run_module, monkeypatch):
    """Put files in place; whoever runs the tests is root's stand-in."""
    me, mine = pwd.getpwuid(os.getuid()), grp.getgrgid(os.getgid())
    monkeypatch.setattr(pwd, "getpwnam", lambda name: me if name == "root" else {}[name])
    monkeypatch.setattr(grp, "getgrnam", lambda name: mine if name == "root" else {}[name])

    def run(*entries, **more):
        return run_module(files, files=list(entries), **more)

    return run


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_files_and_directories_are_made_in_order(put, tmp_path):
    answer = put({"path": f"{tmp_path}/d", "state": "directory"}, {"path": f"{tmp_path}/d/f", "content": "ü\n"})
    assert answer["paths"] == [f"{tmp_path}/d", f"{tmp_path}/d/f"]
    assert (tmp_path / "d/f").read_text() == "ü\n"
    assert (mode(tmp_path / "d"), mode(tmp_path / "d/f")) == (0o755, 0o644)
    assert os.listdir(tmp_path / "d") == ["f"]


def test_second_run_changes_nothing_and_keeps_the_file(put, tmp_path):
    entries = {"path": f"{tmp_path}/f", "content": "a", "mode": "0600"}, {"path": f"{tmp_path}/g", "state": "absent"}
    assert put(*entries)["changed"]
    before = (tmp_path / "f").stat()
    answer = put(*entries)
    assert (answer["changed"], answer["paths"], answer["diff"]) == (False, [], [])
    assert (tmp_path / "f").stat() == before


@pytest.mark.parametrize("change", [{"content": "b"}, {"mode": "0640"}, {"state": "absent"}])
def test_difference_is_reported_in_check_mode_and_repaired_otherwise(change, put, tmp_path):
    entry = {"path": f"{tmp_path}/f", "content": "a"}
    put(entry)
    assert put({**entry, **change}, check=True)["changed"]
    assert not put(entry, check=True)["changed"]
    assert put({**entry, **change})["changed"]
    assert not put({**entry, **change})["changed"]


def test_link_in_place_of_a_file_is_replaced_and_not_followed(put, tmp_path):
    (tmp_path / "shadow").write_text("kept")
    (tmp_path / "f").symlink_to("shadow")
    assert put({"path": f"{tmp_path}/f", "content": "new"})["changed"]
    assert (tmp_path / "shadow").read_text() == "kept"
    assert not (tmp_path / "f").is_symlink()


def test_link_in_place_of_a_directory_is_replaced(put, tmp_path):
    (tmp_path / "d").symlink_to("/etc")
    assert put({"path": f"{tmp_path}/d", "state": "directory"})["changed"]
    assert os.listdir(tmp_path / "d") == []


def test_directory_with_files_in_place_of_a_file_is_a_failure_that_names_it(put, tmp_path):
    (tmp_path / "f/inner").mkdir(parents=True)
    answer = put({"path": f"{tmp_path}/f", "content": "x"})
    assert answer["failed"]
    assert answer["msg"].startswith(f"{tmp_path}/f could not be made as it should be: ")
    assert (tmp_path / "f/inner").is_dir()


def test_tree_that_is_to_be_absent_is_removed(put, tmp_path):
    (tmp_path / "d/inner").mkdir(parents=True)
    assert put({"path": f"{tmp_path}/d", "state": "absent"})["changed"]
    assert os.listdir(tmp_path) == []


def test_check_mode_works_without_the_user_and_the_directories(put, tmp_path):
    entry = {"path": f"{tmp_path}/a/b/c", "content": "x", "owner": "nobody-yet"}
    answer = put(entry, check=True, diff=True)
    assert not answer["failed"]
    assert answer["diff"] == [
        {"before": "", "after": "x", "before_header": entry["path"], "after_header": entry["path"]}
    ]
    assert os.listdir(tmp_path) == []
    assert put(entry)["failed"]


def test_diff_shows_a_changed_mode(put, tmp_path):
    entry = {"path": f"{tmp_path}/f", "content": "x"}
    put(entry)
    (shown,) = put({**entry, "mode": "0600"}, diff=True)["diff"]
    assert shown["before"].endswith(" 0644\n")
    assert shown["after"] == "root:root 0600\n"


@pytest.mark.parametrize("state", ["file", "absent"])
def test_diff_shows_no_content_of_a_file_that_is_closed_to_others(state, put, tmp_path):
    file = tmp_path / "f"
    put({"path": str(file), "content": "s3cret", "mode": "0600"})
    entry = {"content": "other s3cret", "mode": "0600"} if state == "file" else {"state": state}
    answer = put({"path": str(file), **entry}, diff=True)
    assert (answer["changed"], file.exists()) == (True, state == "file")
    assert answer["diff"][0]["before"] != answer["diff"][0]["after"]
    assert "s3cret" not in str(answer)
    if state == "absent":
        assert "s3cret" not in str(put({"path": str(file), "content": "s3cret", "mode": "0600"}, diff=True))


def test_answer_does_not_repeat_the_contents(put, tmp_path):
    entry = {"path": f"{tmp_path}/f", "content": "much text"}
    put(entry)
    assert "much text" not in str(put(entry))


def test_leftover_file_of_a_killed_run_is_replaced(put, tmp_path):
    (tmp_path / "f.ansible-new").symlink_to("/etc/shadow")
    assert put({"path": f"{tmp_path}/f", "content": "x"})["changed"]
    assert os.listdir(tmp_path) == ["f"]


def test_file_without_content_is_refused(put, tmp_path):
    assert "neither content nor a state" in put({"path": f"{tmp_path}/f"})["msg"]
