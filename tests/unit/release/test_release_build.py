"""The module `release`: a build touches nothing that runs, and a killed one heals."""

import base64
import errno
import os
import platform
import pwd
import re
import sys
import tarfile

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import as_user
from ansible_collections.flaskops.emperor.plugins.module_utils.releases import build
from ansible_collections.flaskops.emperor.plugins.module_utils.releases.registry import Releases
from release_home import mode, observe, state


def test_built_release_is_complete_and_nothing_that_runs_is_touched(built, home):
    answer = built("aaa", requirements="requirements.txt", packages=["pyuwsgi==1"], label="v1")
    assert answer["changed"]
    assert (answer["current"], answer["previous"]) == ("", "")
    described = Releases(str(home)).describe("aaa") or {}
    assert described.pop("distributions") == []
    assert answer["releases"] == [{**described, "size": {}, "tried": ""}]
    assert answer["releases"][0].items() >= {"id": "aaa", "label": "v1", "python": "3.13.5"}.items()
    assert (home / "releases/aaa/src/app.py").read_text() == "app = 1"
    assert not (home / "current").exists()
    assert not (home / "bundle.tar.gz").exists()
    assert sorted(os.listdir(home / "releases/aaa")) == ["release.json", "source.tar.gz", "src", "venv"]


def test_a_release_has_what_its_trial_start_found(built, home):
    built("aaa")
    file = home / "releases/aaa/size.json"
    for text, size, tried in (
        ('{"digest": "x", "size": {"total": 9, "private": 2, "rss": 8}}', {"total": 9, "private": 2, "rss": 8}, "x"),
        ('{"digest": "x", "size": null}', {}, "x"),
        ('{"dig', {}, ""),
    ):
        file.write_text(text)
        (found,) = observe(home, "aaa")["releases"]
        assert (found["size"], found["tried"]) == (size, tried)


def test_archive_in_the_arguments_is_for_root_alone_and_removed(built, bundle, home, monkeypatch):
    with open(bundle(), "rb") as file:
        text = base64.b64encode(file.read()).decode()
    os.unlink(home / "bundle.tar.gz")
    modes, real = [], tarfile.open

    def look(file):
        modes.append(mode(home / "bundle.tar.gz"))
        return real(file)

    monkeypatch.setattr(tarfile, "open", look)
    assert built("aaa", bundle=None, archive=text)["changed"]
    assert modes == [0o600]
    assert (home / "releases/aaa/src/app.py").read_text() == "app = 1"
    assert not (home / "bundle.tar.gz").exists()


def test_source_that_is_kept_is_for_root_alone(built, bundle, home):
    os.chmod(bundle(), 0o644)
    built("aaa")
    assert mode(home / "releases/aaa/source.tar.gz") == 0o600


def test_file_times_of_the_bundle_are_kept(built, home):
    built("aaa")
    assert (home / "releases/aaa/src/static/app.css").stat().st_mtime == 1_100_000_000


def test_building_again_changes_nothing(built, home):
    built("aaa")
    before = {
        path: os.lstat(path).st_ctime_ns for path in home.rglob("*") if path.name not in ("bundle.tar.gz", "home")
    }
    assert not built("aaa")["changed"]
    assert before == {path: os.lstat(path).st_ctime_ns for path in before}


def test_a_build_runs_in_the_source_and_may_make_the_static_files(built, home):
    command = "sh -c 'mkdir made && echo $PWD > made/where && echo $VIRTUAL_ENV > made/venv'"
    answer = built("aaa", build=[command], static={"/static": "made"})
    assert not answer["failed"], answer
    path = home / "releases/aaa"
    assert (path / "src/made/where").read_text() == f"{path}/src\n"
    assert (path / "src/made/venv").read_text() == f"{path}/venv\n"
    assert mode(path / "src/made/where") == 0o644


