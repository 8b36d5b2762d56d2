"""Packing sources: equal content gives an equal archive, and nothing leads out of the source."""

import gzip
import hashlib
import io
import lzma
import os
import re
import socket
import subprocess
import tarfile
import time
import zipfile
from pathlib import Path

import pytest
from ansible_collections.flaskops.emperor.plugins.plugin_utils import sources
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture
def shop(tmp_path):
    """The source of a small app."""
    root = tmp_path / "shop"
    (root / "shop/static").mkdir(parents=True)
    (root / "shop/__init__.py").write_text("app = 1\n")
    (root / "shop/static/style.css").write_text("b {}\n")
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "style").symlink_to("shop/static")
    return root


@pytest.fixture
def bundle(tmp_path):
    """Pack a source; relative paths start in tmp_path."""

    def pack(**source):
        kind = next(iter(source))
        return sources.bundle({"kind": kind, **source}, str(tmp_path), str(tmp_path / "cache"))

    return pack


def content(file, name):
    with tarfile.open(file) as archive:
        found = archive.extractfile(name)
        assert found
        return found.read()


def members(file):
    with tarfile.open(file) as archive:
        return {member.name: member for member in archive}


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
    assert content(answer["file"], "shop/__init__.py") == b"app = 1\n"


def test_the_cache_is_for_its_owner_alone_and_holds_nothing_but_archives(shop, bundle, tmp_path):
    answer = bundle(path="shop")
    assert (tmp_path / "cache").stat().st_mode & 0o077 == 0
    assert os.listdir(tmp_path / "cache") == [os.path.basename(answer["file"])]


def test_equal_content_gives_equal_bytes_whoever_made_it_whenever_in_whatever_order(shop, bundle, tmp_path):
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


def test_the_order_in_which_a_file_system_lists_makes_no_difference(shop, bundle, monkeypatch):
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


def test_no_name_can_stand_for_two_files(tmp_path):
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


def test_a_file_that_changed_gets_another_time_and_the_others_keep_theirs(shop, bundle):
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
def test_what_never_belongs_to_a_release_stays_behind(name, shop):
    before = digest(shop)
    for folder in (shop, shop / "shop"):
        if name.endswith(("pyc", "Store")):
            (folder / name).write_text("x")
        else:
            (folder / name).mkdir()
            (folder / name / "file").write_text("x")
    assert digest(shop) == before


def test_excluded_names_stay_behind_at_every_depth(shop, bundle):
    (shop / "draft.psd").write_text("x")
    (shop / "shop/static/draft.psd").write_text("x")
    (shop / "notes").mkdir()
    found = members(bundle(path="shop", exclude=["*.psd", "notes"])["file"])
    assert set(found) == {"run.sh", "style", "shop", "shop/__init__.py", "shop/static", "shop/static/style.css"}


def test_names_that_are_no_text_survive(shop, bundle):
    name = os.fsdecode(b"caf\xe9 \xc3\xbc.txt")
    (shop / name).write_text("x")
    assert name in members(bundle(path="shop")["file"])


@pytest.mark.parametrize(
    ("place", "target"),
    [
        ("out", "/etc/passwd"),
        ("out", "../secret"),
        ("out", ".."),
        ("shop/out", "../../secret"),
        ("shop/out", "static/../../../secret"),
        ("shop/static", "/"),
    ],
)
def test_a_link_that_leads_out_of_the_source_is_refused(place, target, shop, bundle):
    if place == "shop/static":  # a directory that is a link
        (shop / "shop/static/style.css").unlink()
        (shop / "shop/static").rmdir()
        (shop / "style").unlink()  # leads there
    (shop / place).symlink_to(target)
    with pytest.raises(
        Refused, match=f"has the link {place}, which leads out of the source to {re.escape(target)}: replace"
    ):
        bundle(path="shop")


def test_a_link_that_leads_out_by_way_of_another_link_is_refused(shop, bundle):
    (shop / "shop/up").symlink_to("..")  # the source itself: fine
    bundle(path="shop")
    (shop / "out").symlink_to("shop/up/../..")  # looks like the source, is two levels above
    with pytest.raises(Refused, match="has the link out, which leads out of the source"):
        bundle(path="shop")


@pytest.mark.parametrize(
    ("place", "target"), [("in", "shop"), ("shop/in", "../run.sh"), ("in", "."), ("in", "not/yet")]
)
def test_a_link_inside_the_source_is_kept(place, target, shop, bundle):
    (shop / place).symlink_to(target)
    assert members(bundle(path="shop")["file"])[place].linkname == target


def test_an_endless_link_ends(shop, bundle):
    (shop / "loop").symlink_to("loop")
    assert members(bundle(path="shop")["file"])["loop"].linkname == "loop"


