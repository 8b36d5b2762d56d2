"""Several apps on a host: each answers for its domains, sees nothing of the others, and comes and goes unnoticed."""

import copy
import json
import os
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from guarded import Watch, serving

ASK = """
import http.client, json, sys
connection = http.client.HTTPConnection("127.0.0.1", timeout=40)
connection.request("GET", sys.argv[2], headers={"Host": sys.argv[1]})
answer = connection.getresponse()
print(json.dumps([answer.status, answer.read().decode("utf-8", "replace")]))
"""
WRAPPER = "/usr/local/libexec/emperor-wrapper"
OTHERS = ("shop", "blog", "wiki")


def ask(host, domain, path):
    return json.loads(host.check_output("python3 -c %s %s %s", ASK, domain, path))


def requests_of(host, name):
    """How many requests the workers of an app have answered, as uWSGI counts them."""
    read = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print(s.makefile().read())"
    place = host.check_output(f"cd /etc/emperor/vassals && ls {name}.*.ini").removesuffix(".ini")
    statistics = host.check_output("python3 -c %s %s", read, f"/run/emperor/{name}/{place}.stats")
    return sum(worker["requests"] for worker in json.loads(statistics)["workers"])


def processes(fleet, *users):
    """The processes of some users on each host, with their start times."""
    command = "ps -o pid,lstart,args -u " + ",".join(users)
    return {host.backend.name: host.check_output(command) for host in fleet}


@pytest.fixture(scope="module")
def apps():
    scenario = Path(__file__).parents[1].joinpath("molecule.yml").read_text()
    variables = yaml.safe_load(os.path.expandvars(scenario))["provisioner"]["inventory"]["group_vars"]["webservers"]
    return variables["flask_apps"]


@pytest.fixture
def changed(apps):
    """The list of apps with one of them changed."""

    def change(which, **changes):
        several = copy.deepcopy(apps)
        for app in several:
            if app["name"] == which:
                app.update(changes)
        return several

    return change


@pytest.mark.parametrize(
    ("domain", "name"),
    [
        ("blog.example.com", "blog"),
        ("any.blog.example.com", "blog"),
        ("wiki.example.com", "wiki"),
        ("unknown.example.org", "shop"),
    ],
)
def test_domain_leads_to_its_app(host, domain, name):
    status, body = ask(host, domain, "/version")
    assert status == 200
    assert f"/srv/flask_apps/{name}/releases/" in body


def test_app_from_a_package_answers_and_its_assets_come_from_nginx(host):
    assert "WSGI Information" in ask(host, "info.example.com", "/")[1]
    lines = host.check_output("wc -l < /srv/flask_apps/info/current/src/werkzeug/debug/shared/style.css")
    status, body = ask(host, "info.example.com", "/assets/style.css")
    assert status == 200
    assert body.count("\n") == int(lines)
    before = requests_of(host, "info")
    ask(host, "info.example.com", "/assets/style.css")
    assert requests_of(host, "info") == before, "Python served an asset"
    ask(host, "info.example.com", "/")
    assert requests_of(host, "info") == before + 1, "the count itself is wrong"


def test_release_knows_what_it_was_made_of(host):
    labels = host.check_output("cat /srv/flask_apps/*/current/release.json")
    assert "werkzeug==3.1.9" in labels
    assert "wiki.tar.gz" in labels
    commit = json.loads(host.check_output("cat /srv/flask_apps/blog/current/release.json"))["label"]
    assert len(commit) == 40, "the commit of the tag"


@pytest.mark.parametrize("secret", [
    "cat /etc/emperor/vassals/shop.*.ini",
    "cat /srv/flask_apps/shop/current/src/shop/__init__.py",
    "ls /srv/flask_apps/shop/shared",
    "ls /run/emperor/shop",
    "python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect(\"/run/emperor-sockets/shop/app.sock\")'",
    "cat /proc/$(pgrep -u shop -n)/environ",
    "kill -0 $(pgrep -u shop -n)",
])  # fmt: skip
def test_app_cannot_look_into_another(host, secret):
    assert host.run("setpriv --reuid=blog --regid=blog --clear-groups sh -c %s", secret).rc != 0
    assert host.run("setpriv --reuid=shop --regid=shop --clear-groups sh -c %s", secret).rc == 0, (
        "the probe itself is wrong"
    )


# Each app has its own.
SHARED = ("/tmp", "/var/tmp", "/dev/shm")


def inside(host, app):
    """The command in front of one that sees what a worker of the app sees, as its user."""
    pid = host.check_output(f"pgrep -u {app} -o")
    return f"nsenter --mount --target={pid} setpriv --reuid={app} --regid={app} --clear-groups"