def test_a_build_that_looks_for_files_or_variables_of_the_app_is_told_that_it_gets_none(built):
    files = [{"at": "src/shop/configuration.py", "key": "0", "content": "x = 1"}]
    told = built("aaa", build=["sh -c 'echo module shop.configuration not found; exit 1'"], files=files)["msg"]
    assert "A build gets neither `files` (configuration.py) nor `environment`, as their secrets are not its own" in told
    lacks = "/usr/bin/python3 -c 'import shop.configuration'"
    told = built("aaa", build=["sh -c 'mkdir shop; touch shop/__init__.py'", lacks], files=files)["msg"]
    assert "(build) failed: A build gets neither `files` (configuration.py)" in told
    told = built("aaa", build=["sh -c 'echo other; exit 1'"], files=files)["msg"]
    assert "neither" not in told


def test_a_build_that_lacks_a_variable_is_told_how_to_give_it_one(built):
    program = "import os; os.environ[chr(65) * 3]"
    told = built("aaa", build=[f"/usr/bin/python3 -c '{program}'"])["msg"]
    assert "the variable AAA is missing: a build does not get `environment`, so write `env NAME=value COMMAND`" in told


def test_a_sentence_of_a_tool_gets_no_second_full_stop(built):
    told = built("aaa", build=["sh -c 'echo error: It is broken.; exit 1'"])["msg"]
    assert told.splitlines()[0].endswith("(build) failed: It is broken.")


def test_a_broken_build_says_which_command_and_its_last_lines(built, home):
    answer = built("aaa", build=["true", "sh -c 'seq 30; exit 3'"])
    first, *lines = answer["msg"].splitlines()
    assert first.endswith("touched: `sh -c 'seq 30; exit 3'` (build) failed:")
    assert lines == [str(number) for number in range(16, 31)]
    assert os.listdir(home / "releases") == []


def test_build_runs_as_its_own_user_and_writes_to_the_release_alone(built, home, deeds):
    built("aaa", packages=["a==1"])
    commands = [command for command, _uid, _gid in deeds.of("run as") if command[0] == "systemd-run"]
    assert len(commands) == 4  # version, virtualenv, installation, compilation
    for command in commands:
        assert "--property=User=emperor-build" in command
        assert "--property=TasksMax=4096" in command
        assert "--property=SupplementaryGroups=shop" in command
        assert f"--property=ReadWritePaths={home}/releases/aaa {home}/wheels" in command
    assert mode(home / "wheels") == 0o700


def test_python_of_the_module_is_not_started_to_tell_its_version(built, home, deeds):
    built("aaa", interpreter=sys.executable)
    assert (Releases(str(home)).describe("aaa") or {})["python"] == platform.python_version()
    assert not [command for command, _uid, _gid in deeds.of("run as") if "python_version" in command[-1]]


def test_build_gets_no_variable_of_roots_environment_except_proxies(built, home, monkeypatch):
    monkeypatch.setenv("TOKEN", "secret")
    monkeypatch.setenv("https_proxy", "http://proxy.example.com")
    built("aaa", packages=["a==1"])
    assert (home / "releases/aaa/venv/env").read_text().splitlines() == [
        f"HOME={home}/releases/aaa/scratch",
        f"PATH={home}/releases/aaa/venv/bin:/usr/local/bin:/usr/bin:/bin",
        "TOKEN=",
        "https_proxy=http://proxy.example.com",
    ]


@pytest.mark.parametrize("own", [True, False])
def test_source_is_compiled_by_the_user_that_builds_and_in_the_sandbox_if_by_another_python(
    own, built, home, deeds, interpreter, monkeypatch
):
    asked, call = [], as_user.call

    def noted(user, do, groups, **more):
        asked.append((user, groups, more))
        return call(user, do, groups, **more)

    monkeypatch.setattr(as_user, "call", noted)
    monkeypatch.setattr(build, "is_this", lambda path: own and path == interpreter)
    assert not built("aaa")["failed"]
    assert (home / "releases/aaa/src/__pycache__").is_dir()
    in_sandbox = [command for command, _uid, _gid in deeds.of("run as") if "compileall" in command]
    assert (len(in_sandbox), len(asked)) == ((0, 1) if own else (1, 0))
    if own:
        assert asked == [(pwd.getpwnam("emperor-build"), [os.getgid()], {"yields": True})]


