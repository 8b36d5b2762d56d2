"""Files that root writes and removes beside an app that may write there, too."""

import os
import time

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import host as host_files
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal import (
    journal,
)


def test_directory_in_place_of_a_file_is_removed(tmp_path):
    (tmp_path / "shop.sock/inner").mkdir(parents=True)
    host_files.remove(str(tmp_path / "shop.sock"))
    assert os.listdir(tmp_path) == []


def test_link_to_a_directory_in_place_of_a_file_is_removed_alone(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "shop.sock").symlink_to("kept")
    host_files.remove(str(tmp_path / "shop.sock"))
    assert os.listdir(tmp_path) == ["kept"]


def test_a_file_is_written_in_one_step_for_its_owner_alone(tmp_path, deeds):
    path = str(tmp_path / "shop.ini")
    host_files.write(path, "one \udc80", 7, 8)
    inode = os.stat(path).st_ino
    host_files.write(path, "two", 7, 8)
    assert os.stat(path).st_ino != inode  # a reader of the old file is not disturbed
    assert os.stat(path).st_mode & 0o777 == 0o400
    assert host_files.read(path) == "two"
    assert deeds.of("own") == [[path + ".new", 7, 8]] * 2
    assert os.listdir(tmp_path) == ["shop.ini"]


def test_file_has_its_time_before_it_is_in_place(tmp_path, deeds, monkeypatch):
    path, seen, real = str(tmp_path / "shop.ini"), [], os.replace

    def replace(staged, final):
        seen.append(os.stat(staged).st_mtime)
        real(staged, final)

    monkeypatch.setattr(os, "replace", replace)
    host_files.write(path, "x", 7, 8, modified=1_000_000_000)
    host_files.write(path, "x", 7, 8)
    assert seen[0] == 1_000_000_000
    assert abs(seen[1] - time.time()) < 30


def test_staged_file_is_no_vassal_yet(tmp_path, deeds):
    # The Emperor takes every *.ini for a vassal.
    host_files.write(str(tmp_path / "shop.ini"), "x", 7, 8)
    assert not deeds.of("own")[0][0].endswith(".ini")


def test_root_does_not_write_through_a_link_of_the_app(tmp_path, deeds):
    (tmp_path / "shadow").write_text("root's")
    (tmp_path / "trial.ini.new").symlink_to("shadow")
    host_files.write(str(tmp_path / "trial.ini"), "x", 7, 8)
    assert (tmp_path / "shadow").read_text() == "root's"
    assert (tmp_path / "trial.ini").read_text() == "x"
    assert not (tmp_path / "trial.ini").is_symlink()


def test_root_does_not_write_through_a_link_made_at_the_last_moment(tmp_path, deeds, monkeypatch):
    (tmp_path / "shadow").write_text("root's")
    monkeypatch.setattr(host_files, "remove", lambda path: os.symlink("shadow", path))
    with pytest.raises(FileExistsError):
        host_files.write(str(tmp_path / "trial.ini"), "x", 7, 8)
    assert (tmp_path / "shadow").read_text() == "root's"


def test_staged_file_of_a_killed_run_is_removed_before_writing(tmp_path, deeds):
    (tmp_path / "shop.ini.new").write_text("half")
    (tmp_path / "shop.ini.new").chmod(0o400)
    host_files.write(str(tmp_path / "shop.ini"), "x", 7, 8)
    assert host_files.read(str(tmp_path / "shop.ini")) == "x"


def test_bytes_that_are_not_utf_8_are_kept_by_reading_and_writing(tmp_path, deeds):
    (tmp_path / "a").write_bytes(b"\xff\xc3\xbc")
    host_files.write(str(tmp_path / "b"), host_files.read(str(tmp_path / "a")) or "", 7, 8)
    assert (tmp_path / "b").read_bytes() == b"\xff\xc3\xbc"
    assert host_files.read(str(tmp_path / "none")) is None


def test_the_log_is_shown_without_uwsgis_own_words():
    log = ["*** Starting uWSGI 2.0.30 ***", "compiled with version: 14", "Traceback:", "", "  boom"]
    log += ["spawned uWSGI worker 1", "zerg sockets: 1", "uwsgi zerg socket 0 attached"]
    log += ["[emperor] received message 0 from emperor"]
    assert journal.excerpt("\n".join(log)) == "Traceback:\n  boom"
    assert journal.excerpt("\n".join(f"line {number}" for number in range(99))).splitlines() == [
        f"line {number}" for number in range(99 - journal.LOG_LINES, 99)
    ]


def test_log_is_read_when_the_journal_has_all_of_it(program):
    program("journalctl", 'case "$*" in *--sync*) touch "$0.synced" ;; *) ! test -e "$0.synced" || echo boom ;; esac')
    assert journal.journal("--identifier=shop", 0) == "boom\n"