def test_nothing_gets_out_of_a_worker(fleet):
    """From inside a worker of blog; while it has as many processes as it may, workers of shop come and go."""
    for host in fleet:
        others = host.check_output("pgrep -u shop")
        host.check_output(f"{inside(host, 'shop')} touch {' '.join(f'{one}/of-shop' for one in SHARED)}")
        with ThreadPoolExecutor() as pool:
            told = pool.submit(ask, host, "blog.example.com", "/probe")
            while not told.done():
                assert ask(host, "shop.example.com", "/healthz")[0] == 200
        status, body = told.result()
        assert status == 200, body
        found = json.loads(body)
        print(json.dumps(found, indent=1))
        sides = host.check_output("ls /run/emperor-sockets/*/sides")
        assert sides.count("side.pages.") == 2, "the probe itself is wrong"
        assert len(found["out"]) + len(found["held"]) > 70, "the probe itself is wrong"
        assert found["out"] == []
        assert host.check_output("pgrep -u shop") == others


@pytest.mark.parametrize("place", ["build", "hook", "trial", "command"])
def test_nothing_gets_out_of_what_runs_code_of_an_app_beside_it(place, host):
    if place == "command":
        host.check_output("emperor-run blog sh -c 'python probe.py command $HOME'")
    where = "current/src" if place == "build" else "shared"
    found = json.loads(host.check_output(f"cat /srv/flask_apps/blog/{where}/probe-{place}.json"))
    print(json.dumps(found, indent=1))
    assert len(found["out"]) + len(found["held"]) > (35 if place == "build" else 70), "the probe itself is wrong"
    assert found["out"] == []


@pytest.mark.parametrize("app", OTHERS)
def test_all_that_runs_of_an_app_is_in_its_slice(app, host):
    found = set(host.check_output(f"ps --no-headers -u {app} -o slice").split())
    assert f"emperor-{app}.slice" in found
    assert found <= {f"emperor-{app}.slice", f"emperor-{app}-side.slice"}
    assert f"/emperor.slice/emperor-{app}.slice/" in host.check_output(f"emperor-run {app} cat /proc/self/cgroup")


def exposure(host, unit):
    """What systemd says of a unit: 0 is nothing allowed, 10 is everything."""
    told = host.check_output(f"systemd-analyze security --no-pager {unit}")
    print(told)
    return float(re.search(r"exposure level for \S+: ([0-9.]+)", told)[1])


@pytest.mark.parametrize(
    ("unit", "most"),
    [("nginx", 4.0), ("emperor", 1.1), ("emperor-app@shop", 1.6), ("emperor@shop", 2.0), ("emperor-memory-guard", 2.0)],
)
def test_unit_may_do_little(host, unit, most):
    assert exposure(host, f"{unit}.service") <= most


def test_command_of_an_app_may_do_little(host):
    host.check_output("(emperor-run blog sleep 600 > /dev/null 2>&1 < /dev/null &)")
    running = "systemctl list-units --plain --no-legend --state=running 'run-*.service' | cut -d' ' -f1"
    end = time.monotonic() + 60
    while not (unit := host.check_output(running)):
        assert time.monotonic() < end
        time.sleep(0.2)
    found = exposure(host, unit)
    host.check_output(f"systemctl stop {unit}")
    assert found <= 2.0


def test_nginx_runs_in_its_sandbox(host):
    pid = host.check_output("systemctl show -P MainPID nginx")
    mounts = host.file(f"/proc/{pid}/mounts").content_string
    assert any(line.split()[1] == "/" and "ro" in line.split()[3].split(",") for line in mounts.splitlines())
    before = host.file("/var/log/flask_apps/shop/access.log").size
    ask(host, "shop.example.com", "/healthz")
    end = time.monotonic() + 10  # it writes its log once a second
    while host.file("/var/log/flask_apps/shop/access.log").size == before:
        assert time.monotonic() < end
        time.sleep(0.2)


def planted(place):
    return f"planted-secret-{place}"


SECRETS = {
    "environment": {"NEW": "1", "KEY": planted("environment")},
    "files": [{"path": "~/.config/info.toml", "content": f"key = '{planted('file')}'"}],
    "build": ["sh -c 'test -n \"$BUILD_KEY\"'"],
    "build_environment": {"BUILD_KEY": planted("build-environment")},
    "build_credentials": [{"host": "git.test", "user": "robot", "password": planted("build-credentials")}],
    # It has the environment, too.
    "schedule": {"never": {"command": "true", "calendar": "2099-01-01"}},
}
INDEX = ["--extra-index-url", f"https://robot:{planted('index')}@index.test/simple"]


@pytest.fixture
def guarded(apps):
    """The apps with their sources on a server that wants a password, or a token."""
    sources = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"], "sources")
    subprocess.run(["git", "-C", sources / "blog.git", "update-server-info"], check=True)
    with serving(sources, "robot", planted("git"), planted("query")) as place:
        git = {"repo": f"http://robot:{planted('git')}@{place}/blog.git", "version": "v1"}
        url = f"http://{place}/wiki.tar.gz?token={planted('query')}"
        yield {"blog": {"git": git}, "wiki": {"archive": {**apps[2]["source"]["archive"], "url": url}}}


def check_that_nobody_reads_the_secrets(host, run):
    assert "planted-secret" not in run.output
    assert "apps_state" in run.output, "the output does not say what was done"
    places = "/etc /srv /run /var /opt /tmp /usr/local /dev/shm"
    assert len(host.check_output(f"grep -rlsI planted-secret {places}").splitlines()) >= 2, "the search itself is wrong"
    nobody = "setpriv --reuid=nobody --regid=nogroup --clear-groups"
    assert host.run(f"{nobody} grep -rlsI planted-secret {places}").stdout == ""
    assert "planted-secret" not in host.check_output("journalctl --no-pager --since=-1h")


