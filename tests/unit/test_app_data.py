"""Persistent directories are linked and filled once; configuration files change in one step, and can be taken back."""

import json
import os
import time

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import as_user
from ansible_collections.flaskops.emperor.plugins.module_utils.releases import data, observation, settings_files
from ansible_collections.flaskops.emperor.plugins.module_utils.releases.registry import Releases
from ansible_collections.flaskops.emperor.plugins.modules import app_data

UPLOADS = {"at": "src/uploads", "data": "uploads", "optional": False, "beside": ""}
INSTANCE = {"at": "src/instance", "data": "instance", "optional": True, "beside": ""}
LAYOUT = {"at": "src/src/instance", "data": "instance", "optional": True, "beside": "src/src/shop"}
CONFIG = {"at": "shared/instance/config.py", "key": "home/instance/config.py"}
LOCAL = {"at": "src/settings/local.ini", "key": "source/settings/local.ini"}


@pytest.fixture
def home(tmp_path):
    for name in ("shared", "releases/aaa/src", "releases/aaa/venv"):
        (tmp_path / "home" / name).mkdir(parents=True)
    return tmp_path / "home"


@pytest.fixture
def place(run_module, home, deeds, monkeypatch):
    """Put data in place; nobody becomes another user."""
    monkeypatch.setattr(as_user, "call", lambda _user, function, groups=(): function())
    before = os.umask(0o022)

    def run(persistent=(), files=(), release="aaa", state=""):
        if state:
            return run_module(app_data, name="shop", home=str(home), state=state)
        try:
            changed = data.place(Releases(str(home)), release, [*persistent], [*files], "shop")
        except data.FAULTS as reason:
            return {"failed": True, "msg": str(reason)}
        return {"changed": changed}

    yield run
    os.umask(before)


def source(home, files):
    for name, text in files.items():
        path = home / "releases/aaa/src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def right(home, persistent=(), files=(), release="aaa"):
    places = [{key: one[key] for key in ("at", "key")} for one in files]
    data = {"persistent": persistent, "files": places, "digest": settings_files.digest_of(files)}
    found = observation.observe(str(home), release, {}, 5, data)
    return found["persistent_right"], found["files_right"]


def test_data_is_filled_once_and_linked_from_every_release(place, home):
    source(home, {"uploads/a": "a", "uploads/deep/b": "b"})
    assert right(home, [UPLOADS]) == (False, True)
    assert place([UPLOADS])["changed"]
    assert right(home, [UPLOADS]) == (True, True)
    assert (home / "releases/aaa/src/uploads").readlink() == home / "shared/uploads"
    assert (home / "shared/uploads/deep/b").read_text() == "b"
    assert not place([UPLOADS])["changed"]
    (home / "shared/uploads/a").unlink()
    (home / "releases/bbb/src/uploads").mkdir(parents=True)
    (home / "releases/bbb/src/uploads/a").write_text("again")
    assert place([UPLOADS], release="bbb")["changed"]
    assert [path.name for path in (home / "shared/uploads").iterdir()] == ["deep"]


def test_links_do_not_make_a_release_look_changed_by_hand(place, home):
    source(home, {"shop/views.py": "", "settings/__init__.py": ""})
    release = home / "releases/aaa"
    built = time.time() - 1000
    for folder in (release / "src/shop", release / "src/settings", release / "src"):
        os.utime(folder, (built, built))
    (release / "release.json").write_text(json.dumps({"id": "aaa", "created": built}))
    index = {**UPLOADS, "at": "src/var/index", "data": "var/index"}
    place([UPLOADS, index], [{**LOCAL, "content": "[local]"}])
    assert (release / "src/settings/local.ini").is_symlink()
    newer = [path for path in (release / "src").rglob("*") if path.is_dir() and path.stat().st_mtime > built + 1]
    assert {path.name for path in newer} <= {"uploads", "index"}, "a directory of the source, and not only data"
    assert (release / "src").stat().st_mtime <= built + 1


