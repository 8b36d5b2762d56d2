"""Broken releases and sites, killed runs: the run says why, what served serves on, the next good run heals."""

import os
import random
import signal
import time

import pytest

FACTORY = "\n\ndef create_app():\n    "
ILL = """
from flask import Flask


def create_app():
    app = Flask(__name__)
    app.add_url_rule("/healthz", "health", lambda: ("ill", 500))
    return app
"""
CRASH = """
import os

from flask import Flask

os.register_at_fork(after_in_child=lambda: os._exit(7))


def create_app():
    return Flask(__name__)
"""

# What is wrong, the files that make it so, other settings, and what the run has to say.
BROKEN = {
    "syntax error": ({"shop/__init__.py": "def create_app(:\n"}, {}, ["SyntaxError", "was not changed"]),
    "missing module": (
        {"shop/__init__.py": "import nowhere_to_be_found\n" + FACTORY + "pass\n"},
        {},
        ["nowhere_to_be_found"],
    ),
    "missing callable": ({"shop/__init__.py": "VALUE = 1\n"}, {}, ["create_app"]),
    "import that hangs": (
        {"shop/__init__.py": "import time\ntime.sleep(600)\n"},
        {"max_start_seconds": 5},
        ["after 5 s"],
    ),
    "health question unanswered": ({"shop/__init__.py": ILL}, {}, ["status 500 instead of 200", "ill"]),
    "crash after fork": (
        {"shop/__init__.py": CRASH},
        {"max_start_seconds": 8},
        ["was not changed"],
    ),
    "requirement that is not to be had": (
        {"requirements.txt": "flask==0.0.0.999\n"},
        {},
        ["installing requirements.txt failed", "0.0.0.999"],
    ),
    "requirements file that is missing": (
        {},
        {"python": {"requirements": "none.txt"}},
        ["none.txt is not in the source"],
    ),
    "static directory that is missing": ({}, {"static": {"/static": "none"}}, ["static directory none"]),
    "unknown option of uWSGI": ({}, {"uwsgi": {"no-such-option": True}}, ["no-such-option"]),
    "secret in a traceback": (
        {"shop/__init__.py": "import os\nraise RuntimeError('cannot use ' + os.environ['SHOP_SECRET'])\n"},
        {},
        ["RuntimeError", "cannot use ********"],
    ),
}


@pytest.fixture(autouse=True)
def served_on(release_of, processes):
    """Whatever a test does, the release that served serves on, in the same processes."""
    release, running = release_of(), processes()
    yield
    assert release_of() == release
    assert processes() == running


@pytest.mark.parametrize("case", BROKEN)
def test_broken_release_reaches_nobody(case, variant, playbook, visitors):
    files, settings, fragments = BROKEN[case]
    broken = variant(files) | settings
    with visitors() as crowd:
        run = playbook("deploy", "-vvv", "--diff", "-e", "app=shop", variables={"flask_apps": [broken]})
    assert run.failed
    for fragment in fragments:
        assert fragment in run.error, run.error
    assert "correct horse" not in run.output, "a secret in the log"
    assert not crowd.failures, (len(crowd.failures), crowd.failures[:5])


def test_site_that_nginx_refuses_is_never_on_disk(playbook, fleet):
    site = {"name": "bad", "content": "server { listen 80; lissten 81; }"}
    run = playbook("site", variables={"nginx_sites": [site]})
    assert run.failed
    assert "lissten" in run.error
    assert "bad.conf was not changed" in run.error
    for host in fleet:
        assert not host.file("/etc/nginx/sites-enabled/bad.conf").exists
        host.check_output("nginx -t")


def test_good_run_heals_after_all_that(playbook, fleet):
    assert not playbook("site").failed
    assert playbook("site").changed == 0
    for host in fleet:
        assert host.run("ls /run/emperor/shop").stdout.split() == ["app.sock", "stats.sock"]
        assert host.run("ls -A /etc/emperor/vassals").stdout.split() == ["shop.ini"]


def test_killed_runs_leave_a_host_that_serves_and_heals(
    app, variant, start_playbook, playbook, release_of, visitors, fleet
):
    """SIGKILL of the whole run, modules on the hosts included, at random moments of a deploy."""
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    dice = random.Random(seed)
    release = release_of()
    with open(f"{app['source']['path']}/shop/pages.py", encoding="utf-8") as file:
        pages = file.read()
    with visitors() as crowd:
        for number in range(4):
            new = variant({"shop/pages.py": f"{pages}\nKILLED = {seed + number}\n"})
            process = start_playbook("deploy", "-e", "app=shop", variables={"flask_apps": [new]})
            time.sleep(dice.uniform(3, 15))
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            for host in fleet:
                host.run("pkill -KILL -u root '^python3'")  # the module at work; the Emperor's process is named uwsgi
    assert not crowd.failures, (len(crowd.failures), crowd.failures[:5])
    run = playbook("site")
    assert not run.failed, run.error
    assert playbook("site").changed == 0
    assert release_of() == release
    for host in fleet:
        assert host.run("find /srv/flask_apps/shop/releases -maxdepth 2 -name scratch -o -name '*.new'").stdout == ""
        assert host.run("ls -A /etc/emperor/vassals").stdout.split() == ["shop.ini"]
