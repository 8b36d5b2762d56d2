"""The module `release`: building touches nothing that runs, killed runs heal, and old pages find their assets."""

import base64
import errno
import io
import itertools
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import links
from ansible_collections.flaskops.emperor.plugins.module_utils.releases import build, observation, static_links
from ansible_collections.flaskops.emperor.plugins.module_utils.releases.registry import Releases
from ansible_collections.flaskops.emperor.plugins.modules import release
from hypothesis import given, settings
from hypothesis import strategies as st

# Tells a version, which may change.
INTERPRETER = 'echo "$(cat "$0.version" 2>/dev/null || echo 3.13.5)"'

# Makes a virtualenv, and writes down how and where it was called; fails on demand.
UV = """
case "$1" in
  venv)
    test -e "$0.fails" && { echo "no venv today"; exit 1; }
    for last; do :; done
    mkdir -p "$last/bin" "$last/lib/python3.13/site-packages/shop/static"
    echo "command = uv venv $last" > "$last/pyvenv.cfg"
    cat > "$last/bin/python" <<'PYTHON'
#!/bin/sh
case "$*" in
  *purelib*) echo "$(cd "$(dirname "$0")/.." && pwd)/lib/python3.13/site-packages" ;;
  *compileall*) mkdir "$4/__pycache__" ;;
esac
PYTHON
    chmod +x "$last/bin/python" ;;
  *)
    printf '%s\\n' "$*" >> "$VIRTUAL_ENV/calls"
    printf '%s=%s\\n' HOME "$HOME" PATH "$PATH" TOKEN "$TOKEN" https_proxy "$https_proxy" > "$VIRTUAL_ENV/env"
    printf '%s' "$UV_DEFAULT_INDEX" > "$VIRTUAL_ENV/index"
    test ! -e "$0.does" || . "$0.does"
    case "$*" in *broken*) seq 60; echo "no matching distribution at $UV_DEFAULT_INDEX"; exit 1 ;; esac ;;
esac
"""

# Runs a command as systemd would, except that it is confined to nothing.
SYSTEMD_RUN = """
while [ "$1" != -- ]; do
  case "$1" in
    --working-directory=*) directory=${1#*=} ;;
    --property=EnvironmentFile=*) file=${1#--property=EnvironmentFile=} ;;
  esac
  shift
done
shift
cd "$directory" && exec env -i sh -c 'set -a && . "$0" && exec "$@"' "$file" "$@"
"""


@pytest.fixture
def home(tmp_path):
    """The directory of an app, as the role makes it."""
    root = tmp_path / "home"
    for name in ("releases", "static", "shared"):
        (root / name).mkdir(parents=True)
    return root


@pytest.fixture
def interpreter(program):
    return program("python-of-the-host", INTERPRETER)


@pytest.fixture
def uv(program):
    program("systemd-run", SYSTEMD_RUN)
    program("systemctl", "")
    return program("uv", UV)


@pytest.fixture
def bundle(home):
    """Bring a source to the host."""

    def make(**files):
        file = home / "bundle.tar.gz"
        with tarfile.open(file, "w:gz") as archive:
            for name, text in {"app.py": "app = 1", "static/app.css": "b {}", "requirements.txt": "", **files}.items():
                info = tarfile.TarInfo(name)
                info.size, info.mtime, info.mode = len(text), 1_100_000_000, 0o644
                archive.addfile(info, io.BytesIO(text.encode()))
        return str(file)

    return make


@pytest.fixture
def built(run_module, home, interpreter, uv, bundle, deeds):
    """Build a release through the module."""

    def make(name, **more):
        if "bundle" not in more:
            more["bundle"] = bundle()
        arguments = {
            "user": "shop",
            "interpreter": interpreter,
            "installer": uv,
            "static": {"/static": "static"},
            **more,
        }
        return run_module(release, home=str(home), state="built", id=name, **arguments)

    return make


@pytest.fixture
def current(run_module, home):
    def activate(name, **more):
        return run_module(release, home=str(home), state="current", id=name, **more)

    return activate


