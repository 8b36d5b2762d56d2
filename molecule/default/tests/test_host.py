"""What a converged host is, from outside and from inside. Only reads, so that it also runs against real machines."""

import base64
import json

import pytest

GREETING = '100 % $(sure), "quoted" and ünïcode'
HOME = "/srv/flask_apps/shop"


# Hosts have no curl; Python they have.
FETCH = """
import json, sys, urllib.request, urllib.error
try:
    answer = urllib.request.urlopen(sys.argv[1], timeout=70)
except urllib.error.HTTPError as error:
    answer = error
print(json.dumps({'status': answer.status, 'headers': {k.lower(): v for k, v in answer.headers.items()},
                  'body': answer.read().decode()}))
"""


@pytest.fixture(scope="module")
def fetch(host):
    def one(path):
        return json.loads(host.check_output("python3 -c %s %s", FETCH, f"http://127.0.0.1{path}"))

    return one


@pytest.fixture(scope="module")
def version(fetch):
    return json.loads(fetch("/version")["body"])


def test_nginx_and_emperor_run_and_start_at_boot(host):
    for name in ("nginx", "emperor"):
        assert host.service(name).is_running
        assert host.service(name).is_enabled


def test_app_answers_through_nginx_and_uwsgi_from_its_release(host, fetch, version):
    answer = fetch("/healthz")
    assert answer["status"] == 200
    assert answer["headers"]["server"] == "nginx", "nginx tells its version"
    current = host.file(f"{HOME}/current").linked_to
    assert current == f"{HOME}/releases/{version['release']}"
    assert version["prefix"] == f"{current}/venv"
    assert version["uwsgi"], "Python does not run inside uWSGI"
    assert host.process.get(pid=version["pid"]).user == "shop"


def test_threads_beside_one_that_computes_get_their_turn_early(version):
    assert version["switch_interval"] == 0.002, "each of them waits 5 ms, again and again"


def test_worker_can_start_other_python_processes(fetch):
    answer = json.loads(fetch("/spawn")["body"])
    assert answer["works"], answer


def test_environment_arrives_byte_for_byte(fetch):
    answer = json.loads(fetch("/env?name=SHOP_GREETING")["body"])
    assert base64.b64decode(answer["base64"]).decode() == GREETING


def test_environment_is_readable_for_the_app_alone(host):
    (path,) = host.check_output("ls /etc/emperor/vassals/shop.*.ini").split()
    file = host.file(path)
    assert (file.user, file.mode) == ("shop", 0o400)


def test_static_files_are_served_by_nginx_itself(fetch):
    answer = fetch("/static/shop.css")
    assert answer["status"] == 200
    assert answer["headers"]["etag"], "only nginx gives this asset an ETag of time and length"
    assert "x-vassal" not in answer["headers"], "the request went to Python"
    assert fetch("/static/none.css")["status"] == 404


def test_source_is_no_static_file(fetch):
    for path in ("/static/../__init__.py", "/static/%2e%2e/__init__.py", "/static//../../requirements.txt"):
        assert fetch(path)["status"] in (400, 404)


def test_nothing_runs_as_root_but_the_master_of_nginx(host):
    mine = [one for one in host.process.filter() if "uwsgi" in one.args or "nginx" in one.args]
    assert len(mine) > 4
    assert [one.args[:13] for one in mine if one.user == "root"] == ["nginx: master"]


def test_code_belongs_to_root_and_is_hidden_from_others(host, version):
    release = f"{HOME}/releases/{version['release']}"
    for path in (f"{release}/src/shop/__init__.py", f"{release}/venv/bin/python", f"{release}/src/shop"):
        assert host.file(path).user == "root"
    assert host.file(f"{release}/src/shop/__init__.py").mode == 0o640
    assert (
        host.run("setpriv --reuid=nobody --regid=nogroup --clear-groups cat %s/src/shop/__init__.py", release).rc != 0
    )
    assert host.run("setpriv --reuid=shop --regid=shop --clear-groups touch %s/src/shop/new.py", release).rc != 0


def test_socket_is_open_to_nginx_and_app_alone(host):
    socket = "/run/emperor-sockets/shop/app.sock"
    assert host.run("setpriv --reuid=nobody --regid=nogroup --clear-groups test -w %s", socket).rc != 0
    assert host.run("setpriv --reuid=www-data --regid=www-data --clear-groups test -w %s", socket).rc == 0


def test_app_sees_a_sandbox(host, version):
    mounts = host.file(f"/proc/{version['pid']}/mounts").content_string
    assert any(line.split()[1] == "/" and "ro" in line.split()[3].split(",") for line in mounts.splitlines()), (
        "/ is writable"
    )
    status = host.file(f"/proc/{version['pid']}/status").content_string
    assert "NoNewPrivs:\t1" in status
    assert "CapEff:\t0000000000000000" in status
    # systemd hides a directory under an empty one of its own; ProtectSystem=strict alone mounts the real one there.
    home = [line.split() for line in mounts.splitlines() if line.split()[1] == "/home"]
    assert any(kind == "tmpfs" and "ro" in options.split(",") for _device, _place, kind, options, *_rest in home), home


def test_sandbox_scores_well(host):
    for unit, most in (("emperor.service", 1.2), ("emperor-app@shop.service", 1.6)):
        line = host.check_output(f"systemd-analyze security --no-pager {unit}").splitlines()[-1]
        assert float(line.split(":")[1].split()[0]) <= most, line


def test_app_logs_under_its_own_name(host):
    assert "WSGI app 0" in host.check_output("journalctl --no-pager --output=cat --identifier=shop")


def test_release_is_told_to_this_host_alone(host, fetch):
    assert fetch("/healthz")["headers"]["x-vassal"]
    address = host.check_output("hostname -I").split()[0]
    outside = host.check_output("python3 -c %s http://%s/healthz", FETCH, address)
    assert "x-vassal" not in json.loads(outside)["headers"]


def test_no_leftovers(host):
    assert host.run("ls -d /run/emperor/shop/trial* %s/bundle.tar.gz", HOME).stdout == ""
    assert host.file("/etc/nginx/sites-enabled/default").exists is False
