"""The archive of an app: consistent while others write, complete, and harmless whatever is in it."""

import contextlib
import io
import json
import os
import sqlite3
import tarfile
import threading

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import archive


@pytest.fixture
def home(tmp_path):
    for name in ("shared/uploads", "cache", "unpacked", "files/aaa/home"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


@pytest.fixture(autouse=True)
def umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


def pack(home, **about):
    path = home / "archive.tar.gz"
    settings = json.dumps({"name": "shop", **about}).encode()
    sources = archive.Sources(str(home / "shared"), str(home / "files/aaa"), "", settings, str(home / "cache"))
    told = archive.pack(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), sources, str(home / "files"))
    assert list((home / "cache").iterdir()) == []
    return path, told


def unpack(home, path):
    archive.unpack(os.open(path, os.O_RDONLY), str(home / "unpacked"), {os.getgid(): os.getgid()})
    return home / "unpacked/data"


def test_settings_in_an_archive_are_for_its_owner_alone(home):
    with tarfile.open(pack(home)[0]) as packed:
        assert packed.getmember(archive.SETTINGS).mode == 0o600


def test_restored_data_equals_the_data_in_the_backup(home):
    (home / "shared/uploads/a").write_bytes(bytes(range(256)))
    (home / "shared/uploads/a").chmod(0o640)
    os.utime(home / "shared/uploads/a", (1000, 1000))
    (home / "shared/uploads").chmod(0o2750)
    (home / "shared/link").symlink_to("uploads/a")
    (home / "shared/config.py").symlink_to(home / "files/current/home/config.py")
    os.mkfifo(home / "shared/pipe")
    path, told = pack(home)
    assert told == []
    data = unpack(home, path)
    assert (data / "uploads/a").read_bytes() == bytes(range(256))
    assert (data / "uploads/a").stat().st_mtime == 1000
    assert [oct((data / name).stat().st_mode & 0o7777) for name in ("uploads", "uploads/a")] == ["0o2750", "0o640"]
    assert os.readlink(data / "link") == "uploads/a"
    assert sorted(os.listdir(data)) == ["link", "uploads"], "pipes and links to configuration files are made anew"


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_database_is_consistent_while_others_write(mode, home):
    """Two tables always have the same number of rows."""
    file, stop = home / "shared/shop.db", threading.Event()
    with contextlib.closing(sqlite3.connect(file, timeout=30)) as connection:
        connection.execute(f"PRAGMA journal_mode={mode}")
        connection.executescript("CREATE TABLE a (x); CREATE TABLE b (x);")

    def write():
        with contextlib.closing(sqlite3.connect(file, timeout=30)) as connection:
            while not stop.is_set():
                with connection:
                    connection.execute("INSERT INTO a VALUES (randomblob(2000))")
                    connection.execute("INSERT INTO b VALUES (randomblob(2000))")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        found = []
        for number in range(5):
            path, told = pack(home)
            assert told == []
            data = home / f"unpacked{number}"
            data.mkdir()
            archive.unpack(os.open(path, os.O_RDONLY), str(data), {})
            assert os.listdir(data / "data").count("shop.db-wal") == 0
            with contextlib.closing(sqlite3.connect(data / "data/shop.db")) as copy:
                assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
                found.append([copy.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in "ab"])
    finally:
        stop.set()
        writer.join()
    assert all(first == second for first, second in found), found
    assert found[-1] != [0, 0]


def test_file_that_only_looks_like_a_database_is_copied_as_it_is(home):
    (home / "shared/x.db").write_bytes(archive.SQLITE + b"no database")
    path, told = pack(home)
    assert "is no sound database" in told[0]
    assert (unpack(home, path) / "x.db").read_bytes() == archive.SQLITE + b"no database"


def test_archive_names_its_app(home):
    path, _told = pack(home, release="aaa")
    assert archive.settings_of(str(path)) == {"name": "shop", "release": "aaa"}
    for wrong in (b"", b"no archive", path.read_bytes()[:40]):
        path.write_bytes(wrong)
        with pytest.raises(ValueError, match=r".+"):
            archive.settings_of(str(path))


def hostile(home, *members):
    path = home / "hostile.tar.gz"
    with tarfile.open(path, "w:gz") as made:
        for name, kind, target in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            content = b"evil" if kind == tarfile.REGTYPE else b""
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
    return path


def test_nothing_is_written_through_a_link(home, tmp_path):
    members = [("data", tarfile.DIRTYPE, ""), ("data/out", tarfile.SYMTYPE, str(tmp_path))]
    path = hostile(home, *members, ("data/out/evil", tarfile.REGTYPE, ""))
    with pytest.raises(ValueError, match="leads out of the archive"):
        unpack(home, path)
    assert not (tmp_path / "evil").exists()


def test_links_that_lead_out_are_left_out(home, tmp_path):
    places = ["../evil", "data/../../evil", f"{tmp_path}/evil", "other/evil"]
    members = [(place, tarfile.REGTYPE, "") for place in places]
    unpack(home, hostile(home, *members, ("data/dev", tarfile.CHRTYPE, "")))
    assert list((home / "unpacked").iterdir()) == []
    assert not (tmp_path / "evil").exists()
