"""What the tests of `deploy_lock` share: the file, this run, and a run that holds it."""

import os
import time

import pytest
from ansible_collections.flaskops.emperor.plugins.action import deploy_lock as action
from ansible_collections.flaskops.emperor.plugins.module_utils import lock
from other_run import SINCE


@pytest.fixture
def path(tmp_path, lock_file):
    """The file, on a host where no module ran for long."""
    lock_file.touch()
    os.utime(lock_file, (1, 1))
    return tmp_path / "flask_apps.json"


@pytest.fixture
def me():
    """This very process as a run."""
    return action.this_run()


@pytest.fixture
def held_by(path):
    """Let a run hold the lock, which it last touched so many seconds ago; return its token."""

    def write(owner, idle=0.0, token="t0ken"):
        lock.write(str(path), {**owner, "token": token, "since": SINCE})
        moment = time.time() - idle
        os.utime(path, (moment, moment))
        return token

    return write


@pytest.fixture
def holder(path):
    """Who holds the lock."""
    return lambda: lock.read(str(path))
