"""Broken releases and sites: the run says why, what served serves on, nothing is left behind.

The scenario reload_modes has more kinds of them, in every mode.
"""

import pytest

# What is wrong, the files that make it so, other settings, and what the run has to say.
BROKEN = {
    "missing callable": ({"shop/__init__.py": "VALUE = 1\n"}, {}, ["create_app"]),
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
def test_broken_release_reaches_no_client(case, app, variant, playbook, clients):
    files, settings, fragments = BROKEN[case]
    broken = variant(app, files) | settings
    with clients() as crowd:
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


def test_broken_releases_leave_nothing_behind(playbook, fleet):
    """A run with what served all the time has nothing to change; that it restarts nothing, `served_on` sees."""
    run = playbook("site")
    assert not run.failed, run.error
    assert run.changed == 0, run.output
    for host in fleet:
        place = host.check_output("basename /etc/emperor/vassals/shop.*.ini .ini")
        assert host.run("ls /run/emperor/shop").stdout.split() == [
            f"{place}.sock",
            f"{place}.stats",
        ]
        assert host.run("ls -A /etc/emperor/vassals").stdout.split() == [f"{place}.ini", "shop.limit"]