@pytest.mark.parametrize("kind", ["socket", "fifo"])
def test_what_is_no_file_is_refused(kind, shop, bundle, monkeypatch):
    if kind == "fifo":
        os.mkfifo(shop / "odd")
    else:
        monkeypatch.chdir(shop)  # the path of a socket is short
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("odd")
    with pytest.raises(
        Refused, match="has odd, which is neither a file nor a directory nor a link: remove or exclude it"
    ):
        bundle(path="shop")
    bundle(path="shop", exclude=["odd"])


def test_a_source_that_is_no_directory_is_refused(shop, bundle, tmp_path):
    with pytest.raises(Refused, match=f"is {tmp_path}/typo, which is no directory .*: correct source.path"):
        bundle(path="shop/../typo")
    with pytest.raises(Refused, match="is no directory"):
        bundle(path="shop/run.sh")


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


@pytest.fixture
def repository(shop, tmp_path, monkeypatch):
    """The source as a git repository: tags v1 (annotated) and light, then a commit more on the branch main."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")

    def git(*arguments):
        command = [
            "git",
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@example.com",
            "-c",
            "init.defaultBranch=main",
            *arguments,
        ]
        return subprocess.run(command, cwd=shop, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message=one")
    git("tag", "--annotate", "--message=x", "v1")
    git("tag", "light")
    (shop / "shop/__init__.py").write_text("app = 2\n")
    git("commit", "--quiet", "--all", "--message=two")
    return git


@pytest.mark.parametrize("version", ["v1", "light", "refs/tags/light", "the commit"])
def test_a_commit_or_a_tag_brings_that_commit_and_its_label(version, repository, shop, bundle):
    commit = repository("rev-parse", "HEAD~1")
    answer = bundle(git={"repo": str(shop), "version": commit if version == "the commit" else version})
    assert answer["label"] == commit
    assert content(answer["file"], "shop/__init__.py") == b"app = 1\n"
    assert not [name for name in members(answer["file"]) if ".git" in name]


def test_a_branch_brings_its_last_commit(repository, shop, bundle):
    first = bundle(git={"repo": str(shop), "version": "main"})
    assert first["label"] == repository("rev-parse", "HEAD")
    repository("commit", "--quiet", "--allow-empty", "--message=three")
    second = bundle(git={"repo": str(shop), "version": "main"})
    assert second["label"] == repository("rev-parse", "HEAD") != first["label"]
    assert second["digest"] == first["digest"]  # the same content: nothing to deploy


def test_a_checkout_and_its_repository_are_the_same_content(repository, shop, bundle):
    assert bundle(git={"repo": str(shop), "version": "main"})["digest"] == bundle(path="shop")["digest"]


def test_a_tag_wins_over_a_branch_of_its_name(repository, shop):
    repository("branch", "both", "HEAD")
    repository("tag", "both", "HEAD~1")
    assert sources.resolve(str(shop), "both") == repository("rev-parse", "HEAD~1")


def test_a_version_that_is_not_there_is_refused(repository, shop, bundle):
    with pytest.raises(Refused, match=r"has no tag or branch 'v9': correct source.git.version"):
        bundle(git={"repo": str(shop), "version": "v9"})
    with pytest.raises(Refused, match="could not be read: `git checkout` says"):
        bundle(git={"repo": str(shop), "version": "0" * 40})
    with pytest.raises(Refused, match="could not be read: `git ls-remote` says"):
        bundle(git={"repo": str(shop / "typo"), "version": "v1"})


def test_a_machine_without_git_gets_a_sentence(repository, shop, bundle, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused, match="needs git on the machine that runs Ansible: install it there"):
        bundle(git={"repo": str(shop), "version": "v1"})


def archived(kind, shop, file, top):
    """Pack the source as a code host would (in one directory) or plainly; return what the user would write."""
    paths = sorted(path for path in shop.rglob("*") if path.is_file() and not path.is_symlink())
    if kind == "zip":
        with zipfile.ZipFile(file, "w") as packed:
            for path in paths:
                packed.write(path, top + str(path.relative_to(shop)))
    else:
        plain = io.BytesIO()
        with tarfile.open(fileobj=plain, mode="w") as packed:
            for path in paths:
                packed.add(path, top + str(path.relative_to(shop)))
        raw = plain.getvalue()
        file.write_bytes({"gz": gzip.compress(raw), "xz": lzma.compress(raw), "": raw}[kind])
    return checked(file)


@pytest.fixture(params=["any Python", "Python before 3.11.4"])
def python(request, monkeypatch):
    """With what Python has to unpack archives safely, and without."""
    if request.param != "any Python":
        monkeypatch.delattr(tarfile, "data_filter", raising=False)


@pytest.mark.usefixtures("python")
@pytest.mark.parametrize("top", ["", "shop-2.1/"])
@pytest.mark.parametrize("kind", ["gz", "xz", "", "zip"])
def test_an_archive_is_the_source_inside_it(kind, top, shop, bundle, tmp_path):
    archive = archived(kind, shop, tmp_path / "shop-2.1", top)
    answer = bundle(archive=archive)
    assert answer["label"] == "shop-2.1"
    assert set(members(answer["file"])) == {
        "run.sh",
        "shop",
        "shop/__init__.py",
        "shop/static",
        "shop/static/style.css",
    }


def test_an_archive_is_found_by_a_relative_path_and_by_a_url(shop, bundle, tmp_path):
    archive = archived("gz", shop, tmp_path / "shop.tar.gz", "")
    relative = bundle(archive={**archive, "url": "shop.tar.gz"})
    assert relative["digest"] == bundle(archive={**archive, "url": f"file://{tmp_path}/shop.tar.gz"})["digest"]


def test_an_archive_with_another_checksum_is_refused(shop, bundle, tmp_path):
    archive = archived("gz", shop, tmp_path / "shop.tar.gz", "")
    with pytest.raises(Refused, match=f"has the checksum {archive['checksum']}, not sha256:00"):
        bundle(archive={**archive, "checksum": "sha256:" + "0" * 64})


def test_an_archive_that_is_not_there_is_refused(bundle, tmp_path):
    for url in ("typo.tar", f"file://{tmp_path}/typo.tar"):
        with pytest.raises(Refused, match="could not be read from"):
            bundle(archive={"url": url, "checksum": "sha256:" + "0" * 64})


def test_an_archive_keeps_links_that_stay_inside(python, shop, bundle, tmp_path):
    file = tmp_path / "linked.tar"
    with tarfile.open(file, "w") as packed:
        for name, target in (("latest", "shop"), ("shop/run", "../run.sh")):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            packed.addfile(link)
        for name in ("shop", "run.sh"):
            packed.add(shop / name, name)
    found = members(bundle(archive=checked(file))["file"])
    assert (found["latest"].linkname, found["shop/run"].linkname) == ("shop", "../run.sh")


def checked(file):
    """An archive as the user would write it."""
    return {"url": str(file), "checksum": "sha256:" + hashlib.sha256(file.read_bytes()).hexdigest()}


def damaged(kind, shop, file):
    if kind == "no archive":
        file.write_bytes(b"<html>not found</html>")
    elif kind == "a tar cut off":
        # Random content, so that the end of the archive is content.
        (shop / "big").write_bytes(os.urandom(50_000))
        archived("gz", shop, file, "")
        file.write_bytes(file.read_bytes()[:20_000])
    elif kind == "a zip with a wrong byte":
        archived("zip", shop, file, "")
        file.write_bytes(file.read_bytes().replace(b"app = 1", b"app = 7", 1))
    elif kind == "a tar that leads out":
        with tarfile.open(file, "w") as packed:
            packed.addfile(tarfile.TarInfo("../out"))
    elif kind == "a tar with a link that leads out":
        with tarfile.open(file, "w") as packed:
            link = tarfile.TarInfo("out")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc"
            packed.addfile(link)
    elif kind == "a tar that goes through a link that leads out":
        with tarfile.open(file, "w") as packed:
            for name, target in (("here", "."), ("out", "here/here/../..")):
                link = tarfile.TarInfo(name)
                link.type, link.linkname = tarfile.SYMTYPE, target
                packed.addfile(link)
            packed.addfile(tarfile.TarInfo("./out/side"))
    elif kind == "a tar with a device":
        with tarfile.open(file, "w") as packed:
            device = tarfile.TarInfo("null")
            device.type, device.devmajor, device.devminor = tarfile.CHRTYPE, 1, 3
            packed.addfile(device)
    return checked(file)


@pytest.mark.usefixtures("python")
@pytest.mark.parametrize(
    "kind",
    [
        "no archive",
        "a tar cut off",
        "a zip with a wrong byte",
        "a tar that leads out",
        "a tar with a link that leads out",
        "a tar that goes through a link that leads out",
        "a tar with a device",
    ],
)
def test_an_archive_that_cannot_be_unpacked_is_refused(kind, shop, bundle, tmp_path):
    with pytest.raises(Refused, match=r"cannot be unpacked: .* Use a tar or zip archive"):
        bundle(archive=damaged(kind, shop, tmp_path / "archive"))
    assert os.listdir(tmp_path / "cache") == []
    assert not (tmp_path / "side").exists()


def test_an_archive_without_files_is_refused(bundle, tmp_path):
    tarfile.open(tmp_path / "empty.tar", "w").close()
    with pytest.raises(Refused, match="has no files"):
        bundle(archive=checked(tmp_path / "empty.tar"))


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


def test_cache_forgets_what_no_run_has_used_for_a_month(shop, tmp_path):
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
