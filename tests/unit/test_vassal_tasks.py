"""An app that may start no more processes is told so, with the setting and the number of those it has."""

import os
import pwd
import threading

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal import tasks
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.config import Config

NAME = pwd.getpwuid(os.geteuid()).pw_name
LIMITED = Config({"tasks": "64"}, ())


@pytest.mark.parametrize(
    "log",
    [
        "spawned uWSGI master process (pid: 7)\nfork(): Resource temporarily unavailable [core/master_utils.c line 7]",
        "RuntimeError: can't start new thread",
        "    self.pid = _fork_exec(\n               ~~~~~~~~~~^\n"
        "BlockingIOError: [Errno 11] Resource temporarily unavailable",
        "    self.pid = os.fork()\n               ~~~~~~~^^\n"
        "BlockingIOError: [Errno 11] Resource temporarily unavailable",
    ],
)
def test_refusal_of_the_kernel_names_the_setting_and_what_there_is(log):
    said = tasks.refused(NAME, LIMITED, log)
    assert said.startswith("it may not start another process or thread: max_tasks is 64, and its user has ")
    assert f"Set flask_apps[{NAME}].max_tasks higher" in said


def test_other_failures_and_apps_without_a_limit_are_not_explained_so():
    assert tasks.refused(NAME, LIMITED, "ModuleNotFoundError: No module named 'x'") == ""
    locked = "    fcntl.flock(file, mode)\nBlockingIOError: [Errno 11] Resource temporarily unavailable"
    assert tasks.refused(NAME, LIMITED, locked) == ""
    assert tasks.refused(NAME, Config({}, ()), "can't start new thread") == ""


def test_threads_count_as_the_kernel_counts_them():
    before, end = tasks.count(os.geteuid()), threading.Event()
    threads = [threading.Thread(target=end.wait) for _number in range(100)]
    for thread in threads:
        thread.start()
    grown = tasks.count(os.geteuid()) - before
    end.set()
    for thread in threads:
        thread.join()
    assert 50 < grown < 150  # others of this user come and go
