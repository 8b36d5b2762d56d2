"""A tool in a virtualenv: installed once, and the password of an index where root alone can read it."""

import json

import pytest
from ansible_collections.flaskops.emperor.plugins.modules import tool_virtualenv

# Stands for pip: notes its arguments and environment, and makes what it installs.
PIP = """#!/bin/sh
printf '%s\\n' "$@" > "{root}/arguments"
env > "{root}/environment"
[ -z "$FAIL" ] || {{ echo "no such package at $PIP_INDEX_URL" >&2; exit 1; }}
mkdir -p "{root}/venv/lib/python3.11/site-packages/uv-1.2.dist-info"
"""
SECRET = "https://robot:s3cr3t-word@index.test/simple"


@pytest.fixture
def interpreter(tmp_path):
    """Stands for Python: makes a virtualenv that has only pip."""
    pip = tmp_path / "pip"
    pip.write_text(PIP.format(root=tmp_path))
    pip.chmod(0o755)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\ntest "$1 $2" = "-m venv" && mkdir -p "$3/bin" && cp {pip} "$3/bin/pip"\n')
    python.chmod(0o755)
    return str(python)


@pytest.fixture
def install(tmp_path, interpreter, run_module):
    def run(*arguments, **more):
        return run_module(
            tool_virtualenv, path=str(tmp_path / "venv"), package="uv==1.2", interpreter=interpreter,
            arguments=list(arguments), **more,
        )  # fmt: skip

    return run


def test_it_is_installed_once(install, tmp_path):
    assert install(check=True)["changed"] is True
    assert not (tmp_path / "venv").exists()
    assert install()["changed"] is True
    (tmp_path / "arguments").unlink()
    assert install()["changed"] is False
    assert install(check=True)["changed"] is False
    assert not (tmp_path / "arguments").exists()


@pytest.mark.parametrize("given", [["--index-url", SECRET], [f"--extra-index-url={SECRET}"], ["-i", SECRET]])
def test_the_password_of_an_index_is_no_argument_and_in_no_output(install, given, tmp_path):
    answer = install("--no-cache-dir", *given)
    arguments = (tmp_path / "arguments").read_text().split()
    assert arguments == ["install", "--quiet", "--disable-pip-version-check", "uv==1.2", "--no-cache-dir"]
    assert f"INDEX_URL={SECRET}" in (tmp_path / "environment").read_text()
    assert "s3cr3t" not in json.dumps(answer)


def test_a_failure_is_told_without_the_password(install, monkeypatch):
    monkeypatch.setenv("FAIL", "1")
    answer = install("--index-url", SECRET)
    assert answer["failed"] is True
    assert "uv==1.2 cannot be installed into" in answer["msg"]
    assert "no such package at" in answer["msg"]
    assert "s3cr3t" not in json.dumps(answer)