def test_source_is_compiled_in_the_sandbox_if_not_otherwise(built, home, monkeypatch):
    monkeypatch.setattr(build, "is_this", lambda _path: True)
    monkeypatch.setattr(build, "compile_quietly", lambda _source: os._exit(1))
    assert not built("aaa")["failed"]
    assert (home / "releases/aaa/src/__pycache__").is_dir()


def test_source_that_does_not_compile_is_for_the_trial_start(built, home, monkeypatch, bundle):
    monkeypatch.setattr(build, "is_this", lambda _path: True)
    files = {"broken.py": "def (", "nul.py": "\0", "deep.py": "(" * 5000, "warns.py": "x = '\\d'", "good.py": "x = 1"}
    assert not built("aaa", bundle=bundle(**files))["failed"]
    compiled = {path.name.split(".")[0] for path in (home / "releases/aaa/src/__pycache__").iterdir()}
    assert compiled == {"app", "good", "warns"}


def test_finished_release_belongs_to_root_and_only_the_apps_group_reads_it(built, home, deeds):
    built("aaa", static={})
    path = home / "releases/aaa"
    last = {name: (uid, gid) for name, uid, gid in deeds.of("own")}
    assert str(path) not in last  # root has made it
    assert not [name for name in last if "scratch" in name and os.path.exists(name)]
    inside = {str(one) for tree in ("src", "venv") for one in (path / tree, *(path / tree).rglob("*"))}
    assert {last[name] for name in inside} == {(0, os.getgid())}
    assert {mode(name) for name in inside if os.path.isdir(name)} == {0o750}
    assert {mode(name) for name in inside if not os.path.isdir(name)} == {0o640, 0o750}
    assert mode(path) == 0o711


def test_only_static_files_are_readable_for_nginx(built, home):
    built("aaa")
    path = home / "releases/aaa"
    assert mode(path / "src/static") == 0o755
    assert mode(path / "src/static/app.css") == 0o644
    assert mode(path / "src") == 0o751  # may be passed through, not listed
    assert mode(path / "src/app.py") == 0o640
    assert mode(path / "venv") == 0o750


def test_source_of_a_package_is_where_it_is_installed(built, home):
    answer = built("aaa", bundle=None, packages=["shop==1"], static={"/static": "shop/static"})
    assert not answer["failed"], answer
    path = home / "releases/aaa"
    assert os.readlink(path / "src") == "venv/lib/python3.13/site-packages"
    assert mode(path / "venv/lib/python3.13/site-packages/shop/static") == 0o755
    assert mode(path / "venv/lib") == 0o751
    assert (home / "static/0/static").is_dir()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"requirements": "typo.txt"}, "typo.txt is not in the source: correct `python.requirements`."),
        ({"static": {"/static": "typo"}}, "the static directory typo is not in the source: correct `static`."),
        ({"packages": ["broken"]}, "installing broken failed:"),
        ({"interpreter": "/nowhere/python3"}, "asking /nowhere/python3 for its version failed:"),
    ],
)
def test_a_failed_build_says_why_and_leaves_nothing(arguments, sentence, built, home, current):
    built("aaa")
    current("aaa")
    before = {path: state(path) for path in home.rglob("*")}
    answer = built("bbb", **arguments)
    assert answer["failed"]
    assert re.search(r"Release bbb of \w+ could not be built, nothing that runs was touched", answer["msg"])
    assert sentence in answer["msg"]
    assert not (home / "bundle.tar.gz").exists()
    assert os.listdir(home / "releases") == ["aaa"]
    unchanged = {path: was for path, was in before.items() if path.name != "releases"}
    assert unchanged == {path: state(path) for path in unchanged}


