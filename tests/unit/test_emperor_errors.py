"""Errors that an app logs and nobody would see come to standard error, once."""

import io
import logging
from pathlib import Path

import pytest
from role_program import load

PROGRAM = Path(__file__).parents[2] / "roles/uwsgi/files/emperor_errors.py"


def show():
    module = load(PROGRAM)
    module.show()


@pytest.fixture
def errors(monkeypatch, capsys):
    """Log something as a framework does, with such handlers; return what comes to standard error."""

    def log(*handlers, root=()):
        monkeypatch.setattr(logging.root, "handlers", list(root))  # without those of pytest
        framework, request = (logging.getLogger(name) for name in ("framework", "framework.request"))
        monkeypatch.setattr(framework, "handlers", list(handlers))
        monkeypatch.setattr(request, "handlers", list(handlers[:1]))
        monkeypatch.setattr(logging.root.manager, "loggerDict", {"framework": framework, "framework.request": request})
        show()
        request.warning("no such page")
        try:
            raise LookupError("no such table")
        except LookupError:
            request.exception("Internal Server Error: /")
        return capsys.readouterr().err

    return log


class Mail(logging.Handler):
    """Sends what it gets to somebody."""

    def emit(self, record):
        pass


class Never(logging.Filter):
    def filter(self, _record):
        return False


def test_error_that_only_a_mail_would_tell_is_seen_once_with_its_traceback(errors):
    silent = logging.StreamHandler(io.StringIO())
    silent.addFilter(Never())
    told = errors(Mail(), silent)
    assert told.startswith("Internal Server Error: /\nTraceback (most recent call last):\n")
    assert told.endswith("LookupError: no such table\n")
    assert told.count("LookupError: no such table") == 1
    assert "no such page" not in told


def test_error_that_the_app_writes_itself_is_not_written_twice(errors):
    own = io.StringIO()
    assert errors(Mail(), root=[logging.StreamHandler(own)]) == ""
    assert own.getvalue().count("LookupError: no such table") == 1


@pytest.mark.parametrize("handlers", [(), (logging.NullHandler(),)])
def test_app_without_handlers_logs_as_before(errors, handlers):
    told = errors(*handlers)
    if handlers:
        assert told == ""
    else:
        assert told.startswith("no such page\nInternal Server Error: /\n")
        assert told.count("LookupError: no such table") == 1
