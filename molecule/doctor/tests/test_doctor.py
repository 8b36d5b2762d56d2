"""Faults, as operators meet them: doctor.yml names each of them in one run, and the cure that it prints works.

Faults that do not hide each other are injected together.
"""

import contextlib
import http.client
import json
import time

import pytest
from conftest import run, told

DESK, SHELF = "/srv/flask_apps/desk", "/srv/flask_apps/shelf"
SITES, VASSALS = "/etc/nginx/sites-enabled", "/etc/emperor/vassals"

# Sends requests without waiting for the answers to end.
SEND = """
import http.client, sys, threading
def ask():
    connection = http.client.HTTPConnection("127.0.0.1", timeout=60)
    try:
        body = b"x" * int(sys.argv[4]) if len(sys.argv) > 4 else None
        connection.request("POST" if body else "GET", sys.argv[1], body, headers={"Host": sys.argv[2]})
        connection.getresponse().read()
    except OSError:
        pass
several = [threading.Thread(target=ask) for _ in range(int(sys.argv[3]))]
for one in several: one.start()
for one in several: one.join()
"""

# Asks again and again, from as many threads, until it is done.
INSIST = """
import http.client, sys, threading, time
def ask():
    status = 0
    while status != 200:
        connection = http.client.HTTPConnection("127.0.0.1", timeout=60)
        try:
            connection.request("POST", sys.argv[1], headers={"Host": sys.argv[2]})
            status = connection.getresponse().status
        except OSError:
            time.sleep(0.2)
several = [threading.Thread(target=ask) for _ in range(int(sys.argv[3]))]
for one in several: one.start()
for one in several: one.join()
"""
ORDER = """
import http.client, sys
connection = http.client.HTTPConnection("127.0.0.1", timeout=60)
connection.request("POST", "/order", headers={"Host": sys.argv[1]})
print(connection.getresponse().status)
"""
# Holds the database of an app as an import does that nobody ended.
HOLD = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
time.sleep(3600)
"""

RELEASE = "$(readlink -f %s/current)"
# Name of a fault: the command that injects it, and what a problem must say of it.
FAULTS = {
    "site edited by hand": (
        f"sed -i 's/client_max_body_size .*/client_max_body_size 1k;/' {SITES}/flask_apps-desk.conf",
        "flask_apps-desk.conf differs", "client_max_body_size 1k",
    ),
    "configuration that only root may read": (
        f"chmod 0600 /etc/nginx/conf.d/flask_apps.conf {SITES}/flask_apps-shelf.conf /etc/nginx/nginx.conf",
        "conf.d/flask_apps.conf differs", "-0:0 0600",
    ),
    "data directory with a wrong owner": (f"chown root:root {DESK}/shared", "desk may not use its data", "root:root"),
    "current link on another release": (
        f"cp -a {RELEASE % SHELF} {SHELF}/releases/0123456789ab; ln -sfn releases/0123456789ab {SHELF}/current",
        "current names another release of shelf", "0123456789ab",
    ),
    "socket directory 0700": (
        "chmod 0700 /run/emperor-sockets/desk", "nginx may not use the socket of desk",
                "/run/emperor-sockets/desk is root:root 0700",
    ),
    "missing environment variable": (
        f"sed -i 's/\"DESK_KEY\": \"[^\"]*\"/\"DESK_GONE\": \"\"/' {VASSALS}/shelf.*.ini",
        "shelf cannot start without the environment variable DESK_KEY", "desk.py",
    ),
    "import error after a restart": (

                       f"mv {RELEASE % DESK}/src/drawer.py /root/ && rm -r {RELEASE % DESK}/src/__pycache__"
        " && systemctl restart emperor",
        "desk cannot start: ModuleNotFoundError: No module named 'drawer'", "changed since the release was built",
    ),
    "vassal file edited by hand": (
        f"sed -i 's/^threads = 2/threads = 3/' {VASSALS}/shelf.*.ini", ".ini differs", "-threads = 3",
    ),
    "broken file beside ours in nginx": (
        f"echo 'server {{ lisen 80; }}' > {SITES}/other.conf", "nginx refuses its configuration", "lisen",
    ),
    "virtualenv's Python gone": (
        f"ln -sfn /usr/bin/python3.99 {RELEASE % DESK}/venv/bin/python", "The Python of desk's virtualenv is gone",
        "python3.99",
    ),
    "data that belongs to somebody else": (
        f"rm -f {SHELF}/shared/note; (umask 077; echo x > {SHELF}/shared/note)",
                "shelf may not change some of its data",
        "shared/note is root:root 0600",
    ),
    "nginx stopped": ("systemctl stop nginx", "nginx does not run", "inactive"),
    "Emperor stopped": ("systemctl stop emperor", "emperor does not run", "inactive"),
    "somebody else on port 80": (
        "systemctl stop nginx && systemd-run --unit=intruder --collect python3 -m http.server 80",
        "Another program listens on port 80", "intruder.service",
    ),
    "Emperor masked": (
        "systemctl stop emperor && ln -sfn /dev/null /etc/systemd/system/emperor.service && systemctl daemon-reload",
        "emperor is masked", "masked",
    ),
    "all threads busy with slow requests": (
        f"nohup python3 -c '{SEND}' '/slow?ms=28000&token=secret' desk.test 4 >/dev/null 2>&1 & sleep 2",
        "All 4 threads of desk are busy", "GET /slow: 4 running",
    ),
    "database locked while all threads wait": (
        f"systemd-run --unit=import --collect --uid=shelf python3 -c '{HOLD}' {SHELF}/shared/desk.db && "
        "timeout 60 sh -c 'until grep -q \"WRITE .* 10737418\" /proc/locks; do sleep 0.2; done' && "
        f"systemd-run --unit=customers --collect python3 -c '{INSIST}' /order shelf.test 4 && sleep 2",
        f"The database {SHELF}/shared/desk.db of shelf is locked by another process", "import.service",
    ),
    "data disk full": (
        f"dd if=/dev/zero of={DESK}/shared/video bs=1M status=none; chown desk:desk {DESK}/shared/video; true",
        f"The disk {DESK}/shared is full. desk cannot store data", "shared/video",
    ),
    "bodies larger than the limit": (
        f"python3 -c '{SEND}' /note shelf.test 1 3000000", "larger bodies than max_body_size (1m)", "3000000 bytes",
    ),
    "release disk full": (
        f"mkdir -p {SHELF}/cache/http && dd if=/dev/zero of={SHELF}/cache/http/x bs=1M status=none; true",
        f"The disk {SHELF} is full", "cache/http/x",
    ),
    "release disk unwritable": (
        f"mount -o remount,ro {SHELF}", f"The disk {SHELF} cannot be written", "read-only",
    ),
    "workers killed at a memory limit": (
        "systemctl set-property --runtime emperor-app@desk.service MemoryMax=300M; for _ in 1 2 3 4 5; do "
        f"python3 -c '{SEND}' '/grow?mb=400' desk.test 1; "
        "journalctl --quiet --since=-1min -t desk | grep -q 'killed by signal 9' && exit; sleep 1; done; exit 1",
        "The kernel kills workers of desk at a memory limit of 300 MiB", "the kernel's limit is 300 MiB",
    ),
    "broken site of ours and a stopped nginx": (
        f"sed -i 's/server_name/server_nam/' {SITES}/flask_apps-shelf.conf; systemctl stop nginx",
        "nginx refuses its configuration", "flask_apps-shelf.conf",
    ),
    "listening socket not held": (
        "systemctl disable --now emperor@desk.socket", "systemd does not hold the listening socket of desk",
                "emperor@desk",
    ),
    "program of the Emperor changed": (
        "echo '# mine' >> /usr/local/libexec/emperor-wrapper", "emperor-wrapper differs", "-# mine",
    ),
    "nginx does not start at boot": ("systemctl disable nginx", "nginx does not start at boot", "disabled"),
    "no namespaces for apps": (
        "mkdir -p /run/systemd/system/emperor-app@.service.d && echo '[Service]\nPrivateTmp=no' "
        "> /run/systemd/system/emperor-app@.service.d/60-none.conf; systemctl daemon-reload; systemctl restart emperor",
        "Apps see the /tmp", "desk, shelf",
    ),
    "firewall": (
        "ufw allow 22/tcp && ufw --force enable", "ufw lets nobody in to port 80", "no rule",
    ),
    "site not read yet": (
        f"touch {SITES}/flask_apps-desk.conf", "nginx has not read its configuration", "flask_apps-desk.conf",
    ),
}  # fmt: skip
TOGETHER = [
    ("site edited by hand", "data directory with a wrong owner", "database locked while all threads wait"),
    ("socket directory 0700", "missing environment variable", "nginx does not start at boot"),
    ("import error after a restart", "vassal file edited by hand", "program of the Emperor changed"),
    ("broken file beside ours in nginx", "virtualenv's Python gone", "data that belongs to somebody else"),
    ("nginx stopped", "Emperor stopped", "current link on another release"),
    ("somebody else on port 80", "Emperor masked"),
    ("release disk unwritable", "workers killed at a memory limit", "site not read yet"),
    ("broken site of ours and a stopped nginx",),
    ("listening socket not held", "no namespaces for apps", "configuration that only root may read"),
    ("release disk full",),
]


def names(problem, fault):
    """Whether a problem is about a fault."""
    _command, what, evidence = FAULTS[fault]
    return what in problem["what"] and any(evidence in line for line in problem["evidence"])


def inject(machines, faults):
    for host in machines.values():
        for fault in faults:
            host.check_output(FAULTS[fault][0])


def missed(found, machines, faults):
    """The faults that no problem names, by host."""
    return [
        (host, fault)
        for host in machines
        for fault in faults
        if not any(name == host and names(problem, fault) for name, problem in found)
    ]


def order(host, app):
    """The status that an order in an app's database gets."""
    return host.check_output(f"python3 -c '{ORDER}' {app}.test")


