"""Who holds the lock of a database that an app has open: real SQLite, real processes."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils.checkup import database_locks

HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
connection.execute("INSERT INTO notes VALUES (1)")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(params=["DELETE", "WAL"])
def database(request, tmp_path):
    """A database, in either way in which SQLite keeps its journal; and a connection of this process to it."""
    path = str(tmp_path / "shop.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode={request.param}")
        connection.execute("CREATE TABLE notes (number)")
        yield path


def test_process_that_holds_the_lock_is_named_until_it_ends(database):
    assert database_locks.held_by_others({os.getpid()}) == []
    command = [sys.executable, "-c", HOLD, database, "a secret argument"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        (found,) = database_locks.held_by_others({os.getpid()})
        assert (found["path"], found["pid"], found["program"]) == (database, holder.pid, sys.executable)
        assert database_locks.held_by_others({os.getpid(), holder.pid}) == [], "its own locks are no one else's"
        assert database_locks.held_by_others({os.getppid()}) == [], "a database of another app"
    assert database_locks.held_by_others({os.getpid()}) == []


def test_locks_of_readers_and_of_other_programs_are_not_meant():
    text = (
        "1: POSIX  ADVISORY  WRITE 812 fe:01:5310 1073741826 1073742335\n"
        "1: -> POSIX  ADVISORY  WRITE 813 fe:01:5310 1073741826 1073742335\n"
        "2: POSIX  ADVISORY  READ 814 fe:01:5311 1073741826 1073742335\n"
        "3: FLOCK  ADVISORY  WRITE 815 00:1a:4711 0 EOF\n"
        "4: POSIX  ADVISORY  WRITE 816 00:1a:4712 0 EOF\n"
        "5: POSIX  ADVISORY  WRITE 817 00:1a:4713 120 120\n"
        "6: OFDLCK ADVISORY  WRITE -1 00:1a:4714 1073741825 1073741825\n"
    )
    assert list(database_locks.writers(text)) == [(812, 5310, 1073741826), (817, 4713, 120)]