def test_full_disk_while_unpacking_is_named_and_leaves_nothing(built, home, monkeypatch):
    def full(_archive, _path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tarfile.TarFile, "extractall", full)
    answer = built("aaa")
    assert "could not be built, nothing that runs was touched: [Errno 28] No space left on device" in answer["msg"]
    assert os.listdir(home / "releases") == []
    assert not (home / "bundle.tar.gz").exists()


def test_incomplete_release_of_a_killed_run_is_built_again(built, home):
    (home / "releases/aaa/src").mkdir(parents=True)
    (home / "releases/aaa/src/half.py").write_text("x")
    (home / "releases/aaa/release.json.new").write_text("{")
    assert built("aaa")["changed"]
    assert not (home / "releases/aaa/src/half.py").exists()
    assert sorted(os.listdir(home / "releases/aaa")) == ["release.json", "source.tar.gz", "src", "venv"]


def test_link_made_by_a_build_opens_no_other_directory(built, home, tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir(mode=0o700)
    (secret / "key").write_text("x")
    (secret / "key").chmod(0o600)
    answer = built("aaa", build=[f"sh -c 'rm -r static; ln -s {secret} static'"])
    assert "the static directory static is not in the source" in answer["msg"]
    assert (mode(secret), mode(secret / "key")) == (0o700, 0o600)


def test_release_is_built_when_the_home_directory_is_a_link(built, home, tmp_path):
    # /srv may be a link to a larger disk.
    real = tmp_path / "disk"
    home.rename(real)
    home.symlink_to(real)
    assert not built("aaa")["failed"]
    assert mode(real / "releases/aaa/src/static") == 0o755


def test_links_of_the_bundle_stay_links(built, home, bundle):
    file = bundle()
    with tarfile.open(file, "w:gz") as archive:
        for name, target in (("static", None), ("static/new", "old"), ("app.py", None)):
            info = tarfile.TarInfo(name)
            info.mode = 0o755
            if target:
                info.type, info.linkname = tarfile.SYMTYPE, target
            elif name == "static":
                info.type = tarfile.DIRTYPE
            archive.addfile(info)
    assert not built("aaa", bundle=file)["failed"]
    assert os.readlink(home / "releases/aaa/src/static/new") == "old"


def test_check_mode_builds_nothing(built, home):
    before = sorted(home.rglob("*"))
    answer = built("aaa", check=True, bundle=str(home / "not-there"))
    assert answer["changed"]
    assert sorted(home.rglob("*")) == before


def test_built_release_finds_its_data_and_no_answer_has_the_content_of_a_file(built, home):
    files = [{"at": "shared/config.py", "key": "home/config.py", "content": "hunter2"}]
    links = [{"at": "src/uploads", "data": "uploads", "optional": False, "beside": ""}]
    answer = built("aaa", files=files, persistent=links)
    assert answer["changed"]
    assert "hunter2" not in str(answer)
    assert (home / "shared/config.py").read_text() == "hunter2"
    assert (home / "releases/aaa/src/uploads").is_symlink()
    assert not built("bbb", check=True)["failed"]
    assert built("aaa", files=files, check=True)["changed"], "the set of files is not committed"


def test_build_finds_the_persistent_directories_that_the_source_lacks(built, home):
    links = [{"at": f"src/{name}", "data": name, "optional": name == "instance", "beside": ""}
             for name in ("data", "static", "instance")]  # fmt: skip
    answer = built("aaa", persistent=links, build=["cp app.py data/made", "sh -c 'test ! -e instance'"])
    assert not answer.get("failed"), answer
    assert (home / "shared/data/made").read_text() == "app = 1"
    assert (home / "releases/aaa/src/data").is_symlink()