def examine(machines, faults, doctor):
    """Inject faults; return what a run finds that names all of them. An app takes its time to fail: so twice more."""
    inject(machines, faults)
    for _turn in range(3):
        time.sleep(3)
        found = doctor()
        if not missed(found, machines, faults):
            break
    if left := missed(found, machines, faults):
        pytest.fail(f"{left} are not in {json.dumps(found, indent=1)}")  # whole: an assertion shows its middle as dots
    return found


def test_healthy_host_has_nothing_wrong(doctor):
    assert doctor() == []


@pytest.mark.parametrize("faults", TOGETHER, ids=", ".join)
def test_faults_are_named_together_and_their_cures_work(faults, machines, doctor, cure, well):
    found = examine(machines, faults, doctor)
    cure(found)
    well()


def test_what_a_person_must_decide_is_said_before_the_cure(machines, doctor, cure, well, apps, playbook):
    """All threads are busy, a client sends too much, and a disk is full of data: the cure begins with a change."""
    faults = ("bodies larger than the limit", "all threads busy with slow requests", "data disk full")
    found = examine(machines, faults, doctor)
    assert "secret" not in json.dumps(found), "a query is nobody's business"
    firsts = [problem["before"] for _host, problem in found]
    assert any("workers: {processes: 2, threads: 4}" in one for one in firsts), firsts
    assert any("max_body_size of shelf" in one for one in firsts), firsts
    assert any(f"remove or move away what {DESK}/shared need not hold" in one for one in firsts), firsts
    apps["desk"]["workers"] = {"processes": 2, "threads": 4}
    apps["shelf"]["max_body_size"] = "4m"
    for host in machines.values():
        assert order(host, "desk") == "500"
        host.check_output(f"rm {DESK}/shared/video")
    cure(found, flask_apps=list(apps.values()))
    assert doctor(flask_apps=list(apps.values())) == []
    assert [order(host, "desk") for host in machines.values()] == ["200", "200"]
    assert not playbook("site").failed
    well()


