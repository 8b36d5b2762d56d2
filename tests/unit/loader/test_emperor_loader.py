"""The loader of apps: what it sets up in workers, and how a worker becomes one of the current release in a chain."""

import json
import os
import sys
from pathlib import Path

import pytest

LOADER = Path(__file__).parents[3] / "roles/uwsgi/files/emperor_loader.py"
SITE = "lib/python{}.{}/site-packages".format(*sys.version_info)


def test_a_worker_loads_the_release_to_which_the_link_leads_now(load):
    assert load()["app"] == "factory of r2"
    assert load(link="r1")["app"] == "factory of r1"


def test_the_app_may_be_a_plain_callable(load):
    # uWSGI calls it, not the loader.
    assert load("shop:app")["app"] == "to be called: callable of r2"


def test_the_app_may_be_in_a_package(load, home):
    (home / "releases/r2/src/inner").mkdir()
    (home / "releases/r2/src/inner/wsgi.py").write_text("def make(): return 'of a package'\n")
    assert load("inner.wsgi:make()")["app"] == "of a package"


def test_the_app_finds_itself_in_its_release(load, home):
    found, release = load(), str(home / "releases/r2")
    assert found["cwd"] == f"{release}/src"
    assert found["prefix"] == found["exec_prefix"] == f"{release}/venv"
    assert found["executable"] == f"{release}/venv/bin/python"


def test_the_environment_names_the_release_and_not_the_link(load, home):
    # The link is followed once: what the app starts later is of the same release, wherever the link leads by then.
    found, release = load(), str(home / "releases/r2")
    assert found["RELEASE_ID"] == "r2"
    assert found["VIRTUAL_ENV"] == f"{release}/venv"
    assert found["PATH"] == f"{release}/venv/bin:/usr/bin:/bin"
    assert "serving" not in json.dumps({**found, "KEY": None})


def test_the_apps_own_variables_are_left_alone(load, home):
    assert load()["KEY"] == f"{home}/serving"


def test_the_two_variables_for_the_loader_are_gone(load):
    found = load()
    assert found["EMPEROR_SERVING"] is None
    assert found["EMPEROR_APP"] is None


def test_nothing_of_the_former_release_is_in_the_search_path(load, home):
    found = load(master="sys.path += ['', '.', f'{root}/serving/src']")
    of_app = [path for path in found["path"] if str(home) in path]
    assert of_app == [f"{home}/releases/r2/venv/{SITE}"]
    assert found["path"][0] == "."  # the source, where the app runs
    assert found["path"].count(".") == 1
    assert "" not in found["path"]
    assert str(LOADER.parent) not in found["path"]


def test_modules_of_the_former_release_are_forgotten(load, home):
    for name in ("r1", "r2"):
        (home / f"releases/{name}/venv" / SITE / "lib.py").write_text(f"version = 'lib of {name}'\n")
    app = home / "releases/r2/src/shop.py"
    app.write_text("import lib\ndef create_app(): return lib.version\n")
    found = load(master="import shop, lib, html", tell="'html' in sys.modules")
    assert found["app"] == "lib of r2"
    assert found["extra"] is True  # of Python itself nothing is loaded twice


def test_the_main_module_stays_though_uwsgi_was_started_from_the_former_release(load, home):
    # multiprocessing asks for it.
    master = "import __main__; __main__.__file__ = f'{root}/releases/r1/venv/bin/uwsgi'"
    assert load(master=master, tell="'__main__' in sys.modules")["extra"] is True


def test_packages_without_a_file_of_their_own_are_forgotten_too(load, home):
    for name in ("r1", "r2"):
        package = home / f"releases/{name}/venv" / SITE / "spread/inner"
        package.mkdir(parents=True)
        (package / "lib.py").write_text(f"version = 'inner of {name}'\n")
    (home / "releases/r2/src/shop.py").write_text(
        "import spread.inner.lib\ndef create_app(): return spread.inner.lib.version\n"
    )
    assert load(master="import spread.inner.lib")["app"] == "inner of r2"


# As setuptools' *-nspkg.pth files have it: whoever comes first makes the package, all others add their directory.
SHARED = "import sys, types; m = sys.modules.setdefault('spread', types.ModuleType('spread')); " \
    "m.__dict__.setdefault('__path__', []).append({path!r})\n"  # fmt: skip


