"""The loader finds modules below the source, and warns of what does not survive the fork of the workers."""

import json
import sys

import pytest

SITE = "lib/python{}.{}/site-packages".format(*sys.version_info)
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
    assert log.startswith("emperor: files that the app opens while it is imported and keeps open (")
    assert "shop.py) are shared by its workers" in log
    for word in ("workers.lazy_apps", "workers.processes to 1", "workers.import_threads"):
        assert word in log


@pytest.mark.parametrize(
    "options", [{"emperor-alone": "true"}, {"emperor-import-threads": "true"}, {"lazy-apps": "true"}]
)
def test_open_files_of_one_worker_are_not_named(options, once):
    assert once(OPENED, options=options)[1] == ""


TIMEOUT = """
import socket
socket.setdefaulttimeout(5)
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
client.setblocking(True)
def create_app(): return "the app"
"""
BEFORE = "import socket; pair = socket.socketpair()"
BLOCKING = "[os.get_blocking(pair[0].fileno()), os.get_blocking(sys.modules['shop'].client.fileno()), " \
    "sys.modules['_socket'].getdefaulttimeout()]"  # fmt: skip


def test_sockets_stay_as_they_are_when_the_app_sets_a_default_timeout(once):
    found, log = once(TIMEOUT, master=BEFORE, tell=BLOCKING)
    assert found["extra"] == [True, True, 5]
    assert "keeps open (127.0.0.1:" in log


def test_connection_is_named_when_a_library_replaces_the_class_of_sockets(once):
    assert "keeps open (127.0.0.1:" in once(CONNECTED + "socket.socket = None\n")[1]


@pytest.mark.parametrize(
    ("options", "looks"),
    [({}, 2), ({"emperor-alone": "true"}, 0), ({"emperor-import-threads": "true"}, 0), ({"lazy-apps": "true"}, 0)],
)
def test_open_files_are_looked_at_only_where_workers_share_them(options, looks, once):
    master = "import emperor_loader; looks = []; emperor_loader.held = lambda: looks.append(1) or {}"
    assert once(options=options, master=master, tell="len(looks)")[0]["extra"] == looks


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


def test_module_that_is_in_a_package_of_the_source_is_named_with_what_app_should_be(home, run):
    for name in ("__init__.py", "wsgi.py"):
        (home / "releases/r1/src/store").mkdir(exist_ok=True)
        (home / "releases/r1/src/store" / name).touch()
    ended = run("wsgi:make('x')", without=["EMPEROR_SERVING"], master="os.chdir(root + '/releases/r1/src')")
    assert (
        "there is no module wsgi at the top of the source, but the package store has it: set `app` to "
        "store.wsgi:make('x')\n" in ended.stderr
    )


def test_modules_of_installed_packages_are_not_taken_for_the_apps(home, run):
    packages = home / "releases/r1/venv" / SITE
    for name in ("flask", "spread"):
        (packages / name).mkdir()
        (packages / name / "wsgi.py").touch()
    (packages / "flask/__init__.py").touch()
    (home / "releases/r1/src/shop.py").unlink()
    (home / "releases/r1/src").rmdir()
    (home / "releases/r1/src").symlink_to(packages)
    ended = run("wsgi:app", without=["EMPEROR_SERVING"], master="os.chdir(root + '/releases/r1/src')")
    assert "WrongApp: there is no module wsgi: correct `app`, or install what brings it\n" in ended.stderr