def test_changing_one_app_leaves_the_others_alone_and_shows_no_secret(fleet, playbook, changed, guarded):
    before = processes(fleet, *OTHERS)
    files = " ".join(f"{one}/kept" for one in SHARED)
    for host in fleet:
        host.check_output(f"{inside(host, 'info')} touch {files}")
    apps = changed("info", **SECRETS, workers={"processes": 2, "threads": 2})
    apps = [{**app, "source": guarded.get(app["name"], app["source"])} for app in apps]
    with Watch(b"planted-(secret|control)") as watch:
        run = playbook("site", "-vvv", "--diff", variables={"flask_apps": apps, "uwsgi_pip_arguments": INDEX})
        fleet[0].check_output("sh -c 'sleep 1' planted-control")
    assert not run.failed, run.error
    assert [one for one in watch.seen if "planted-secret" in one] == [], "a secret in the list of processes"
    assert watch.seen, "the look at them itself is wrong"
    assert processes(fleet, *OTHERS) == before
    for host in fleet:
        check_that_nobody_reads_the_secrets(host, run)
        assert host.check_output("ls /etc/emperor/vassals/info.*.ini").endswith("green.ini"), "no new instance"
        host.check_output(f"{inside(host, 'info')} ls {files}")
        assert exposure(host, "emperor-side-info.never.service") <= 2.0


def test_renaming_an_app_leaves_the_others_alone_and_no_trace(fleet, playbook, changed):
    before = processes(fleet, *OTHERS)
    renamed = changed("info", name="echo")
    run = playbook("site", variables={"flask_apps": [*renamed, {"name": "info", "state": "absent"}]})
    assert not run.failed, run.error
    assert processes(fleet, *OTHERS) == before
    for host in fleet:
        assert "WSGI Information" in ask(host, "info.example.com", "/")[1]
        assert "/srv/flask_apps/echo/" in host.check_output("ps -u echo -o args")
        assert traces(host, "info") == []


def traces(host, name):
    """Whatever is left of an app: files, account, processes."""
    found = []
    for place in (
        "/srv/flask_apps",
        "/run/emperor",
        "/run/emperor-sockets",
        "/etc/emperor/vassals",
        "/etc/nginx/sites-enabled",
        "/etc/tmpfiles.d",
        "/etc/systemd/system",
        "/etc/systemd/system.control",
        "/tmp",
        "/var/tmp",
    ):
        found += [f"{place}/{one}" for one in host.file(place).listdir() if name in one]
    found += host.run("grep -E %s /etc/passwd /etc/group /etc/shadow", f"^{name}:").stdout.splitlines()
    return found + host.run(f"pgrep -u {name}").stdout.split()


def test_removing_an_app_leaves_the_others_alone_and_no_trace(fleet, playbook, changed):
    before = processes(fleet, *OTHERS)
    assert all(len(traces(host, "echo")) > 8 for host in fleet), "the search for traces itself is wrong"
    run = playbook("site", variables={"flask_apps": [*changed("info")[:-1], {"name": "echo", "state": "absent"}]})
    assert not run.failed, run.error
    assert processes(fleet, *OTHERS) == before
    for host in fleet:
        assert traces(host, "echo") == []
        assert "/srv/flask_apps/shop/" in ask(host, "info.example.com", "/version")[1], "its domain is nobody's now"


def test_validate_tells_a_host_that_serves_from_one_that_does_not(fleet, playbook, apps):
    three, host = {"flask_apps": apps[:-1]}, fleet[0]
    host.check_output("chmod 0700 /run/emperor-sockets/wiki")
    run = playbook("validate", variables=three)
    host.check_output("chmod 0711 /run/emperor-sockets/wiki")
    assert run.failed
    assert "wiki" in run.output
    assert not playbook("validate", variables=three).failed


def test_remove_leaves_the_host_as_it_was(fleet, playbook, apps):
    run = playbook("remove", variables={"flask_apps": apps})
    assert run.failed, "data was lost without a question"
    assert "confirm=yes" in run.error
    run = playbook("remove", "-e", "confirm=yes", variables={"flask_apps": apps})
    assert not run.failed, run.error
    for host in fleet:
        for path in (
            "/srv/flask_apps",
            "/etc/emperor",
            "/opt/emperor",
            "/run/emperor",
            "/run/emperor-sockets",
            "/etc/nginx",
            WRAPPER,
        ):
            assert not host.file(path).exists
        assert not host.package("nginx").is_installed
        assert host.run("pgrep -a '^(uwsgi|nginx)'").stdout == ""
        assert host.run("getent passwd shop blog wiki info echo").stdout == ""
        assert host.run("systemctl list-unit-files --no-legend 'emperor*'").stdout == ""
        assert host.run("ls /etc/tmpfiles.d").stdout == ""
    assert not playbook("remove", "-e", "confirm=yes", variables={"flask_apps": apps}).failed, "a second removal fails"