def test_packages_that_pth_files_make_are_forgotten_too(load, home):
    for name in ("r1", "r2"):
        packages = home / f"releases/{name}/venv" / SITE
        (packages / "spread").mkdir()
        (packages / "spread/lib.py").write_text(f"version = 'spread of {name}'\n")
        (packages / "spread-nspkg.pth").write_text(SHARED.format(path=f"{packages}/spread"))
    (home / "releases/r2/src/shop.py").write_text("import spread.lib\ndef create_app(): return spread.lib.version\n")
    assert load(master=SHARED.format(path=f"{home}/releases/r1/venv/{SITE}/spread"))["app"] == "spread of r2"


# As packages that were installed "editable" have it: a finder that knows where the modules are.
FINDER = """
import importlib.util, sys
class Finder:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return importlib.util.spec_from_file_location(name, {file!r}) if name == "lib" else None
sys.meta_path.append(Finder)
"""


def test_finders_of_the_former_release_are_forgotten(load, home):
    for name in ("r1", "r2"):
        release = home / f"releases/{name}"
        (release / "lib_here.py").write_text(f"version = 'found in {name}'\n")
        (release / "venv" / SITE / "finder.py").write_text(FINDER.format(file=f"{release}/lib_here.py"))
        (release / "venv" / SITE / "finder.pth").write_text("import finder\n")
        (release / "src/shop.py").write_text("import lib\ndef create_app(): return lib.version\n")
    assert load(master="import finder")["app"] == "found in r2"


def test_the_pth_files_of_the_new_release_work(load, home):
    packages = home / "releases/r2/venv" / SITE
    (packages / "more.pth").write_text(f"{home}/more\nimport os; os.environ['KEY'] = 'set by a .pth file'\n")
    (home / "more").mkdir()
    (home / "more/lib.py").write_text("version = 'found by a .pth file'\n")
    (home / "releases/r2/src/shop.py").write_text("import lib\ndef create_app(): return lib.version\n")
    found = load()
    assert found["app"] == "found by a .pth file"
    assert found["KEY"] == "set by a .pth file"


def test_cached_directory_listings_are_forgotten(load, home):
    # By "." both releases' sources have one name; directories of the same age would be taken for unchanged.
    (home / "releases/r2/src/added.py").write_text("def create_app(): return 'added in r2'\n")
    for name in ("r1", "r2"):
        os.utime(home / f"releases/{name}/src", (1_000_000_000, 1_000_000_000))
    master = """
os.chdir(f"{root}/releases/r1/src")
sys.path[:] = [".", *sys.path]
try:
    import added
except ImportError:
    pass
"""
    assert load("added:create_app()", master=master)["app"] == "added in r2"


FAILURES = [
    ("raise RuntimeError('no database')", "RuntimeError: no database"),
    ("import no_such_library", "No module named 'no_such_library'"),
    ("raise SystemExit(22)", "SystemExit: 22"),
    ("def create_app(): raise KeyboardInterrupt", "KeyboardInterrupt"),
    ("def create_app(: pass", "SyntaxError"),
    (
        "",
        "WrongApp: module shop has no callable `create_app`; it has nothing that is called like an app: correct `app`",
    ),
    (
        "def make_app(): pass\napplication = make_app\nx = 1",
        "no callable `create_app`; it has `application` and `make_app`",
    ),
    ("def creat_app(): pass", "it has `creat_app`"),
    ("create_app = 'x'", "no callable `create_app`, only a str of that name; it has nothing"),
]


@pytest.mark.parametrize(("source", "said"), FAILURES)
def test_a_worker_that_cannot_load_says_why_and_ends_alone(source, said, run, home):
    # With 22 (uWSGI's UWSGI_FAILED_APP_CODE) the master would end, and the healthy workers with it.
    (home / "releases/r1/src/shop.py").write_text(source)
    ended = run()
    assert ended.returncode == 1
    assert "Traceback (most recent call last):" in ended.stderr
    assert said in ended.stderr
    assert ended.stdout == "rests 1\n"  # so that its successors do not burn the processor


@pytest.mark.parametrize("name", ["EMPEROR_APP", "PATH"])
def test_worker_without_its_variables_ends(name, run):
    ended = run(without=[name])
    assert ended.returncode == 1
    assert f"KeyError: '{name}'" in ended.stderr


