"""What the tests of the loader share: an app with two releases, and workers that load one of them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

LOADER = Path(__file__).parents[3] / "roles/uwsgi/files/emperor_loader.py"
SITE = "lib/python{}.{}/site-packages".format(*sys.version_info)

# What a master is: started in one release, with what it has from there. Then it loads, as a worker, and tells.
WORKER = """
import gc, json, os, sys, threading, time, types
time.sleep = lambda seconds: print("rests", seconds, flush=True)
plan = json.loads(sys.argv[1])
root = plan["root"]
sys.path[:0] = [f"{root}/releases/r1/src", f"{root}/releases/r1/venv/{plan['site']}", plan["modules"]]
uwsgi = sys.modules["uwsgi"] = types.ModuleType("uwsgi")
uwsgi.opt = {name: value.encode() for name, value in plan.get("options", {}).items()}
uwsgi.worker_id = lambda: 3
exec(plan.get("master", ""))
import emperor_loader
if "link" in plan:
    os.symlink(plan["link"], f"{root}/new")
    os.replace(f"{root}/new", f"{root}/serving")
app = emperor_loader.load().__self__.app
names = ("PATH", "VIRTUAL_ENV", "RELEASE_ID", "EMPEROR_SERVING", "EMPEROR_APP", "KEY")
told = {name: os.environ.get(name) for name in names}
told.update(app=app if isinstance(app, str) else "to be called: " + app(), cwd=os.getcwd(), path=sys.path)
told.update(prefix=sys.prefix, exec_prefix=sys.exec_prefix, executable=sys.executable)
told.update(extra=eval(plan.get("tell", "None")))
print(json.dumps(told))
"""


@pytest.fixture
def home(tmp_path):
    """Two releases of an app, and a link that leads to the first."""
    for name in ("r1", "r2"):
        (tmp_path / f"releases/{name}/src").mkdir(parents=True)
        (tmp_path / f"releases/{name}/venv" / SITE).mkdir(parents=True)
        (tmp_path / f"releases/{name}/src/shop.py").write_text(
            f"def create_app(): return 'factory of {name}'\ndef app(): return 'callable of {name}'\n"
        )
    (tmp_path / "serving").symlink_to(tmp_path / "releases/r1")
    return tmp_path


@pytest.fixture
def run(home):
    """Run a worker; returns the finished process."""

    def start(app="shop:create_app()", **plan):
        environment = {
            "PATH": f"{home}/serving/venv/bin:/usr/bin:/bin",
            "VIRTUAL_ENV": f"{home}/serving/venv",
            "EMPEROR_SERVING": f"{home}/serving",
            "EMPEROR_APP": app,
            "KEY": f"{home}/serving",
            **plan.pop("variables", {}),
        }
        environment = {name: value for name, value in environment.items() if name not in plan.get("without", ())}
        plan = {"root": str(home), "modules": str(LOADER.parent), "site": SITE, **plan}
        command = [sys.executable, "-c", WORKER, json.dumps(plan)]
        return subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, check=False)

    return start


@pytest.fixture
def load(run, home):
    """Load an app after the link was moved to the second release; returns what the app finds."""

    def start(app="shop:create_app()", link="r2", **plan):
        ended = run(app, link=str(home / "releases" / link), **plan)
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    return start


@pytest.fixture
def once(run, home):
    """Load an app in a master that was started in its release; returns what it tells, and what is in its log."""

    def start(source="def create_app(): return 'the app'\n", **plan):
        (home / "releases/r1/src/shop.py").write_text(source)
        ended = run(without=["EMPEROR_SERVING"], **plan)
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout), ended.stderr

    return start
