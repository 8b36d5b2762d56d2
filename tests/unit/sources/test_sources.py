"""Packing sources: equal content gives an equal archive, once in a run."""

import hashlib
import os
import re
import time
from pathlib import Path

import pytest
from ansible_collections.flaskops.emperor.plugins.plugin_utils import sources
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused
from hypothesis import given
from hypothesis import strategies as st
from packed import members, read


def digest(root):
    return sources.pack(str(root), list(sources.ALWAYS_LEFT_OUT), os.devnull)


def test_the_archive_holds_the_source_and_is_named_after_it(shop, bundle):
    answer = bundle(path="shop")
    assert os.path.basename(answer["file"]) == answer["digest"] + ".tar.gz"
    assert re.fullmatch("[0-9a-f]{64}", answer["digest"])
    assert answer["label"] == ""
    found = members(answer["file"])
    assert list(found) == ["run.sh", "shop", "style", "shop/__init__.py", "shop/static", "shop/static/style.css"]
    assert {found[name].mode for name in ("run.sh", "shop", "shop/static")} == {0o755}
    assert found["shop/__init__.py"].mode == 0o644
    assert found["style"].linkname == "shop/static"
    assert all((member.uid, member.gid, member.uname) == (0, 0, "") for member in found.values())
    assert read(answer["file"], "shop/__init__.py") == b"app = 1\n"


def test_the_cache_is_for_its_owner_alone_and_holds_nothing_but_archives(shop, bundle, tmp_path):
    answer = bundle(path="shop")
    assert (tmp_path / "cache").stat().st_mode & 0o077 == 0
    assert os.listdir(tmp_path / "cache") == [os.path.basename(answer["file"])]


def test_equal_content_gives_equal_bytes_for_any_owner_time_and_order(shop, bundle, tmp_path):
    first = bundle(path="shop")
    first_bytes = Path(first["file"]).read_bytes()
    twin = tmp_path / "twin"
    for path in sorted(shop.rglob("*"), reverse=True):  # made in another order
        copy = twin / path.relative_to(shop)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            copy.symlink_to(os.readlink(path))
        elif path.is_file():
            copy.write_bytes(path.read_bytes())
            copy.chmod(0o700 if path.name == "run.sh" else 0o600)
        if copy.exists():
            os.utime(copy, (1, 1), follow_symlinks=False)
    second = bundle(path=str(twin))
    assert second == first
    assert Path(second["file"]).read_bytes() == first_bytes


def test_order_of_a_directory_listing_does_not_change_the_archive(shop, bundle, monkeypatch):
    (shop / "docs").mkdir()
    (shop / "docs/index.md").write_text("x")
    before = bundle(path="shop")
    bytes_before = Path(before["file"]).read_bytes()
    real = os.walk

    for turn in (lambda names: names.sort(), lambda names: names.sort(reverse=True)):

        def walk(top, turn=turn):
            for folder, folders, files in real(top):
                turn(folders)
                turn(files)
                yield folder, folders, files

        monkeypatch.setattr(os, "walk", walk)
        assert bundle(path="shop") == before
        assert Path(before["file"]).read_bytes() == bytes_before


def test_file_name_that_looks_like_two_files_has_another_digest(tmp_path):
    # Without lengths between them, the first file's name, digest and so on could be the begin of a longer name.
    digits = (b"%d" % number for number in range(99))
    first = next(one for one in digits if not set(b"/\0") & set(hashlib.sha256(one).digest()))
    (tmp_path / "two").mkdir()
    (tmp_path / "two/a").write_bytes(first)
    (tmp_path / "two/b").write_bytes(b"x")
    (tmp_path / "one").mkdir()
    name = b"a" + hashlib.sha256(first).digest() + b"file" + b"b"
    (tmp_path / "one" / os.fsdecode(name)).write_bytes(b"x")
    assert digest(tmp_path / "one") != digest(tmp_path / "two")


CHANGES = {
    "content": lambda root: (root / "shop/__init__.py").write_text("app = 2\n"),
    "a program bit": lambda root: (root / "shop/__init__.py").chmod(0o755),
    "a link's target": lambda root: ((root / "style").unlink(), (root / "style").symlink_to("shop")),
    "a file instead of a link": lambda root: ((root / "style").unlink(), (root / "style").write_text("shop/static")),
    "a name": lambda root: (root / "run.sh").rename(root / "go.sh"),
    "a place": lambda root: (root / "run.sh").rename(root / "shop/run.sh"),
    "an empty directory": lambda root: (root / "instance").mkdir(),
    "an empty file": lambda root: (root / "py.typed").touch(),
    "a file less": lambda root: (root / "run.sh").unlink(),
}


@pytest.mark.parametrize("what", CHANGES)
def test_the_digest_changes_with(what, shop):
    before = digest(shop)
    CHANGES[what](shop)
    assert digest(shop) != before


FILES = st.dictionaries(st.text("ab", min_size=1, max_size=2), st.binary(max_size=3), min_size=1, max_size=4)