def test_filling_interrupted_by_a_kill_is_completed(place, home):
    source(home, {"uploads/a": "a", "uploads/b": "b"})
    (home / "shared/uploads/.filling").mkdir(parents=True)
    (home / "shared/uploads/.filling/a").write_text("hal")
    (home / "shared/uploads/b").write_text("of a user")
    (home / "releases/aaa/src/uploads.new").mkdir()
    place([UPLOADS])
    found = {path.name: path.read_text() for path in (home / "shared/uploads").iterdir()}
    assert found == {"a": "a", "b": "of a user"}
    assert not (home / "releases/aaa/src/uploads.new").exists()


@pytest.mark.parametrize("name", ["instance/__init__.py", "instance"])
def test_code_named_instance_is_not_replaced_by_a_link(name, place, home):
    source(home, {name: ""})
    assert right(home, [INSTANCE]) == (True, True)
    assert not place([INSTANCE])["changed"]


def test_instance_folder_is_linked_only_beside_an_existing_package(place, home):
    assert not place([LAYOUT])["changed"]
    source(home, {"src/shop/__init__.py": ""})
    assert right(home, [LAYOUT]) == (False, True)
    assert place([LAYOUT])["changed"]


def test_persistent_path_that_is_not_a_directory_is_refused(place, home):
    source(home, {"uploads": "a file"})
    message = place([UPLOADS])["msg"]
    assert message.endswith("persistent: uploads is a file in the source: name a directory.")


def test_link_in_the_source_is_never_followed(place, home, tmp_path):
    (home / "releases/aaa/src/var").symlink_to(tmp_path)
    answer = place([{**UPLOADS, "at": "src/var/uploads", "data": "var/uploads"}])
    assert "src/var is not a directory of the release" in answer["msg"]
    assert not (tmp_path / "uploads").exists()


def test_configuration_files_change_together_and_are_rolled_back(place, home):
    source(home, {"settings/local.ini": "default"})
    old = [CONFIG | {"content": "one"}, LOCAL | {"content": "two"}]
    new = [CONFIG | {"content": "three"}]
    read = (home / "shared/instance/config.py").read_text
    assert place(files=old)["changed"]
    assert right(home, files=old) == (True, False), "not committed"
    assert place(state="committed")["changed"]
    assert right(home, files=old) == (True, True)
    assert (read(), (home / "releases/aaa/src/settings/local.ini").read_text()) == ("one", "two")
    assert not place(files=old)["changed"]
    assert place(files=new)["changed"]
    assert read() == "three"
    assert place(files=[CONFIG | {"content": "four"}])["changed"], "as after a run that was killed"
    assert place(state="reverted")["changed"]
    assert read() == "one"
    assert right(home, files=old) == (True, True)
    assert not place(state="reverted")["changed"]
    assert not place(state="committed")["changed"]


def test_configuration_files_are_for_the_app_alone(place, home):
    place(files=[CONFIG | {"content": "one"}])
    assert (home / "files").stat().st_mode & 0o777 == 0o750
    written = [path for path in (home / "files").rglob("*") if not path.is_symlink()]
    assert {path.stat().st_mode & 0o777 for path in written if path.is_file()} == {0o640}
    assert {path.stat().st_mode & 0o777 for path in written if path.is_dir()} == {0o750}


def test_file_edited_by_hand_is_found_and_written_again(place, home):
    files = [CONFIG | {"content": "one"}]
    place(files=files)
    place(state="committed")
    (written,) = [path for path in (home / "files").rglob("config.py") if "current" not in path.parts]
    written.chmod(0o600)
    written.write_text("by hand")
    assert right(home, files=files) == (True, False)
    assert place(files=files)["changed"]
    assert written.read_text() == "one"


def test_files_that_are_no_longer_listed_are_removed(place, home):
    place(files=[CONFIG | {"content": "one"}])
    place(state="committed")
    assert right(home) == (True, False)
    assert place()["changed"]
    assert place(state="committed")["changed"]
    assert right(home) == (True, True)
    assert not (home / "shared/instance/config.py").exists()


def test_check_mode_on_a_bare_host_works(run_module, tmp_path):
    assert data.misplaced(Releases(str(tmp_path / "none")), "aaa", [UPLOADS], [CONFIG | {"content": "x"}])
    assert not run_module(app_data, name="shop", home=str(tmp_path / "none"), state="reverted", check=True)["changed"]
    assert not (tmp_path / "none").exists()
