"""Errors that an app logs and nobody would see come to standard error, once."""

import importlib.util
import io
import logging
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "roles/uwsgi/files/emperor_errors.py"


def show():
    specification = importlib.util.spec_from_file_location("emperor_errors", PROGRAM)
    assert specification and specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    module.show()


@pytest.fixture
def root(monkeypatch):
    monkeypatch.setattr(logging.root, "handlers", [])
    return logging.root


@pytest.fixture
def errors(root, capsys):
    """Log an error as a framework does; return what comes to standard error."""

    def log(*handlers):
        root.handlers.clear()  # those of pytest; most apps have none
        show()
        logger = logging.getLogger("framework.request")
        for one in handlers:
            logger.addHandler(one)
        try:
            logger.warning("no such page")
            try:
                raise LookupError("no such table")
            except LookupError:
                logger.exception("Internal Server Error: /")
        finally:
            for one in handlers:
                logger.removeHandler(one)
        return capsys.readouterr().err

    return log


class Mail(logging.Handler):
    """Sends what it gets to somebody."""

    def emit(self, record):
        pass


class Never(logging.Filter):
    def filter(self, _record):
        return False


def test_error_that_only_a_mail_would_tell_is_seen_with_its_traceback(errors):
    silent = logging.StreamHandler(io.StringIO())
    silent.addFilter(Never())
    told = errors(Mail(), silent)
    assert told.startswith("Internal Server Error: /\nTraceback (most recent call last):\n")
    assert told.endswith("LookupError: no such table\n")
    assert "no such page" not in told


def test_error_that_the_app_writes_itself_is_not_written_twice(errors):
    own = io.StringIO()
    assert errors(logging.StreamHandler(own)) == ""
    assert own.getvalue().count("LookupError: no such table") == 1


def test_app_that_cares_for_all_its_errors_is_left_alone(root):
    root.handlers[:] = [Mail()]
    show()
    assert [type(one) for one in root.handlers] == [Mail]