@given(FILES, FILES)
def test_two_sources_have_one_digest_only_if_they_are_the_same(tmp_path_factory, one, other):
    found = []
    for files in (one, other):
        root = tmp_path_factory.mktemp("source")
        for name, content in files.items():
            (root / name).write_bytes(content)
        found.append(digest(root))
    assert (found[0] == found[1]) == (one == other)


def test_changed_file_gets_a_new_time_and_other_files_keep_theirs(shop, bundle):
    # A browser compares the time: with one for all files it would keep an old asset.
    before = members(bundle(path="shop")["file"])
    (shop / "shop/static/style.css").write_text("i {}\n")
    after = members(bundle(path="shop")["file"])
    assert after["shop/static/style.css"].mtime != before["shop/static/style.css"].mtime
    assert after["run.sh"].mtime == before["run.sh"].mtime
    assert all(0 < member.mtime < time.time() for member in after.values())


@pytest.mark.parametrize(
    "name",
    [
        ".git",
        ".hg",
        ".svn",
        "__pycache__",
        "a.pyc",
        ".venv",
        "venv",
        ".tox",
        "node_modules",
        ".DS_Store",
        ".mypy_cache",
    ],
)
def test_caches_and_version_control_are_left_out(name, shop):
    before = digest(shop)
    for folder in (shop, shop / "shop"):
        if name.endswith(("pyc", "Store")):
            (folder / name).write_text("x")
        else:
            (folder / name).mkdir()
            (folder / name / "file").write_text("x")
    assert digest(shop) == before


def test_excluded_names_are_left_out_at_every_depth(shop, bundle):
    (shop / "draft.psd").write_text("x")
    (shop / "shop/static/draft.psd").write_text("x")
    (shop / "notes").mkdir()
    found = members(bundle(path="shop", exclude=["*.psd", "notes"])["file"])
    assert set(found) == {"run.sh", "style", "shop", "shop/__init__.py", "shop/static", "shop/static/style.css"}


def test_file_names_that_are_not_utf_8_are_kept(shop, bundle):
    name = os.fsdecode(b"caf\xe9 \xc3\xbc.txt")
    (shop / name).write_text("x")
    assert name in members(bundle(path="shop")["file"])


def test_a_source_without_files_is_refused_and_leaves_nothing(bundle, tmp_path):
    (tmp_path / "shop/empty").mkdir(parents=True)
    with pytest.raises(Refused, match="has no files"):
        bundle(path="shop")
    assert os.listdir(tmp_path / "cache") == []


def test_a_package_has_a_digest_but_no_archive(bundle, tmp_path):
    answer = bundle(package="shop==2.1")
    assert (answer["file"], answer["label"]) == ("", "shop==2.1")
    assert answer["digest"] != bundle(package="shop==2.2")["digest"]
    assert not (tmp_path / "cache").exists()


def apps(*several):
    return [{"name": f"app{number}", "source": source} for number, source in enumerate(several)]


def test_sources_are_packed_once_in_a_run_and_anew_in_the_next(shop, tmp_path):
    wanted = apps({"kind": "path", "path": "shop"}, {"kind": "package", "package": "shop==1"})
    cache = str(tmp_path / "cache")
    first = sources.bundles(wanted, str(tmp_path), cache, "run-1")
    (shop / "new.py").write_text("1\n")
    assert sources.bundles(wanted, str(tmp_path), cache, "run-1") == first
    second = sources.bundles(wanted, str(tmp_path), cache, "run-2")
    assert second["app0"]["digest"] != first["app0"]["digest"]
    assert second["app1"] == first["app1"]
    assert first["app1"]["file"] == ""


def test_archive_that_was_removed_during_a_run_is_packed_again(shop, tmp_path):
    wanted, cache = apps({"kind": "path", "path": "shop"}), str(tmp_path / "cache")
    first = sources.bundles(wanted, str(tmp_path), cache, "run-1")
    os.unlink(first["app0"]["file"])
    assert sources.bundles(wanted, str(tmp_path), cache, "run-1") == first
    assert os.path.exists(first["app0"]["file"])


def test_bad_source_is_refused_with_its_variable(tmp_path):
    with pytest.raises(
        Refused, match=r"^flask_apps\[app0\].source is .*x, which is no directory on the machine that runs"
    ):
        sources.bundles(apps({"kind": "path", "path": "x"}), str(tmp_path), str(tmp_path / "cache"), "run-1")


def test_cache_drops_archives_unused_for_a_month(shop, tmp_path):
    wanted, cache = apps({"kind": "path", "path": "shop"}), str(tmp_path / "cache")
    old = sources.bundles(wanted, str(tmp_path), cache, "run-1")["app0"]["file"]
    past = time.time() - 31 * 24 * 3600
    for path in (old, str(tmp_path / "cache/runs/run-1.json")):
        os.utime(path, (past, past))
    (shop / "new.py").write_text("1\n")
    new = sources.bundles(wanted, str(tmp_path), cache, "run-2")["app0"]["file"]
    assert os.path.exists(new)
    assert not os.path.exists(old)
    assert os.listdir(tmp_path / "cache/runs") == ["run-2.json"]