def outside(address):
    """The status that a client on another machine gets; None without an answer."""
    connection = http.client.HTTPConnection(address, timeout=3)
    with contextlib.closing(connection), contextlib.suppress(TimeoutError):
        connection.request("GET", "/healthz", headers={"Host": "desk.test"})
        return connection.getresponse().status
    return None


def test_firewall_is_told_by_the_plan_and_by_doctor(machines, addresses, doctor, cure, well, playbook):
    there = [addresses[host.backend.name] for host in machines.values()]
    assert [outside(address) for address in there] == [200, 200]
    found = examine(machines, ["firewall"], doctor)
    assert [outside(address) for address in there] == [None, None]
    shown = playbook("site")
    assert not shown.failed
    assert shown.output.count("ufw lets nobody in to port 80 of this host: run `ufw allow 80/tcp` there.") == 2
    cure(found)
    assert [outside(address) for address in there] == [200, 200]
    assert "ufw lets" not in playbook("site").output
    well()


def test_mixed_fleet_is_named_and_cured(machines, variant, apps, playbook, cure, well, doctor):
    first = next(iter(machines))
    new = variant(apps["desk"], {"drawer.py": "def put(path, text):\n    pass\n"})
    assert not playbook("deploy", "-e", "app=desk", "--limit", first, variables={"flask_apps": [new]}).failed
    found = doctor()
    (mixed,) = (problem for host, problem in found if not host)
    assert "different releases of desk" in mixed["what"]
    assert any(first in line for line in mixed["evidence"])
    code, answer = run("playbooks/status.yml")
    assert code != 0
    assert mixed["what"] in [problem["what"] for _host, problem in told(answer)]
    cure([("", mixed)])
    well()


def test_status_marks_an_app_that_is_down(machines, playbook, cure, doctor, well):
    inject(machines, ["Emperor stopped"])
    shown = playbook("status")
    assert shown.failed
    assert "DOWN" in shown.output
    assert "! emperor-debian" in shown.output
    code, answer = run("playbooks/status.yml")
    assert code != 0
    assert all(not app["running"] for one in answer["hosts"].values() for app in one["apps"].values())
    for host in machines.values():
        seen = host.run("emperor-status")
        assert seen.rc == 1
        assert seen.stdout.count("DOWN") == 2, seen.stdout
    cure(doctor())
    well()


def test_drift_lists_every_file_that_differs(machines, playbook):
    faults = ("site edited by hand", "vassal file edited by hand", "program of the Emperor changed")
    assert not playbook("validate", "-e", "drift=1").failed
    inject(machines, faults)
    shown = playbook("validate", "-e", "drift=1")
    assert shown.failed
    for _command, what, evidence in (FAULTS[fault] for fault in faults):
        assert shown.output.count(what) == len(machines), shown.output
        assert evidence in shown.output
    assert "a key that nobody may read" not in shown.output
    assert not playbook("site").failed
    assert not playbook("validate", "-e", "drift=1").failed


def test_unknown_host_name_is_named(doctor):
    found = doctor(domain="nobody.test")
    assert found
    assert all("No app has the name nobody.test: clients get 421." in problem["what"] for _host, problem in found)
    assert doctor(domain="desk.test") == []
