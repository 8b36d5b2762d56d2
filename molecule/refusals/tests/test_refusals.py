"""Every wrong setting is refused with a sentence that names the variable, and the bare host stays bare."""

import copy
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

SHOP = {
    "name": "shop",
    "source": {"path": "../sample_app"},
    "app": "shop:create_app()",
    "python": {"requirements": "requirements.txt"},
}


def shop(**changes):
    """The sample app with changes; a value of None takes the key away, `a__b` changes key b of a."""
    app = copy.deepcopy(SHOP)
    for key, value in changes.items():
        target, _separator, inner = key.partition("__")
        place, name = (app.setdefault(target, {}), inner) if inner else (app, key)
        if value is None:
            del place[name]
        else:
            place[name] = value
    return app


def apps(*several, **others):
    return {"flask_apps": list(several), **others}


GIT = {"repo": "/nowhere/at/all", "version": "main"}
ARCHIVE = {"url": "/nowhere/at/all.tar.gz", "checksum": "sha256:" + "0" * 64}
BY_DNS = {"mode": "acme", "challenge": "dns"}

# What is wrong, the variables, and what the refusal has to say.
CASES = {
    "no apps at all": ({}, ["flask_apps is not set: add it to the inventory."]),
    "apps by another name": ({"flask_app": []}, ["flask_apps is not set: flask_app is, did you mean that?"]),
    "apps are no list": ({"flask_apps": "shop"}, ["flask_apps is text, but must be a list"]),
    "unknown key": (apps(shop(procesess=4)), ["flask_apps[shop] has procesess", "choose from name, state, source"]),
    "unknown key like another": (apps(shop(domain="a.example")), ["flask_apps[shop] has domain", "mean domains?"]),
    "text in place of a list": (apps(shop(domains="a.example")), ["flask_apps[shop].domains is text", "a list"]),
    "no choice": (apps(shop(tls={"mode": "letsencrypt"})), ["flask_apps[shop].tls.mode is 'letsencrypt'", "acme."]),
    "number of words": (apps(shop(), uwsgi_open_files="many"), ["uwsgi_open_files", "int"]),
    "unknown key inside": (apps(shop(workers={"proceses": 4})), ["proceses", "workers"]),
    "no name": (apps(shop(name=None)), ["flask_apps[0] has no name: add it."]),
    "name with capitals": (apps(shop(name="Shop")), ["flask_apps[].name", "'Shop'", "lower-case"]),
    "name too long": (apps(shop(name="a" * 40)), ["flask_apps[].name"]),
    "name of a system account": (apps(shop(name="www-data")), ["flask_apps[www-data].name", "choose another"]),
    "name twice": (apps(shop(), shop(domains=["a.example"])), ["flask_apps[shop].name", "two apps"]),
    "no callable": (apps(shop(app=None)), ["flask_apps[shop].app", "module:callable"]),
    "callable without module": (apps(shop(app="create_app()")), ["flask_apps[shop].app", "module:callable"]),
    "arguments that are code": (apps(shop(app="shop:create_app(open('x'))")), ["flask_apps[shop].app", "plain values"]),
    "HTTPS by a CA without a name": (
        apps(shop(tls={"mode": "acme"})),
        ["flask_apps[shop].domains", "names to certify"],
    ),
    "wildcard that a CA cannot check by HTTP": (
        apps(shop(tls={"mode": "acme"}, domains=["*.example.com"])),
        ["flask_apps[shop].domains", "*.example.com", "set tls.challenge: dns"],
    ),
    "challenge in the DNS without a plugin": (
        apps(shop(tls=BY_DNS, domains=["*.example.com"])),
        ["certificates_acme_dns is missing", "flask_apps[shop]", "credentials"],
    ),
    "challenge in the DNS without credentials": (
        apps(shop(tls=BY_DNS, domains=["a.test"]), certificates_acme_dns={"plugin": "rfc2136"}),
        ["certificates_acme_dns.credentials is missing", "documentation of the plugin"],
    ),
    "certificate that is not there": (
        apps(shop(tls={"mode": "provided", "certificate": "none.pem", "key": "none.key"})),
        ["flask_apps[shop].tls.certificate", "none.pem", "is no file"],
    ),
    "no source": (apps(shop(source=None)), ["flask_apps[shop].source", "exactly one"]),
    "two sources": (apps(shop(source__package="shop==1")), ["flask_apps[shop].source", "path and package"]),
    "source that is not there": (
        apps(shop(source={"path": "/nowhere/at/all"})),
        ["flask_apps[shop].source", "/nowhere/at/all"],
    ),
    "git repository that is not there": (
        apps(shop(source={"git": GIT})),
        ["flask_apps[shop].source", "/nowhere/at/all"],
    ),
    "git without version": (apps(shop(source={"git": {"repo": "x"}})), ["version"]),
    "archive that is not there": (
        apps(shop(source={"archive": ARCHIVE})),
        ["flask_apps[shop].source", "/nowhere/at/all.tar.gz"],
    ),
    "archive without sound checksum": (
        apps(shop(source={"archive": {"url": "x", "checksum": "md5:1"}})),
        ["flask_apps[shop].source.archive.checksum", "sha256sum"],
    ),
    "package without version": (apps(shop(python=None, source={"package": "shop"})), ["source.package", "shop==2.1"]),
    "package with requirements": (apps(shop(source={"package": "shop==1"})), ["python.requirements", "remove it"]),
    "requirements outside the source": (
        apps(shop(python={"requirements": "../x.txt"})),
        ["python.requirements", "'..'"],
    ),
    "hashes of nothing": (
        apps(shop(python={"require_hashes": True, "requirements": "none"})),
        ["python.require_hashes", "python.requirements"],
    ),
    "interpreter without path": (
        apps(shop(python={"interpreter": "python3.13"})),
        ["python.interpreter", "/usr/bin/python3"],
    ),
    "interpreter that is not there": (
        apps(shop(python={"interpreter": "/opt/python9/bin/python9"})),
        ["flask_apps[shop].python.interpreter", "/opt/python9/bin/python9"],
    ),
    "variable with a bad name": (apps(shop(environment={"A-B": "1"})), ["flask_apps[shop].environment.A-B"]),
    "variable that is a list": (apps(shop(environment={"A": [1]})), ["flask_apps[shop].environment.A", "quotes"]),
    "variable that is a bare yes": (apps(shop(environment={"A": True})), ["flask_apps[shop].environment.A", "quotes"]),
    "variable of the role": (apps(shop(environment={"RELEASE_ID": "1"})), ["flask_apps[shop].environment.RELEASE_ID"]),
    "domain with a scheme": (apps(shop(domains=["https://a.example"])), ["flask_apps[shop].domains", "host name"]),
    "domain twice": (
        apps(shop(domains=["a.example"]), shop(name="blog", domains=["a.example"])),
        ["flask_apps[blog].domains", "a.example", "shop"],
    ),
    "two default servers": (apps(shop(), shop(name="blog")), ["flask_apps[blog].domains", "empty"]),
    "static prefix without slash": (apps(shop(static={"static": "shop/static"})), ["flask_apps[shop].static", "slash"]),
    "static outside the source": (
        apps(shop(static={"/static": "/etc"})),
        ["flask_apps[shop].static", "inside the app's source"],
    ),
    "no processes": (apps(shop(workers={"processes": -1})), ["flask_apps[shop].workers.processes", "from 1"]),
    "floor of the memory guard that says nothing": (
        apps(shop(), uwsgi_memory_guard_floor="lots"),
        ["uwsgi_memory_guard_floor is lots", "10%"],
    ),
    "memory guard that never rests": (
        apps(shop(), uwsgi_memory_guard_interval_seconds=0),
        ["uwsgi_memory_guard_interval_seconds is 0", "at least 1"],
    ),
    "processes that are no number": (apps(shop(workers={"processes": "many"})), ["processes", "many"]),
    "unknown reload mode": (apps(shop(reload="magic")), ["flask_apps[shop].reload is 'magic'", "one of zerg"]),
    "request that never ends": (apps(shop(max_request_seconds=0)), ["flask_apps[shop].max_request_seconds", "from 1"]),
    "request longer than a stop": (
        apps(shop(max_request_seconds=300), uwsgi_stop_timeout_seconds=120),
        ["flask_apps[shop].max_request_seconds", "uwsgi_stop_timeout_seconds to at least 330"],
    ),
    "chain of one worker": (
        apps(shop(reload="chain", workers={"processes": 1})),
        ["flask_apps[shop].workers.processes", "reload: chain"],
    ),
    "body size of words": (apps(shop(max_body_size="big")), ["flask_apps[shop].max_body_size", "16m"]),
    "health path without slash": (apps(shop(health={"path": "healthz"})), ["flask_apps[shop].health.path"]),
    "option the role owns": (
        apps(shop(uwsgi={"processes": 4})),
        ["flask_apps[shop].uwsgi.processes", "workers.processes"],
    ),
    "option that cannot change": (apps(shop(uwsgi={"uid": "root"})), ["flask_apps[shop].uwsgi.uid", "remove it"]),
    "directory in which no app may write": (
        apps(shop(), flask_apps_root="/opt/apps"),
        ["flask_apps_root", "uwsgi_writable_paths"],
    ),
    "unknown app to work on": (apps(shop(), flask_apps_only=["blog"]), ["flask_apps_only", "blog", "shop"]),
    "nginx site without content": (apps(shop(), nginx_sites=[{"name": "x"}]), ["nginx_sites[x].content"]),
    "threads with Debian 12's own uWSGI": (
        apps(shop(), uwsgi_install="distro"),
        ["flask_apps[shop].workers.threads", "Debian 12", "uwsgi_install to pyuwsgi"],
    ),
    "unknown origin of uWSGI": (apps(shop(), uwsgi_install="snap"), ["uwsgi_install", "snap"]),
}


