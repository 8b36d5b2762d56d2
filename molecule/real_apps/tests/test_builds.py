"""Building: what stays the same costs nothing, builds reach nothing else, faults are named in plain words."""

import concurrent.futures
import json
import os
import shutil
from pathlib import Path

import pytest

FACTS = """
mkdir facts
id -un > facts/who
for place in /srv/flask_apps/poll/shared /etc/emperor/vassals/poll.*.ini; do ls $place/ || cat $place; done > facts/read
for place in /srv/flask_apps/poll/releases/x /srv/flask_apps/poll/shared/x "$VIRTUAL_ENV/x" /etc/x; do
  touch $place && echo $place >> facts/written
done
env > facts/environment
true
"""


@pytest.fixture
def changed(tmp_path, entries):
    """A copy of an app's source with other files; returns the setting for it."""

    def make(name, **files):
        root = tmp_path / f"{name}{len(list(tmp_path.iterdir()))}"
        shutil.copytree(entries[name][1]["source"]["path"], root)
        for path, text in files.items():
            Path(root, path).write_text(text)
        return {"source": {"path": str(root)}}

    return make


@pytest.fixture
def state(host_of):
    """The release that runs, and the processes that serve it."""

    def look(name):
        host = host_of(name)
        return host.check_output(f"readlink /srv/flask_apps/{name}/current; pgrep -u {name} | sort")

    return look


def inodes(host, name):
    """The files of an app's packages."""
    return host.check_output(f"stat -c %i /srv/flask_apps/{name}/current/venv/lib/python3*/site-packages/*/METADATA")


def test_new_code_with_the_same_lock_installs_nothing_and_runs(changed, deploy, browser, host_of):
    host = host_of("notes")
    before = inodes(host, "notes")
    code = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"], "molecule/real_apps/notes/src/notes/__init__.py").read_text()
    run = deploy("notes", changed("notes", **{"src/notes/__init__.py": code.replace('"notes",', '"bottle",')}))
    assert not run.failed, run.error
    assert "requires uv.lock" in run.output
    found = json.loads(browser("notes")("/").text)
    assert "bottle" in found
    assert found["file"].startswith(host.check_output("readlink -f /srv/flask_apps/notes/current"))
    assert inodes(host, "notes") == before


@pytest.fixture(scope="module")
def poll(deploy, browser):
    """The project of Poetry with a build that looks around, and a package that no file names."""
    build = [f"sh -c '{FACTS}'"]
    secret = {"environment": {"POLL_SECRET": "not for the build"}}
    python = {"python": {"extras": ["fast"], "additional": ["humanize==4.13.0"]}}
    run = deploy("poll", {"build": build, "static": {"/facts": "facts"}, **secret, **python})
    assert not run.failed, run.error
    return browser("poll")


def test_additional_package_is_installed_beside_the_locked_ones(poll):
    found = json.loads(poll("/").text)
    assert (found["humanize"], found["bottle"], found["ujson"]) == ("4.13.0", "0.13.4", "5.11.0")


def test_build_cannot_write_outside_its_release(poll):
    assert poll("/facts/who").text == "emperor-build\n"
    assert poll("/facts/read").text == ""
    assert poll("/facts/written").status == 404
    assert "POLL_SECRET" not in poll("/facts/environment").text
    assert json.loads(poll("/").text)["poll"] == "0.3.0"


# Debian has one Python only; this is a copy of it, which is found where it lies.
OTHER = """
python=$(basename "$(readlink -f /usr/bin/python3)")
mkdir -p /opt/other/bin /opt/other/lib
cp -a "/usr/bin/$python" /opt/other/bin/
cp -a "/usr/lib/$python" /opt/other/lib/
echo "/opt/other/bin/$python"
"""


def test_app_goes_over_to_another_interpreter_and_back(poll, deploy, host_of):
    interpreter = host_of("poll").check_output(OTHER)
    for python, prefix in (({"interpreter": interpreter}, "/opt/other"), ({}, "/usr")):
        run = deploy("poll", {"python": python})
        assert not run.failed, run.error
        assert json.loads(poll("/").text)["python"] == prefix