def test_worker_whose_link_leads_nowhere_ends(run, home):
    (home / "serving").unlink()
    ended = run()
    assert ended.returncode == 1
    assert "FileNotFoundError" in ended.stderr


# --- where the master loads the app


def test_master_loads_the_app_of_its_own_release(once):
    found, log = once()
    assert (found["app"], found["EMPEROR_APP"], log) == ("the app", None, "")
    assert str(LOADER.parent) not in found["path"]


def test_failed_load_without_a_chain_is_shown_once(run, home):
    (home / "releases/r1/src/shop.py").write_text("raise RuntimeError('no database')")
    ended = run(without=["EMPEROR_SERVING"])
    assert ended.returncode == 1
    assert ended.stderr.count("RuntimeError: no database") == 1


@pytest.mark.parametrize(
    ("options", "source", "interval"),
    [
        ({}, "", 0.005),
        ({"emperor-switch-interval": "0.002"}, "", 0.002),
        ({"emperor-switch-interval": "0.002"}, "import sys\nsys.setswitchinterval(0.05)\n", 0.05),
    ],
)
def test_switch_interval_is_short_unless_the_app_sets_it(options, source, interval, once):
    source += "def create_app(): return 'the app'\n"
    found, _log = once(source, options=options, tell="sys.getswitchinterval()")
    assert found["extra"] == pytest.approx(interval)


@pytest.mark.parametrize(
    ("options", "source", "policy"),
    [
        ({}, "", os.SCHED_OTHER),
        ({"emperor-batch": "true"}, "", os.SCHED_BATCH),
        ({"emperor-batch": "true", "lazy-apps": "true"}, "", os.SCHED_BATCH),
        ({"emperor-batch": "true"}, "os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\n", os.SCHED_IDLE),
        ({"emperor-batch": "true"}, "def no(*_): raise PermissionError\nos.sched_setscheduler = no\n", os.SCHED_OTHER),
    ],
)
def test_workers_are_scheduled_as_batch_unless_the_app_or_the_host_has_it_otherwise(options, source, policy, once):
    source = f"import os\n{source}def create_app(): return 'the app'\n"
    found, log = once(source, options=options, tell="os.sched_getscheduler(0)")
    assert (found["extra"], log) == (policy, "")


@pytest.mark.parametrize(
    ("options", "frozen"),
    [({}, False), ({"emperor-freeze": "true"}, True), ({"emperor-freeze": "true", "lazy-apps": "true"}, False)],
)
def test_objects_loaded_before_the_fork_are_frozen(options, frozen, once):
    found, _log = once(options=options, tell="gc.get_freeze_count() > 0")
    assert found["extra"] is frozen


LIMITS = {"emperor-recycle-megabytes": "200", "emperor-recycle-delta": "16", "emperor-recycle-seconds": "50"}


@pytest.fixture
def watched(home):
    """The program that watches workers."""
    (home / "watch").mkdir()
    code = "import builtins as b\ndef start(*limits): b.started = getattr(b, 'started', []) + [list(limits[:2])]\n"
    (home / "watch/worker_recycle.py").write_text(code)
    return "import builtins, emperor_loader; emperor_loader.HERE = root + '/watch'"


FORKED = "[getattr(uwsgi, 'post_fork_hook', lambda: None)(), getattr(__import__('builtins'), 'started', [])][1]"


@pytest.mark.parametrize("options", [LIMITS, LIMITS | {"lazy-apps": "true"}])
def test_each_worker_is_watched_with_its_own_limit(options, once, watched):
    # The third worker; the hook is not called again where each worker loads the app itself.
    tell = FORKED if "lazy-apps" not in options else "__import__('builtins').started"
    assert once(options=options, master=watched, tell=tell)[0]["extra"] == [[168, 50]]


def test_worker_of_a_trial_start_is_not_watched(once, watched):
    assert once(master=watched, tell=FORKED)[0]["extra"] == []


def test_hook_of_the_app_is_called_too(once, watched):
    source = "import uwsgi, builtins\nuwsgi.post_fork_hook = lambda: setattr(builtins, 'started', ['of the app'])\n"
    source += "def create_app(): return 'the app'\n"
    assert once(source, options=LIMITS, master=watched, tell=FORKED)[0]["extra"] == ["of the app", [168, 50]]