@pytest.fixture(scope="module", autouse=True)
def untouched(fleet):
    """After all refusals every host has the packages, accounts and files it had before."""
    before = [state_of(host) for host in fleet]
    yield
    for host, was in zip(fleet, before, strict=True):
        assert state_of(host) == was


def state_of(host):
    return {
        "packages": host.check_output("dpkg-query --show"),
        "accounts": host.file("/etc/passwd").content_string,
        "files": host.check_output("find /etc /opt /srv /usr/local -xdev -printf '%p %m %s %l\\n' | sort"),
        "units": host.check_output("systemctl list-unit-files --no-legend --no-pager"),
    }


@pytest.fixture(scope="module")
def refusals(tmp_path_factory):
    """What one run of site.yml says in every case: each is a host of its own, and all are the same machine."""
    project = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
    inventory = yaml.safe_load(Path(os.environ["MOLECULE_INVENTORY_FILE"]).read_text())
    machine = next(iter(sorted(inventory["all"]["hosts"].items())))[1]
    hosts = {f"case{number}": {**machine, **CASES[case][0]} for number, case in enumerate(CASES)}
    file = tmp_path_factory.mktemp("refusals") / "hosts.json"
    file.write_text(json.dumps({"webservers": {"hosts": hosts}}))
    done = subprocess.run(
        ["ansible-playbook", "-i", file, "--forks=10", project / "playbooks/site.yml"],
        cwd=project, text=True, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"},
    )  # fmt: skip
    print(done.stdout)
    recap = done.stdout.rpartition("PLAY RECAP")[2]
    said = {}
    for number, case in enumerate(CASES):
        told = re.findall(
            rf"^fatal: \[case{number}\].*?(?=^fatal: |^TASK |^PLAY |^\[ERROR\]|\Z)", done.stdout, re.M | re.S
        )
        told += re.findall(
            rf"^failed: \[case{number}\].*?(?=^failed: |^fatal: |^TASK |^PLAY |\Z)", done.stdout, re.M | re.S
        )
        counts = re.search(rf"^case{number} .*changed=(\d+) .*failed=(\d+)", recap, re.M)
        text = "".join(told).replace("''", "'")  # as YAML quotes it
        said[case] = " ".join(text.split()), counts and tuple(map(int, counts.groups()))
    return said


