"""Load an app for uWSGI, and do in its workers what uWSGI does not do.

Every vassal names `emperor_loader:load()` as its module. What it does is set in the vassal file, by placeholders whose
names begin with `emperor-`.

In the reload mode `chain` the master stays what it was while its workers go over to another release one by one. So it
must not load the app, and what it inherited from its own start (search path, environment, directory) is set anew in
every worker. A worker that cannot load the app ends at once: uWSGI's own `need-app` would end the healthy workers with
it, and without that option a worker without an app would answer clients with errors.
"""

import _socket  # not `socket`, which libraries replace
import ast
import contextlib
import difflib
import gc
import importlib
import importlib.util
import inspect
import os
import pkgutil
import site
import stat
import sys
import threading
import time
import traceback

import emperor_errors
import emperor_slow
import emperor_wsgi
import uwsgi

HERE = os.path.dirname(os.path.abspath(__file__))
# From the vassal file. The second is there in the mode `chain` only: a link, which a deploy moves.
APP, SERVING = "EMPEROR_APP", "EMPEROR_SERVING"
# What the callable of an app is called most of the time.
USUAL = ("app", "application", "create_app", "make_app", "wsgi_app", "wsgi", "api", "server")
ASGI = ": let `app` name a WSGI app; an ASGI server beside it may serve paths (`background` with `serve`)"
ONE_ONLY = ", or, if only one process may have them open, workers.processes to 1"
HARMLESS = ("/dev/", "/memfd:")  # how names begin of what workers may share
DEFAULT_INTERVAL = 0.005  # seconds; Python's own


def setting(name):
    """A placeholder of the vassal file as text, empty when it is not there."""
    return uwsgi.opt.get(f"emperor-{name}", b"").decode()


def forget(former):
    """Undo what the master imported from its own release: modules, and what finds them (of editable installs)."""

    def places(module):
        return [getattr(module, "__file__", None), *(getattr(module, "__path__", None) or ())]

    gone = [
        name
        for name, module in list(sys.modules.items())
        if any(isinstance(place, str) and os.path.realpath(place).startswith(former) for place in places(module))
        and name != "__main__"  # uWSGI's start; multiprocessing asks for it
    ]
    for name in gone:
        del sys.modules[name]
    for finders in (sys.meta_path, sys.path_hooks):
        finders[:] = [finder for finder in finders if getattr(finder, "__module__", None) not in gone]
    # What it remembers of directories.
    sys.path_importer_cache.clear()
    importlib.invalidate_caches()


def enter(serving):
    """Make this process one of the release to which the link leads now. Returns the release's directory."""
    release = os.path.realpath(serving)
    former, venv = os.path.dirname(release) + "/", os.path.join(release, "venv")
    for name in ("PATH", "VIRTUAL_ENV"):
        os.environ[name] = os.environ[name].replace(serving, release)
    os.environ["RELEASE_ID"] = os.path.basename(release)
    os.chdir(os.path.join(release, "src"))

    sys.prefix = sys.exec_prefix = venv
    sys.executable = os.path.join(venv, "bin/python")
    sys.path[:] = [".", *(path for path in sys.path if not os.path.realpath(path).startswith(former))]
    forget(former)
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    site.addsitedir(os.path.join(venv, "lib", version, "site-packages"))
    return release


def search_own():
    """Find modules where a relative PYTHONPATH says: below the source. uWSGI's Python started elsewhere."""
    for path in reversed(os.environ.get("PYTHONPATH", "").split(":")):
        if path and not os.path.isabs(path):
            sys.path.insert(1 if sys.path[:1] == ["."] else 0, os.path.abspath(path))


class WrongApp(Exception):
    """The module has no such callable; the text says what it has."""


def called(text):
    """What a factory is called with: the values between its parentheses, in order and by name."""
    call = ast.parse(f"factory({text}", mode="eval").body
    values = [ast.literal_eval(one) for one in call.args]
    return values, {one.arg: ast.literal_eval(one.value) for one in call.keywords}


def root_of(name):
    """The directory of the source in which a module is at the top; empty when there is none."""
    if os.path.basename(os.getcwd()) in ("site-packages", "dist-packages"):
        return ""  # what is there are packages of others, too
    file = name.replace(".", "/")
    for one in sorted(entry.name for entry in os.scandir(".") if entry.is_dir() and not entry.name.startswith(".")):
        if os.path.isfile(f"{one}/{file}.py") or os.path.isfile(f"{one}/{file}/__init__.py"):
            return one
    return ""


