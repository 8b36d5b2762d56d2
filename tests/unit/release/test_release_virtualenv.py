"""The module `release`: a release takes over the virtualenv of an earlier one while nothing to install has changed."""

import errno
import os
import shutil
from pathlib import Path

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils.releases import build
from release_home import POETRY, PROJECT, calls, mode, state


def test_changed_code_reuses_the_virtualenv_and_installs_nothing(built, bundle, home):
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


def test_reused_virtualenv_survives_removal_of_the_first_release(built, home):
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
def test_requirements_without_fixed_content_are_installed_every_time(line, built, bundle, home):
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
def test_virtualenv_is_reused_until_a_file_of_requirements_changes(file, text, changes, built, bundle, home):
    files = {"more.txt": "a==1", file: text}
    python = [home / f"releases/{name}/venv/bin/python" for name in ("aaa", "bbb", "ccc")]
    built("aaa", bundle=bundle(**files), requirements=file)
    built("bbb", bundle=bundle(**files, **{"app.py": "app = 2"}), requirements=file)
    assert python[1].samefile(python[0])
    built("ccc", bundle=bundle(**files | changes), requirements=file)
    assert not python[2].samefile(python[0])


def test_editable_project_is_loaded_from_its_own_release(built, bundle, home, uv):
    with open(f"{uv}.does", "w") as file:
        file.write('echo "$PWD" > "$VIRTUAL_ENV/lib/python3.13/site-packages/_shop.pth"')
    for name in ("aaa", "bbb"):
        built(name, bundle=bundle(**{"pyproject.toml": PROJECT, "app.py": name}), requirements="pyproject.toml")
        named = home / f"releases/{name}/venv/lib/python3.13/site-packages/_shop.pth"
        assert named.read_text() == f"{home}/releases/{name}/src\n"
    assert len(calls(home, "bbb")) == 1


def test_files_that_an_installation_makes_in_the_source_are_made_in_each_release(built, bundle, home, uv):
    with open(f"{uv}.does", "w") as file:
        file.write("echo compiled > shop.so; mkdir -p shop.egg-info; touch shop.egg-info/PKG-INFO")
    for name in ("aaa", "bbb"):
        built(name, bundle=bundle(**{"pyproject.toml": PROJECT}), requirements="pyproject.toml")
        assert (home / f"releases/{name}/src/shop.so").exists()


def test_package_release_gets_its_own_virtualenv_each_time(built, home):
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


def test_cache_is_trimmed_after_an_installation_when_it_is_too_large(built, bundle, home, uv, monkeypatch):
    monkeypatch.setattr(build, "CACHE_LIMIT", 1000)
    large = home / "wheels/large"
    Path(f"{uv}.does").write_text(
        f'case "$*" in pip*) dd if=/dev/zero of={large} bs=2000 count=1 2>/dev/null ;; esac\n'
    )
    built("aaa", requirements="requirements.txt")
    assert calls(home, "aaa")[-2:] == ["cache prune --ci", "cache clean"]
    built("bbb", bundle=bundle(**{"app.py": "app = 2"}), requirements="requirements.txt")
    assert calls(home, "bbb") == calls(home, "aaa")  # nothing was installed
    large.unlink()
    Path(f"{uv}.does").write_text('case "$*" in cache*) exit 1 ;; esac\n')
    built("ccc", requirements="requirements.txt", packages=["more"])
    assert not any(call.startswith("cache") for call in calls(home, "ccc"))
    large.write_text("x" * 2000)
    assert not built("ddd", requirements="requirements.txt", packages=["others"])["failed"]
