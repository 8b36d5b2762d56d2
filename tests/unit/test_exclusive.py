"""One module at a time: the next one waits for what a killed run left running, and what that started does not count."""

import os
import stat
import subprocess
import sys
import time

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import exclusive
from ansible_collections.flaskops.emperor.plugins.module_utils.exclusive import Busy
from ansible_collections.flaskops.emperor.plugins.modules import release

HOLD = "import fcntl, sys, time; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); "


@pytest.fixture
def another(lock_file):
    """Another process that holds the lock for so many seconds; returned when it does."""
    started = []

    def hold(seconds):
        command = [sys.executable, "-c", HOLD + f"time.sleep({seconds})", lock_file]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout
        process.stdout.read(1)
        return process

    yield hold
    for process in started:
        process.kill()
        process.communicate()


def test_second_module_waits_until_the_first_has_ended(another):
    other = another(0.5)
    with exclusive.exclusive(seconds=30):
        assert other.wait(5) == 0


def test_second_module_gives_up_with_a_sentence(another, lock_file):
    other = another(60)
    begin = time.monotonic()
    with pytest.raises(Busy) as refused, exclusive.exclusive(seconds=0.3):
        pytest.fail("two at once")
    assert 0.3 <= time.monotonic() - begin < 5
    assert str(refused.value) == (
        "Another module of a run is still running on this host: wait until it has ended, `lslocks` shows which process "
        f"holds {lock_file}."
    )
    assert other.poll() is None


def test_the_lock_of_a_killed_process_is_free(another):
    other = another(60)
    other.kill()
    with exclusive.exclusive(seconds=5):
        pass


def test_process_left_running_by_a_module_does_not_hold_the_lock(lock_file):
    with exclusive.exclusive():
        left = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        with exclusive.exclusive(seconds=0):
            pass
    finally:
        left.kill()
        left.wait()


def test_a_failure_frees_the_lock():
    with pytest.raises(ZeroDivisionError), exclusive.exclusive():
        raise ZeroDivisionError
    with exclusive.exclusive(seconds=0):
        pass


def test_lock_file_is_readable_for_its_owner_alone(lock_file):
    with exclusive.exclusive():
        assert stat.S_IMODE(os.stat(lock_file).st_mode) == 0o600


def test_time_of_the_lock_file_is_the_end_of_the_last_module(lock_file):
    assert exclusive.last_used() == 0
    with exclusive.exclusive():
        os.utime(lock_file, (1, 1))
    ended = exclusive.last_used()
    assert abs(ended - time.time()) < 5
    os.utime(lock_file, (1, 1))
    with pytest.raises(ZeroDivisionError), exclusive.exclusive():
        raise ZeroDivisionError
    assert exclusive.last_used() >= ended


def test_looking_leaves_the_time_of_the_lock_file(lock_file):
    with exclusive.exclusive(mark=False):
        os.utime(lock_file, (1, 1))
    assert exclusive.last_used() == 1


# --- the modules that hold it


@pytest.fixture
def nobody_waits(monkeypatch):
    monkeypatch.setattr(exclusive, "SECONDS", 0)


@pytest.mark.parametrize("state", ["built", "current", "failed"])
def test_a_release_changes_nothing_while_another_module_is_at_work(state, another, nobody_waits, run_module, tmp_path):
    another(60)
    before = sorted(tmp_path.rglob("*"))
    answer = run_module(release, home=str(tmp_path), state=state, id="aaa", user="shop")
    assert answer["msg"].startswith("Another module of a run is still running on this host")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_of_releases_waits_for_nothing(another, nobody_waits, run_module, tmp_path):
    another(60)
    assert not run_module(release, home=str(tmp_path), id="aaa", state="built", user="shop", check=True)["failed"]
