"""The checks that an app names: run on the host, as doctor.yml asks for them."""

import stat

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils.checkup import checks


@pytest.fixture
def program(tmp_path):
    """In place of emperor-run: runs the command as it is."""
    path = tmp_path / "emperor-run"
    path.write_text('#!/bin/sh\ntest "$1" = shop || exit 9\nshift\nexec "$@"\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_check_that_ends_well_is_not_named(program):
    assert checks.failed("shop", ["true", "sh -c 'exit 0'"], {}, program) == []


def test_check_that_fails_is_named_with_its_last_line_without_secrets(program):
    command = "sh -c 'echo first; echo no route to db:hunter22; echo; exit 3'"
    environment = {"DATABASE_PASSWORD": "hunter22"}
    (found,) = checks.failed("shop", ["true", command], environment, program)
    assert found["command"] == command
    assert found["why"].startswith("no route to db:")
    assert "hunter22" not in found["why"]


def test_check_that_takes_too_long_is_ended_and_named(program, monkeypatch):
    monkeypatch.setattr(checks, "SECONDS", 1)
    (found,) = checks.failed("shop", ["sleep 30"], {}, program)
    assert found["why"] == "it took more than 1 s; it said nothing"


def test_check_without_the_program_is_named(tmp_path):
    assert checks.failed("shop", ["true"], {}, str(tmp_path / "none"))[0]["why"].startswith("[Errno 2]")