# What is wrong: the app, other settings, other files, and what the first line of the refusal has to say.
BROKEN = {
    "wrong callable": (
        "radicale", {"app": "radicale:app"}, {},
        "radicale:app would not start: module radicale has no callable `app`, only a module of that name; it has "
        "`application`: correct `app`",
    ),
    "no compiler": (
        "radicale", {"source": {"package": "isso==0.14.0"}, "build": []}, {},
        "a package must be compiled, but this host has no compiler: add gcc and python3-dev to `build_packages`",
    ),
    "version that is not to be had": (
        "httpbin", {"source": {"package": "httpbin==0.0.99"}}, {},
        "installing httpbin==0.0.99, pyuwsgi==2.0.30.post1 failed: Because there is no version of httpbin==0.0.99",
    ),
    "missing program": (
        "site", {}, {"project/wsgi.py": "import subprocess\nsubprocess.run(['git', 'version'])\n"},
        "there is no git: if it is a program, add the Debian package that has it to `packages`",
    ),
    "nothing installed": (
        "poll", {"python": {"requirements": "none"}}, {},
        "poll:application would not start: the module bottle is missing: add what brings it to what the app requires",
    ),
    "several modules": (
        "poll", {}, {"poll/__init__.py": "import absent\nfrom poll import rest\n", "poll/rest.py": "import yaml, x2\n"},
        "would not start: the modules absent, yaml (of PyYAML) and x2 are missing: add what brings them to what",
    ),
    "module in a package of the source": (
        "poll", {"app": "inner:application"}, {"poll/inner.py": ""},
        "there is no module inner at the top of the source, but the package poll has it: set `app` to "
        "poll.inner:application",
    ),
    "file of the app in a build": (
        "poll", {"build": ["python -c 'import poll.own'"], "files": [{"path": "poll/own.py", "content": "x = 1"}]}, {},
        "(build) failed: A build gets neither `files` (own.py) nor `environment`",
    ),
    "database in the release": (
        "poll", {}, {"poll/__init__.py": "import sqlite3\nsqlite3.connect('poll.db').execute('create table x (y)')\n"},
        "it may not write its SQLite database: a release never changes",
    ),
    "table that no hook made": (
        "poll", {}, {"poll/__init__.py": "import sqlite3\nsqlite3.connect(':memory:').execute('select 1 from vote')\n"},
        "its database has no table vote: let a hook make it, `hooks.before_switch` in the first deploy of an app",
    ),
    "file that the release lacks": (
        "poll", {}, {"poll/__init__.py": "open('poll/poll.yml')\n"},
        "there is no poll/poll.yml in the release: if it is a file of settings, give it by `files`; if the app writes",
    ),
    "missing variable": (
        "site", {"environment": {}}, {},
        "project.wsgi:application would not start: the variable DJANGO_SECRET_KEY is missing: set it in `environment`",
    ),
    "broken build": (
        "site", {"build": ["sh -c 'seq 30; exit 3'"]}, {},
        "nothing that runs was touched: `sh -c 'seq 30; exit 3'` (build) failed: 16 17 18",
    ),
    "static files that the build did not make": (
        "site", {"build": []}, {}, "the static directory staticfiles is not in the source: correct `static`.",
    ),
    "path in a message": (
        "poll", {"environment": {"REPOSITORY": "/srv/git/none", "SALT": "pepper"}},
        {"poll/__init__.py": "import os\nraise SystemError('%(REPOSITORY)s not found, %(SALT)s' % os.environ)\n"},
        "SystemError: /srv/git/none not found, ********",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_failed_build_names_its_cause_and_the_old_release_keeps_serving(case, changed, deploy, state, host_of):
    name, settings, files, sentence = BROKEN[case]
    before = state(name)
    known = host_of(name).check_output(f"ls /srv/flask_apps/{name}/releases").split()
    run = deploy(name, settings | (changed(name, **files) if files else {}))
    assert run.failed
    assert sentence in run.error, run.error
    assert state(name) == before
    if "could not be built" in run.error:
        assert host_of(name).check_output(f"ls /srv/flask_apps/{name}/releases").split() == known


def test_check_mode_names_the_debian_packages(deploy, host_of):
    run = deploy("flaskr", {"packages": ["sl"], "build_packages": ["gcc"]}, "--check", play="site")
    assert not run.failed, run.error
    assert "Debian packages to install: sl\n" in run.output
    assert not host_of("flaskr").package("sl").is_installed


def test_repository_among_the_requirements_needs_git_on_the_host(changed, deploy):
    source = changed("model", **{"requirements.txt": "numpy\nshop @ git+https://git.test/shop.git@v1\n"})
    run = deploy("model", source, "--check", play="site")
    assert not run.failed, run.error
    assert "Debian packages to install: git\n" in run.output


INNER = """
import os
held = open(os.environ["HOME"] + "/held", "w+")
def application(environ, start_response):
    start_response("200 OK", [])
    return [b"inner"]
"""


def test_modules_below_the_source_are_found_and_what_workers_would_share_is_named(changed, deploy, browser):
    settings = {"app": "inner:application", "environment": {"PYTHONPATH": "poll"}}
    run = deploy("poll", settings | changed("poll", **{"poll/inner.py": INNER}))
    assert not run.failed, run.error
    assert "files that the app opens while it is imported and keeps open (held) are shared by its workers" in " ".join(
        run.output.split()
    )
    assert browser("poll")("/").text == "inner"


CONNECTED = """
import socket
connection = socket.create_connection(("127.0.0.1", 80))
def application(environ, start_response):
    start_response("200 OK", [])
    return [str(connection.getsockname()[1]).encode()]
"""


def test_every_worker_has_its_own_connections(changed, deploy, browser):
    settings = {"app": "inner:application", "environment": {"PYTHONPATH": "poll"}, "workers": {"processes": 2}}
    settings |= changed("poll", **{"poll/inner.py": CONNECTED})
    run = deploy("poll", settings)
    assert not run.failed, run.error
    told = "(127.0.0.1:80) cannot be shared by workers, so each of them loads the app itself"
    assert told in " ".join(run.output.split())
    with concurrent.futures.ThreadPoolExecutor(8) as clients:
        ports = {answer.text for answer in clients.map(lambda _number: browser("poll")("/"), range(200))}
    assert len(ports) == 2
    run = deploy("poll", settings)
    assert "changed=0" in run.output, run.output
    run = deploy("poll", settings | {"workers": {"processes": 2, "lazy_apps": False}})
    assert not run.failed, run.error
    assert "keeps open (127.0.0.1:80) are shared by its workers" in " ".join(run.output.split())
    assert browser("poll")("/").text == browser("poll")("/").text