def module_of(name, attribute):
    """The module of this name.

    :param attribute: what `app` has behind it.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not f"{name}.".startswith(f"{error.name}."):  # what it imports itself
            raise
        before, _dot, last = error.name.rpartition(".")
        places = getattr(sys.modules[before], "__path__", []) if before else ["."]
        there = sorted(one.name for one in pkgutil.iter_modules(places))
        if below := root_of(name):
            packed = os.path.isfile(f"{below}/__init__.py")
            raise WrongApp(
                f"there is no module {error.name} at the top of the source, but "
                + (f"the package {below} has it: set `app` to {below}.{name}:{attribute}" if packed else "")
                + ("" if packed else f"{below}/ has it: set PYTHONPATH: {below} in `environment`")
            ) from None
        near = [one for one in USUAL if one in there] or difflib.get_close_matches(last, there)
        has = f"; there is {' and '.join(f'{before}{_dot}{one}' for one in near)}" if near else ""
        raise WrongApp(f"there is no module {error.name}{has}: correct `app`, or install what brings it") from None


def own(name):
    """A module of ours that is needed now and then."""
    specification = importlib.util.spec_from_file_location(name, os.path.join(HERE, f"{name}.py"))
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def imported(name):
    """The app, see `found_as`; an error says all that is missing."""
    try:
        return found_as(name)
    except ModuleNotFoundError as error:
        with contextlib.suppress(Exception):
            own("emperor_missing").note(error, name.partition(":")[0])
        raise


def found_as(name):
    """The app: a callable, or what a factory returns when the name ends with parentheses."""
    module, _colon, attribute = name.partition(":")
    wanted, factory, arguments = attribute.partition("(")
    loaded = found = module_of(module, attribute)
    for one in wanted.split("."):
        found = getattr(found, one, None)
    if not callable(found):
        names = [one for one in dir(loaded) if callable(getattr(loaded, one, None)) and not one.startswith("_")]
        inner = [f"{wanted}.{one}" for one in USUAL if callable(getattr(found, one, None))]
        near = inner or [one for one in USUAL if one in names] or difflib.get_close_matches(wanted, names)
        has = " and ".join(f"`{one}`" for one in near) or "nothing that is called like an app"
        not_one = f", only a {type(found).__name__} of that name" if hasattr(loaded, wanted) else ""
        raise WrongApp(f"module {module} has no callable `{wanted}`{not_one}; it has {has}: correct `app`")
    if factory:
        values, named = called(arguments)
        found = found(*values, **named)
    if any(inspect.iscoroutinefunction(one) for one in (found, type(found).__call__)):
        raise WrongApp(f"{name} is an ASGI app, which no WSGI server can serve{ASGI}")
    return found


def check_threads():
    """Say that threads which were started before the fork do not run in the workers."""
    names = sorted(thread.name for thread in threading.enumerate() if thread is not threading.main_thread())
    if names and not setting("import-threads"):
        print(
            f"emperor: threads that start while the app is imported ({', '.join(names)}) do not run in its workers, "
            "which are forked later: set workers.lazy_apps to true, or start them in each worker "
            "(uwsgidecorators.postfork). If that is intended, set workers.import_threads to true.",
            file=sys.stderr,
            flush=True,
        )


def peer(descriptor):
    """To whom a stream socket is connected; empty for pairs of sockets, which have no names."""
    default = _socket.getdefaulttimeout()
    _socket.setdefaulttimeout(None)  # else the copy, and with it the socket itself, would become non-blocking
    try:
        copy = _socket.socket(fileno=os.dup(descriptor))
    finally:
        _socket.setdefaulttimeout(default)
    with contextlib.closing(copy):
        if copy.type != _socket.SOCK_STREAM:
            return ""
        other = copy.getpeername()
    return other if isinstance(other, str) else f"{other[0]}:{other[1]}" if isinstance(other, tuple) else ""


def held():
    """What this process has open that two must not use at a time: files for reading and writing, connections.

    Each by its descriptor, as its kind and its name.
    """
    found = {}
    for one in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError, ValueError):
            path, state = os.readlink(f"/proc/self/fd/{one}"), os.fstat(int(one))
            if stat.S_ISSOCK(state.st_mode):
                found[one] = "connections", peer(int(one))
                continue
            with open(f"/proc/self/fdinfo/{one}") as file:
                flags = int(next(line.split()[1] for line in file if line.startswith("flags:")), 8)
            if stat.S_ISREG(state.st_mode) and state.st_nlink and flags & os.O_ACCMODE == os.O_RDWR:
                found[one] = "files", path
    return {one: (kind, name) for one, (kind, name) in found.items() if name and not name.startswith(HARMLESS)}


def check_held(before):
    """Say that files and connections which were opened before the fork are the same ones in all workers.

    :param before: those that were open before the import; None when no workers share them, or the app takes care of it.
    """
    if before is None:
        return
    home = os.environ.get("HOME", "")
    opened = [pair for one, pair in held().items() if before.get(one) != pair]
    for kind, otherwise in (("connections", ""), ("files", ONE_ONLY)):
        names = sorted({name for its_kind, name in opened if its_kind == kind})
        if names:
            shown = (os.path.relpath(name, home) if name.startswith(f"{home}/") else name for name in names[:3])
            print(
                f"emperor: {kind} that the app opens while it is imported and keeps open ({', '.join(shown)}) are "
                "shared by its workers, which are forked later and would disturb each other: set workers.lazy_apps to "
                f"true{otherwise}. If the app takes care of that, set workers.import_threads to true.",
                file=sys.stderr,
                flush=True,
            )


def watch_worker():
    """Let this worker end itself for its memory or a late request. The trial start has no such limits."""
    if not setting("recycle-megabytes"):
        return
    limit = int(setting("recycle-megabytes")) - int(setting("recycle-delta")) * (uwsgi.worker_id() - 1)
    own("worker_recycle").start(limit, int(setting("recycle-seconds")), uwsgi.opt)


def watched(release):
    """What logs slow requests; None when that is not wanted."""
    seconds = int(setting("slow-seconds") or 0)
    return emperor_slow.Watch(seconds, lambda environ: emperor_wsgi.named(environ, release)) if seconds else None


def prepare(lazy, slow, before):
    """What comes after the import of the app, in the master or, where each worker imports it, in the worker.

    :param slow: to be started in every worker, if not None.
    :param before: what was open before the import, see `check_held`.
    """
    if setting("batch") and os.sched_getscheduler(0) == os.SCHED_OTHER:
        # Each connection wakes a thread in every worker, and one of them gets it. Scheduled as batch, none takes the
        # processor from a worker that serves a request, or from nginx (sched(7), docs/workers.md). Threads inherit it.
        with contextlib.suppress(OSError):  # a container may forbid it
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    # In a process that computes, Python lets another thread wait 5 ms for its turn, several times per request.
    if setting("switch-interval") and sys.getswitchinterval() == DEFAULT_INTERVAL:
        sys.setswitchinterval(float(setting("switch-interval")))

    def watch():
        watch_worker()
        if slow:
            slow.start()

    if lazy:
        watch()
        return
    check_threads()
    check_held(before)
    of_app = getattr(uwsgi, "post_fork_hook", None)  # uwsgidecorators has set it when the app uses that

    def forked():
        if of_app:
            of_app()
        watch()

    uwsgi.post_fork_hook = forked
    if setting("freeze"):
        # What is there now stays shared: else the collector would write to each object in every worker.
        gc.collect()
        gc.freeze()


def load():
    """The app, for uWSGI to call."""
    serving, app = os.environ.pop(SERVING, None), os.environ.pop(APP)
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != HERE]  # the app finds nothing of ours there
    try:
        if serving:
            enter(serving)
        search_own()
        release = os.environ.get("RELEASE_ID", "")
        lazy = bool(serving) or "lazy-apps" in uwsgi.opt
        apart = lazy or setting("alone") or setting("import-threads")
        slow, before = watched(release), None if apart else held()
        found = emperor_wsgi.Application(imported(app), release, slow).respond
        emperor_errors.show()
        prepare(lazy, slow, before)
        return found
    except BaseException:
        if not serving:
            raise
        traceback.print_exc()
        sys.stderr.flush()
        time.sleep(1)  # the master starts another one at once
        os._exit(1)
