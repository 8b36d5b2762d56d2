"""Load an app into a worker from the release that is current when the worker starts (reload mode `chain`).

The master stays what it was while its workers go over to another release one by one, so it must not load the app, and
what it inherited from its own start (search path, environment, directory) is set anew in every worker. A worker that
cannot load the app ends at once: uWSGI's own `need-app` would end the healthy workers with it, and without that option
a worker without an app would answer clients with errors.
"""

import importlib
import os
import site
import sys
import time
import traceback

# From the vassal file. The first is a link, which a deploy moves.
SERVING, APP = "EMPEROR_SERVING", "EMPEROR_APP"


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


def load():
    """The app, for uWSGI to call."""
    try:
        serving, app = os.environ.pop(SERVING), os.environ.pop(APP)
        enter(serving)
        module, _colon, name = app.partition(":")
        found = getattr(importlib.import_module(module), name.removesuffix("()"))
        return found() if name.endswith("()") else found
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        time.sleep(1)  # the master starts another one at once
        os._exit(1)
