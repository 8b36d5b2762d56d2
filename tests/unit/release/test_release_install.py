"""The module `release`: what is installed into a release, by which means, and what is said of failures."""

import json
import os
import subprocess
import sys

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils.releases import build
from release_home import POETRY, PROJECT, calls


def test_requirements_and_packages_are_installed_with_their_options(built, home):
    built(
        "aaa", requirements="requirements.txt", require_hashes=True, packages=["a==1", "b==2"], pip_arguments=["--pre"]
    )
    assert calls(home, "aaa") == [
        "pip install --pre --require-hashes --requirements requirements.txt",
        "pip install --pre a==1 b==2",
    ]


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
            [
                "pip install --no-deps --require-hashes --requirements SCRATCH/poetry.lock.txt",
                "pip install --no-deps --editable .",
            ],
        ),
        (
            {"poetry.lock": POETRY},
            {"require_hashes": False},
            ["pip install --no-deps --requirements SCRATCH/poetry.lock.txt"],
        ),
        (
            {"Pipfile.lock": '{"default": {}}'},
            {},
            ["pip install --no-deps --requirements SCRATCH/Pipfile.lock.txt"],
        ),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_each_kind_of_lock_file_is_installed_by_its_own_command(files, options, commands, built, bundle, home):
    answer = built("aaa", bundle=bundle(**files), requirements=next(iter(files)), extras=["pdf"], **options)
    assert not answer["failed"], answer
    assert calls(home, "aaa") == [one.replace("SCRATCH", f"{home}/releases/aaa/scratch") for one in commands]


HASHED = "flask==3.1 \\\n    --hash=sha256:11\n"


@pytest.mark.parametrize(
    ("files", "wanted", "required"),
    [
        ({"requirements.txt": f"# made by a tool\n--index-url https://index.test\n{HASHED}"}, None, True),
        ({"requirements.txt": f"{HASHED}click==8\n"}, None, True),  # which is then refused, as pip does
        ({"requirements.txt": "flask==3.1  # --hash=sha256:11\n"}, None, False),
        ({"requirements.txt": HASHED}, False, False),
        ({"requirements.txt": "flask\n"}, True, True),
        ({"poetry.lock": POETRY}, None, True),
        ({"poetry.lock": POETRY.replace("hash = ", "no = ").replace("files", "#")}, None, False),
        (
            {"Pipfile.lock": '{"default": {"a": {"version": "==1"}, "b": {"version": "==1", "hashes": ["x"]}}}'},
            None,
            False,
        ),
    ],
)
def test_hashes_are_required_where_there_are_some(files, wanted, required, built, bundle, home):
    name = next(iter(files))
    answer = built("aaa", bundle=bundle(**files), requirements=name, require_hashes=wanted)
    assert not answer["failed"], answer
    assert ("--require-hashes" in " ".join(calls(home, "aaa"))) is required


def test_unusable_lock_file_is_refused_by_name(built, bundle):
    answer = built("aaa", bundle=bundle(**{"poetry.lock": "[[package]]\nname = 'a'\n"}), requirements="poetry.lock")
    assert "touched: poetry.lock does not say which packages are for development only: lock it again" in answer["msg"]


def test_password_of_an_index_is_in_no_command_line_and_no_message(built, home, deeds):
    index = "https://me:s3cret@index.test/simple"
    answer = built("aaa", packages=["broken"], pip_arguments=["--index-url", index, "--pre"])
    assert "no matching distribution at https://********@index.test/simple" in answer["msg"]
    built("bbb", packages=["a==1"], pip_arguments=[f"--index-url={index}"])
    assert (home / "releases/bbb/venv/index").read_text() == index
    assert "s3cret" not in str(deeds)
    assert "s3cret" not in json.dumps(answer)


def test_a_failed_step_shows_its_last_lines(built):
    lines = built("aaa", packages=["broken"])["msg"].splitlines()
    assert lines[-1] == "no matching distribution at"
    assert len(lines) == 1 + build.LOG_LINES


def test_failed_virtualenv_names_the_interpreter(built, interpreter, uv):
    open(uv + ".fails", "w").close()
    assert f"making a virtualenv with {interpreter} failed:\nno venv today" in built("aaa")["msg"]


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