@pytest.mark.parametrize("case", CASES)
def test_wrong_setting_is_refused_with_its_name_and_changes_nothing(case, refusals):
    error, counts = refusals[case]
    assert counts == (0, 1), error
    for fragment in CASES[case][1]:
        assert fragment in error, error


def test_dry_run_succeeds_on_bare_hosts_and_shows_what_would_come(playbook):
    run = playbook("site", "--check", "--diff", variables=apps(shop(environment={"SHOP_SECRET": "correct horse"})))
    assert not run.failed, run.error
    assert "+app = shop:create_app()" in run.output
    assert "server unix:/srv/flask_apps/shop/upstream.sock max_fails=0;" in run.output
    assert "correct horse" not in run.output


@pytest.fixture
def intruder(fleet):
    """Another program has the port of nginx on the first host."""
    command = "systemd-run --quiet --unit=intruder --collect python3 -m http.server 80"
    fleet[0].check_output(command)
    fleet[0].check_output("timeout 30 sh -c 'until grep -q :0050 /proc/net/tcp; do sleep 0.1; done'")
    yield
    fleet[0].check_output("systemctl stop intruder")


@pytest.mark.usefixtures("intruder")
def test_port_of_another_program_is_refused_before_anything_changes(playbook):
    run = playbook("site", variables=apps(shop()))
    assert run.failed
    assert "flask_apps_http_port is 80, but on this host python3 (intruder.service) listens there" in run.error
    assert run.changed == 0, run.output


def test_untested_system_is_refused_unless_allowed(fleet, playbook):
    host = fleet[0]
    with OtherSystem(host):
        run = playbook("site", "--limit=webservers[0]", "--flush-cache", variables=apps(shop()))
        assert run.failed
        assert "Ubuntu 24.04" in run.error
        assert "nginx_allow_unproven_os" in run.error
        overridden = apps(
            shop(app="broken"),
            nginx_allow_unproven_os=True,
            uwsgi_allow_unproven_os=True,
            flask_apps_allow_unproven_os=True,
        )
        run = playbook("site", "--limit=webservers[0]", "--flush-cache", variables=overridden)
        assert "flask_apps[shop].app" in run.error, "the override does not reach the other checks"


class OtherSystem:
    """The host says for a while that it is another system."""

    def __init__(self, host):
        self.host = host

    def __enter__(self):
        self.host.check_output("cp -a /etc/os-release /run/os-release.kept")
        text = 'ID=ubuntu\nNAME="Ubuntu"\nVERSION_ID="24.04"\nVERSION="24.04 LTS"\nPRETTY_NAME="Ubuntu 24.04 LTS"\n'
        self.host.check_output("rm /etc/os-release && printf %s > /etc/os-release", text)

    def __exit__(self, *_exception):
        self.host.check_output(
            "rm /etc/os-release && cp -a /run/os-release.kept /etc/os-release && rm /run/os-release.kept"
        )
