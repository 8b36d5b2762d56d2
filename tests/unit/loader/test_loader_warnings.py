"""The loader finds modules below the source, and warns of what does not survive the fork of the workers."""

import json

import pytest

THREAD = """
import threading, time
threading.Thread(target=threading.Event().wait, name="scheduler", daemon=True).start()
def create_app(): return "the app"
"""


def test_thread_started_by_the_import_is_named_with_both_cures(once):
    _found, log = once(THREAD)
    assert log.startswith("emperor: threads that start while the app is imported (scheduler) do not run in its workers")
    for word in ("workers.lazy_apps", "postfork", "workers.import_threads"):
        assert word in log


@pytest.mark.parametrize("options", [{"emperor-import-threads": "true"}, {"lazy-apps": "true"}])
def test_intended_and_running_threads_are_not_named(options, once):
    assert once(THREAD, options=options)[1] == ""


OPENED = """
data = open(__file__, "r+")
log = open(__file__ + ".log", "a")
def create_app(): return "the app"
"""


CONNECTED = """
import socket
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
pair = socket.socketpair()
print(server.getsockname()[1], file=__import__("sys").stderr)
def create_app(): return "the app"
"""


def test_connection_that_the_import_keeps_open_is_named(once):
    port, log = once(CONNECTED)[1].split("\n", 1)
    assert f"keeps open (127.0.0.1:{port}) are shared by its workers" in log


def test_file_that_the_import_keeps_open_is_named_with_all_cures(once):
    _found, log = once(OPENED)
    assert log.startswith("emperor: files and connections that the app opens while it is imported and keeps open (")
    assert "shop.py) are shared by its workers" in log
    for word in ("workers.lazy_apps", "workers.processes to 1", "workers.import_threads"):
        assert word in log


@pytest.mark.parametrize(
    "options", [{"emperor-alone": "true"}, {"emperor-import-threads": "true"}, {"lazy-apps": "true"}]
)
def test_open_files_of_one_worker_are_not_named(options, once):
    assert once(OPENED, options=options)[1] == ""


@pytest.fixture
def inner(home):
    """A project whose modules are in a directory of the source, of the name of its package."""
    for name in ("r1", "r2"):
        package = home / f"releases/{name}/src/inner/inner"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "wsgi.py").write_text(f"def make(): return 'inner of {name}'\n")
    return "inner.wsgi:make()"


def test_module_in_a_directory_of_the_source_is_found_by_a_relative_search_path(inner, load, run):
    assert load(inner, variables={"PYTHONPATH": "inner:"})["app"] == "inner of r2"
    alone = run(
        inner,
        without=["EMPEROR_SERVING"],
        variables={"PYTHONPATH": "inner"},
        master="os.chdir(root + '/releases/r1/src')",
    )
    assert json.loads(alone.stdout)["app"] == "inner of r1"


def test_module_that_is_deeper_in_the_source_is_named_with_the_cure(inner, run):
    ended = run(inner, without=["EMPEROR_SERVING"], master="os.chdir(root + '/releases/r1/src')")
    assert (
        "there is no module inner.wsgi at the top of the source, but inner/ has it: set PYTHONPATH: inner"
        in ended.stderr
    )