def observe(home, wanted, static=None, keep=5):
    return observation.observe(str(home), wanted, {"/static": "static"} if static is None else static, keep)


def known(home, name, **facts):
    """A complete release, without building it; `created` is its name's place in the alphabet unless given."""
    (home / "releases" / name / "src/static").mkdir(parents=True)
    (home / "releases" / name / "src/static" / f"{name}.css").write_text(name)
    Releases(str(home)).record(
        name, id=name, **{"created": float(ord(name[0])), "label": "", "python": "3.13.5", **facts}
    )


def state(path):
    """What a reader sees of a path; one more link to a file is no change of it."""
    found = os.lstat(path)
    return found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode


def mode(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


# --- building


def test_a_built_release_is_complete_and_nothing_that_runs_was_touched(built, home):
    answer = built("aaa", requirements="requirements.txt", packages=["pyuwsgi==1"], label="v1")
    assert answer["changed"]
    assert (answer["current"], answer["previous"]) == ("", "")
    assert answer["releases"] == [{**(Releases(str(home)).describe("aaa") or {}), "size": {}}]
    assert answer["releases"][0].items() >= {"id": "aaa", "label": "v1", "python": "3.13.5"}.items()
    assert (home / "releases/aaa/src/app.py").read_text() == "app = 1"
    assert not (home / "current").exists()
    assert not (home / "bundle.tar.gz").exists()
    assert sorted(os.listdir(home / "releases/aaa")) == ["release.json", "src", "venv"]


def test_a_release_has_the_size_that_was_measured(built, home):
    built("aaa")
    file = home / "releases/aaa/size.json"
    for text, size in (
        ('{"digest": "x", "size": {"total": 9, "private": 2, "rss": 8}}', {"total": 9, "private": 2, "rss": 8}),
        ('{"digest": "x", "size": null}', {}),
        ('{"dig', {}),
    ):
        file.write_text(text)
        assert observe(home, "aaa")["releases"][0]["size"] == size


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


def test_the_times_of_the_bundle_are_kept(built, home):
    built("aaa")
    assert (home / "releases/aaa/src/static/app.css").stat().st_mtime == 1_100_000_000


def test_staging_again_changes_nothing(built, home):
    built("aaa")
    before = {
        path: os.lstat(path).st_ctime_ns for path in home.rglob("*") if path.name not in ("bundle.tar.gz", "home")
    }
    assert not built("aaa")["changed"]
    assert before == {path: os.lstat(path).st_ctime_ns for path in before}


def calls(home, name):
    """How uv was called for the virtualenv of a release, and for those it was taken over from."""
    file = home / "releases" / name / "venv/calls"
    return file.read_text().splitlines() if file.exists() else []


def test_requirements_and_packages_are_installed_as_asked(built, home):
    built(
        "aaa", requirements="requirements.txt", require_hashes=True, packages=["a==1", "b==2"], pip_arguments=["--pre"]
    )
    assert calls(home, "aaa") == [
        "pip install --pre --require-hashes --requirements requirements.txt",
        "pip install --pre a==1 b==2",
    ]


PROJECT = "[project]\nname = 'shop'\n[build-system]\n"
POETRY = """
[[package]]
name = "flask"
version = "3.1"
groups = ["main"]
files = [{file = "flask.whl", hash = "sha256:11"}]
[extras]
"""


@pytest.mark.parametrize(
    ("files", "options", "commands"),
    [
        ({"uv.lock": ""}, {"groups": ["x"]}, ["sync --frozen --no-default-groups --extra=pdf --group=x"]),
        ({"pylock.toml": ""}, {}, ["pip install --extra=pdf --requirements pylock.toml"]),
        ({"pyproject.toml": PROJECT}, {"groups": ["x"]}, ["pip install --group=x --editable .[pdf]"]),
        ({"pyproject.toml": "[project]\n"}, {}, ["pip install --extra=pdf --requirements pyproject.toml"]),
        ({"setup.py": ""}, {}, ["pip install --editable .[pdf]"]),
        (
            {"poetry.lock": POETRY, "pyproject.toml": PROJECT},
            {},
            ["pip install --no-deps --requirements SCRATCH/poetry.lock.txt", "pip install --no-deps --editable ."],
        ),
        ({"poetry.lock": POETRY}, {}, ["pip install --no-deps --requirements SCRATCH/poetry.lock.txt"]),
        (
            {"Pipfile.lock": '{"default": {}}'},
            {},
            ["pip install --no-deps --requirements SCRATCH/Pipfile.lock.txt"],
        ),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_each_kind_of_file_is_installed_by_its_own_means(files, options, commands, built, bundle, home):
    answer = built("aaa", bundle=bundle(**files), requirements=next(iter(files)), extras=["pdf"], **options)
    assert not answer["failed"], answer
    assert calls(home, "aaa") == [one.replace("SCRATCH", f"{home}/releases/aaa/scratch") for one in commands]


def test_a_lock_that_cannot_be_used_is_named(built, bundle):
    answer = built("aaa", bundle=bundle(**{"poetry.lock": "[[package]]\nname = 'a'\n"}), requirements="poetry.lock")
    assert "touched: poetry.lock does not say which packages are for development only: lock it anew" in answer["msg"]


def test_the_password_of_an_index_is_in_no_list_of_processes_and_no_message(built, home, deeds):
    index = "https://me:s3cret@index.test/simple"
    answer = built("aaa", packages=["broken"], pip_arguments=["--index-url", index, "--pre"])
    assert "no matching distribution at https://********@index.test/simple" in answer["msg"]
    built("bbb", packages=["a==1"], pip_arguments=[f"--index-url={index}"])
    assert (home / "releases/bbb/venv/index").read_text() == index
    assert "s3cret" not in str(deeds)
    assert "s3cret" not in json.dumps(answer)


def test_a_build_runs_in_the_source_and_may_make_the_static_files(built, home):
    command = "sh -c 'mkdir made && echo $PWD > made/where && echo $VIRTUAL_ENV > made/venv'"
    answer = built("aaa", build=[command], static={"/static": "made"})
    assert not answer["failed"], answer
    path = home / "releases/aaa"
    assert (path / "src/made/where").read_text() == f"{path}/src\n"
    assert (path / "src/made/venv").read_text() == f"{path}/venv\n"
    assert mode(path / "src/made/where") == 0o644


def test_a_broken_build_says_which_command_and_its_last_lines(built, home):
    answer = built("aaa", build=["true", "sh -c 'seq 30; exit 3'"])
    first, *lines = answer["msg"].splitlines()
    assert first.endswith("touched: `sh -c 'seq 30; exit 3'` (build) failed:")
    assert lines == [str(number) for number in range(16, 31)]
    assert os.listdir(home / "releases") == []


def test_the_build_runs_as_a_user_of_its_own_and_may_change_the_release_alone(built, home, deeds):
    built("aaa", packages=["a==1"])
    commands = [command for command, _uid, _gid in deeds.of("run as") if command[0] == "systemd-run"]
    assert len(commands) == 4  # version, virtualenv, installation, compilation
    for command in commands:
        assert "--property=User=emperor-build" in command
        assert "--property=SupplementaryGroups=shop" in command
        assert f"--property=ReadWritePaths={home}/releases/aaa {home}/wheels" in command
    assert mode(home / "wheels") == 0o700


def test_builds_get_no_secret_of_roots_environment(built, home, monkeypatch):
    monkeypatch.setenv("TOKEN", "secret")
    monkeypatch.setenv("https_proxy", "http://proxy.example.com")
    built("aaa", packages=["a==1"])
    assert (home / "releases/aaa/venv/env").read_text().splitlines() == [
        f"HOME={home}/releases/aaa/scratch",
        f"PATH={home}/releases/aaa/venv/bin:/usr/local/bin:/usr/bin:/bin",
        "TOKEN=",
        "https_proxy=http://proxy.example.com",
    ]


def test_the_finished_release_is_roots_and_readable_for_the_apps_group_alone(built, home, deeds):
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


def test_the_static_files_alone_are_open_to_nginx(built, home):
    built("aaa")
    path = home / "releases/aaa"
    assert mode(path / "src/static") == 0o755
    assert mode(path / "src/static/app.css") == 0o644
    assert mode(path / "src") == 0o751  # may be passed through, not listed
    assert mode(path / "src/app.py") == 0o640
    assert mode(path / "venv") == 0o750


def test_a_package_is_its_own_source(built, home):
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
    assert "Release bbb could not be built, nothing that runs was touched" in answer["msg"]
    assert sentence in answer["msg"]
    assert not (home / "bundle.tar.gz").exists()
    assert os.listdir(home / "releases") == ["aaa"]
    unchanged = {path: was for path, was in before.items() if path.name != "releases"}
    assert unchanged == {path: state(path) for path in unchanged}


def test_a_disk_that_is_full_while_the_source_is_unpacked_is_told(built, home, monkeypatch):
    def full(_archive, _path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tarfile.TarFile, "extractall", full)
    answer = built("aaa")
    assert "could not be built, nothing that runs was touched: [Errno 28] No space left on device" in answer["msg"]
    assert os.listdir(home / "releases") == []
    assert not (home / "bundle.tar.gz").exists()


def test_a_failed_step_shows_its_last_lines(built):
    lines = built("aaa", packages=["broken"])["msg"].splitlines()
    assert lines[-1] == "no matching distribution at"
    assert len(lines) == 1 + build.LOG_LINES


# --- the virtualenv of an earlier release


def test_changed_code_takes_over_the_virtualenv_and_installs_nothing(built, bundle, home):
    requirements = {"requirements": "requirements.txt", "packages": ["pyuwsgi==2"]}
    built("aaa", bundle=bundle(**{"requirements.txt": "flask==3.1"}), **requirements)
    assert len(calls(home, "aaa")) == 2
    tool = home / "releases/aaa/venv/bin/tool"
    tool.write_text(f"#!{home}/releases/aaa/venv/bin/python\n")
    tool.chmod(0o750)
    built("bbb", bundle=bundle(**{"app.py": "app = 2", "requirements.txt": "flask==3.1"}), **requirements)
    assert len(calls(home, "bbb")) == 2
    first, second = home / "releases/aaa/venv", home / "releases/bbb/venv"
    assert (second / "calls").samefile(first / "calls")
    assert (second / "bin/tool").read_text() == f"#!{second}/bin/python\n"
    assert tool.read_text() == f"#!{first}/bin/python\n"
    assert str(second) in (second / "pyvenv.cfg").read_text()
    assert str(first) in (first / "pyvenv.cfg").read_text()
    assert mode(second / "bin/tool") == 0o750
    assert (home / "releases/bbb/src/app.py").read_text() == "app = 2"


def test_virtualenv_that_was_taken_over_survives_the_other_one(built, home):
    built("aaa")
    built("bbb")
    before = {path: state(path)[1:] for path in (home / "releases/bbb").rglob("*") if path.is_file()}
    shutil.rmtree(home / "releases/aaa")
    assert {path: state(path)[1:] for path in before} == before


@pytest.mark.parametrize(
    "changes",
    [
        {"text": "flask==3.2"},
        {"packages": ["pyuwsgi==3"]},
        {"pip_arguments": ["--pre"]},
        {"require_hashes": True},
    ],
)
def test_changed_packages_are_installed(changes, built, bundle, home):
    settings = {"requirements": "requirements.txt", "packages": ["pyuwsgi==2"]}
    built("aaa", bundle=bundle(**{"requirements.txt": "flask==3.1"}), **settings)
    settings |= {"bundle": bundle(**{"requirements.txt": changes.pop("text", "flask==3.1")})}
    built("bbb", **settings | changes)
    assert not (home / "releases/bbb/venv/bin/python").samefile(home / "releases/aaa/venv/bin/python")
    assert len(calls(home, "bbb")) == 2


def test_newer_python_makes_a_new_virtualenv(built, home, interpreter):
    built("aaa")
    with open(interpreter + ".version", "w") as file:
        file.write("3.13.6")
    built("bbb")
    assert not (home / "releases/bbb/venv/bin/python").samefile(home / "releases/aaa/venv/bin/python")


@pytest.mark.parametrize(
    "line", ["./local", "/srv/wheels/a.whl", "a @ git+https://x.test/a@main", "a @ https://x.test/a.zip", "-e ./b",
             "../a", "-r /etc/hosts", "-r gone.txt"]
)  # fmt: skip
def test_requirements_that_may_change_by_themselves_are_installed_anew(line, built, bundle, home):
    for name in ("aaa", "bbb"):
        built(name, bundle=bundle(**{"requirements.txt": f"flask==3.1\n{line}\n"}), requirements="requirements.txt")
    assert not (home / "releases/bbb/venv/bin/python").samefile(home / "releases/aaa/venv/bin/python")


@pytest.mark.parametrize(
    ("file", "text", "changes"),
    [
        ("requirements.txt", "flask==3.1 # via -r x @ y\n-r more.txt\n", {"more.txt": "a==2"}),
        ("requirements.txt", "a==1 \\\n --hash=sha256:00\n-c more.txt\n", {"more.txt": "a==2"}),
        ("requirements.txt", "--index-url https://x.test\n-e .\n", {"pyproject.toml": "[project]"}),
        ("requirements.txt", f"a @ git+https://x.test/a@{'0' * 40}\n", {"requirements.txt": "a==1"}),
        ("uv.lock", "a", {"uv.lock": "b"}),
        ("pylock.toml", "a", {"pylock.toml": "b"}),
        ("poetry.lock", POETRY, {"poetry.lock": POETRY.replace("3.1", "3.2")}),
        ("Pipfile.lock", '{"default": {}}', {"Pipfile.lock": '{"default": {} }'}),
        ("pyproject.toml", PROJECT, {"pyproject.toml": PROJECT + "# other\n"}),
        ("setup.py", "", {"setup.cfg": "[metadata]"}),
    ],
)
def test_a_dependency_set_costs_nothing_until_it_changes(file, text, changes, built, bundle, home):
    files = {"more.txt": "a==1", file: text}
    python = [home / f"releases/{name}/venv/bin/python" for name in ("aaa", "bbb", "ccc")]
    built("aaa", bundle=bundle(**files), requirements=file)
    built("bbb", bundle=bundle(**files, **{"app.py": "app = 2"}), requirements=file)
    assert python[1].samefile(python[0])
    built("ccc", bundle=bundle(**files | changes), requirements=file)
    assert not python[2].samefile(python[0])


def test_a_project_that_is_used_from_its_source_is_used_from_that_of_its_own_release(built, bundle, home, uv):
    with open(f"{uv}.does", "w") as file:
        file.write('echo "$PWD" > "$VIRTUAL_ENV/lib/python3.13/site-packages/_shop.pth"')
    for name in ("aaa", "bbb"):
        built(name, bundle=bundle(**{"pyproject.toml": PROJECT, "app.py": name}), requirements="pyproject.toml")
        named = home / f"releases/{name}/venv/lib/python3.13/site-packages/_shop.pth"
        assert named.read_text() == f"{home}/releases/{name}/src\n"
    assert len(calls(home, "bbb")) == 1


def test_what_an_installation_leaves_in_the_source_is_made_in_each_release(built, bundle, home, uv):
    with open(f"{uv}.does", "w") as file:
        file.write("echo compiled > shop.so; mkdir -p shop.egg-info; touch shop.egg-info/PKG-INFO")
    for name in ("aaa", "bbb"):
        built(name, bundle=bundle(**{"pyproject.toml": PROJECT}), requirements="pyproject.toml")
        assert (home / f"releases/{name}/src/shop.so").exists()


def test_package_brings_its_own_virtualenv_each_time(built, home):
    for name in ("aaa", "bbb"):
        built(name, bundle=None, packages=["shop==1"], static={})
    assert not (home / "releases/bbb/venv/bin/python").samefile(home / "releases/aaa/venv/bin/python")


def test_files_are_copied_where_they_cannot_be_linked(built, home, monkeypatch):
    def refuse(*_arguments, **_more):
        raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))

    built("aaa")
    monkeypatch.setattr(os, "link", refuse)
    assert not built("bbb")["failed"]
    first, second = home / "releases/aaa/venv/bin/python", home / "releases/bbb/venv/bin/python"
    assert second.read_text() == first.read_text()
    assert not second.samefile(first)


def test_a_failed_virtualenv_is_named(built, interpreter, uv):
    open(uv + ".fails", "w").close()
    assert f"making a virtualenv with {interpreter} failed:\nno venv today" in built("aaa")["msg"]


def test_what_a_killed_run_left_is_made_anew(built, home):
    (home / "releases/aaa/src").mkdir(parents=True)
    (home / "releases/aaa/src/half.py").write_text("x")
    (home / "releases/aaa/release.json.new").write_text("{")
    assert built("aaa")["changed"]
    assert not (home / "releases/aaa/src/half.py").exists()
    assert sorted(os.listdir(home / "releases/aaa")) == ["release.json", "src", "venv"]


def test_a_description_cut_off_by_a_crash_counts_as_none(home):
    known(home, "a")
    (home / "releases/a/release.json").write_text('{"id": "a", "cre')
    assert Releases(str(home)).all() == []
    assert Releases(str(home)).incomplete() == ["a"]


def test_a_build_cannot_make_root_open_other_directories(built, home, tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir(mode=0o700)
    (secret / "key").write_text("x")
    (secret / "key").chmod(0o600)
    answer = built("aaa", build=[f"sh -c 'rm -r static; ln -s {secret} static'"])
    assert "the static directory static is not in the source" in answer["msg"]
    assert (mode(secret), mode(secret / "key")) == (0o700, 0o600)


def test_apps_may_live_behind_a_link(built, home, tmp_path):
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


def test_a_real_virtualenv_works(built, home):
    uv = os.path.join(os.path.dirname(sys.executable), "uv")
    for name in ("aaa", "bbb"):
        answer = built(name, interpreter=sys.executable, installer=uv, static={})
        assert not answer["failed"], answer
        assert answer["releases"][0]["python"] == ".".join(map(str, sys.version_info[:3]))
        assert (home / f"releases/{name}/src/__pycache__").is_dir()
        python = home / f"releases/{name}/venv/bin/python"
        prefix = subprocess.check_output([python, "-c", "import sys; print(sys.prefix)"], text=True).strip()
        assert prefix == str(python.parent.parent)


# --- which release runs, which one to return to, which ones to remove


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


# --- check mode


def test_check_mode_builds_nothing(built, home):
    before = sorted(home.rglob("*"))
    answer = built("aaa", check=True, bundle=str(home / "not-there"))
    assert answer["changed"]
    assert sorted(home.rglob("*")) == before


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


# --- static files


class Nginx:
    """Looks for a file as the site's try_files does: below static/0, static/1, ... static/KEEP."""

    def __init__(self, home, keep):
        self.home, self.keep = home, keep

    def finds(self, name):
        """Whether the asset of a release is found; every release has one of its own."""
        slots = (self.home / "static" / str(slot) for slot in range(self.keep + 1))
        return any((slot / "static" / f"{name}.css").is_file() for slot in slots)


def test_a_page_of_an_old_release_finds_its_assets_and_of_a_removed_one_does_not(built, current, home):
    nginx = Nginx(home, 2)
    for name in "abc":
        known(home, name)
        static_links.publish(Releases(str(home)), Releases(str(home)).current(), {"/static": "static"}, name)
        assert nginx.finds(name)
        current(name, keep=2)
    assert [nginx.finds(name) for name in "abc"] == [False, True, True]
    assert sorted(name for name in os.listdir(home / "static") if not name.isdigit()) == ["b", "c"]
    assert {os.readlink(home / "static/0")} == {"c"}


def test_failed_deploys_do_not_push_the_assets_of_good_releases_out_of_sight(home):
    known(home, "a", activated=1.0)
    for name in "bcd":
        known(home, name, failed=True)
    assert Releases(str(home)).slots("", "e") == ["e", "a", "d", "c", "b"]


def test_static_prefixes_may_be_nested(home):
    known(home, "a")
    static_links.publish(Releases(str(home)), "", {"/assets/v1": "static"}, "a")
    assert (home / "static/0/assets/v1/a.css").read_text() == "a"


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


def replaced(path, target):
    os.unlink(path)
    os.symlink(target, path)


@pytest.mark.parametrize(
    "change",
    [
        lambda root: os.unlink(root / "0"),
        lambda root: replaced(root / "0", "b"),
        lambda root: os.symlink("a", root / "7"),
        lambda root: os.symlink("a", root / "0.new"),
        lambda root: (root / "gone").mkdir(),
        lambda root: os.unlink(root / "c/static"),
        lambda root: replaced(root / "c/static", "/etc"),
    ],
)
def test_static_links_that_were_changed_are_seen_and_made_right(change, built, current, home):
    for name in "abc":
        built(name)
        current(name)
    assert observe(home, "c")["static_right"]
    change(home / "static")
    assert not observe(home, "c")["static_right"]
    assert static_links.publish(Releases(str(home)), "c", {"/static": "static"}, "c")
    assert observe(home, "c")["static_right"]


# Deploys of a new release, returns to the release before, and deploys that fail, in any order.
STORIES = st.lists(st.sampled_from(["deploy", "rollback", "fail"]), min_size=2, max_size=9)


def test_whatever_moves_where_no_link_is_the_only_one_of_its_release_when_it_changes(tmp_path, monkeypatch):
    real = links.link
    ways = [way for length in (1, 2, 3) for way in itertools.permutations("abcd", length)]
    for before, after in itertools.product(ways, ways):
        for number, name in enumerate([*before, before[0]]):
            real(name, str(tmp_path / str(number)))
        stays = set(before) & set(after)

        def link(name, path, stays=stays, story=(before, after)):
            real(name, path)
            assert stays <= {os.readlink(one) for one in tmp_path.iterdir()}, story

        monkeypatch.setattr(static_links, "link", link)
        assert static_links.arrange(str(tmp_path), [*after, after[0]]) == (before != after)
        assert [os.readlink(tmp_path / str(number)) for number in range(len(after) + 1)] == [*after, after[0]]
        for one in tmp_path.iterdir():
            one.unlink()


@settings(max_examples=60, derandomize=True)
@given(story=STORIES, keep=st.integers(1, 4))
def test_at_every_moment_the_assets_of_every_release_that_ran_and_stays_are_found(tmp_path_factory, story, keep):
    home = tmp_path_factory.mktemp("home")
    for name in ("releases", "static"):
        (home / name).mkdir()
    releases, nginx = Releases(str(home)), Nginx(home, keep)
    names = iter("abcdefghijk")

    def look(watched):
        lost = [name for name in watched if not nginx.finds(name)]
        assert not lost, f"{lost} of {watched}: {[os.readlink(one) for one in sorted((home / 'static').glob('[0-9]'))]}"

    def publish(watched, *arguments):
        """Publish, and look after every single change."""
        with pytest.MonkeyPatch.context() as patch:
            for function in ("replace", "unlink"):
                real = getattr(os, function)
                patch.setattr(os, function, lambda *a, real=real, **o: (real(*a, **o), look(watched)))
            static_links.publish(releases, *arguments)

    def ran():
        return [one["id"] for one in releases.all() if one.get("activated")]

    def activate(name, reject=()):
        release.activate(releases, {"id": name, "fail_others": reject})
        for old in releases.superfluous(name, keep):
            shutil.rmtree(releases.path(old))
        publish(ran(), name)

    for step, what in enumerate(story):
        if what == "rollback":
            if releases.previous():
                activate(releases.previous(), [releases.current()])
            continue
        name = next(names)
        known(home, name, created=float(step))
        publish(ran(), releases.current(), {"/static": "static"}, name)
        look([*ran(), name])  # it answers before it is made the current one
        if what == "fail":
            releases.record(name, failed=True)
        else:
            activate(name)
