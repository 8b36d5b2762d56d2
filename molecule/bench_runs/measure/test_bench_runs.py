"""Seconds, tasks and memory of Ansible for the runs of an operator, and of a peer's deploy beside ours."""

import json
import os
import re
import shutil
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import NamedTuple

import pytest
from scale import Memory, computed

PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
RUNS = Path(os.environ["RUNS"])
KEPT, PAGE = PROJECT / "docs/runs.json", PROJECT / "docs/runs.md"
BEGIN, END = "<!-- measured:begin -->", "<!-- measured:end -->"
# The peer: a role of Galaxy that copies a release to a directory of its own and changes a link to it.
PEER = "ansistrano.deploy"
ROLES = PROJECT / ".cache/roles"
# What is asked for on the command line: fewer rounds, fewer hosts.
ROUNDS, MOST = int(os.environ.get("BENCH_ROUNDS", "3")), int(os.environ.get("BENCH_HOSTS", "16"))
UNCHANGED, UNCHANGED_MANY = "no change: one app on one host", "no change: one app on {} hosts"
DEPLOY, DEPLOY_MANY = "deploy of changed code, same requirements", "deploy of changed code on {} hosts at once"
APPS, HOSTS = (5, 20), [hosts for hosts in (1, 2, 4, 8, 16) if hosts <= MOST]
SLOW = {8: 2, 16: 1}  # rounds with so many hosts: they take minutes, and differ less


class Run(NamedTuple):
    """One run of a playbook.

    :ivar seconds: from start to end.
    :ivar cpu: seconds of the controller's processors, its children included.
    :ivar mib: memory of the largest process.
    :ivar all_mib: memory of all processes together.
    :ivar tasks: that were executed on one host.
    :ivar changed: tasks that changed the host.
    """

    seconds: float
    cpu: float
    mib: int
    all_mib: int
    tasks: int
    changed: int


def inventory(hosts):
    """An inventory of the first hosts."""
    addresses = json.loads((RUNS / "addresses.json").read_text())[:hosts]
    given = {
        f"web{number}": {
            "ansible_host": address,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(RUNS / "id"),
            "ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR",
        }
        for number, address in enumerate(addresses, 1)
    }
    path = RUNS / f"hosts{hosts}.json"
    path.write_text(json.dumps({"webservers": {"hosts": given}}))
    return path


def run(playbook, *arguments, hosts=1, **variables):
    """Run a playbook with the checkout's own configuration, as an operator does, and say what it took."""
    kept = ("HOME", "PATH", "LANG", "ANSIBLE_HOME", "PIP_INDEX_URL", "SSL_CERT_FILE")
    environment = {name: value for name, value in os.environ.items() if name in kept}
    environment |= {"ANSIBLE_ROLES_PATH": f"{PROJECT}/roles:{ROLES}"}
    command = ["ansible-playbook", "-i", inventory(hosts), playbook, *arguments, "-e", json.dumps(variables)]
    began = time.monotonic()
    with open(RUNS / "output", "w+", encoding="utf-8") as output:
        process = subprocess.Popen(
            command, cwd=PROJECT, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        with Memory(process.pid) as memory:
            _pid, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read()
    assert process.returncode == 0, text
    recap = {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", re.search(r"^web1 .*", text, re.M)[0])}
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss // 1024, memory.most // 1024,
               recap["ok"], recap["changed"])  # fmt: skip


def apps(count, source):
    """Apps that differ in their names only."""
    return [
        {
            "name": "shop" if number == 1 else f"shop{number}",
            "source": {"path": str(source)},
            "app": "shop:create_app()",
            "python": {"requirements": "requirements.txt"},
            "static": {"/static": "shop/static"},
            "health": {"path": "/healthz"},
            "domains": [f"shop{number}.test"],
            "workers": {"processes": 1, "threads": 2},
        }
        for number in range(1, count + 1)
    ]


@pytest.fixture(scope="module")
def source():
    """The sample app, to be changed."""
    path = RUNS / "shop"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(PROJECT / "sample_app", path)
    return path


@pytest.fixture(scope="module")
def found():
    """What was measured. Rows that were not measured this time stay, if it was on the same machine."""
    kept = json.loads(KEPT.read_text())
    runs: dict = {}
    yield runs
    where = machine()
    today = where.pop("date")
    kept["runs"] = (kept["runs"] if kept["machine"] == where else {}) | {
        name: one | {"date": today} for name, one in runs.items()
    }
    kept["machine"] = where
    KEPT.write_text(json.dumps(kept, indent=1) + "\n")
    before, _begin, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{table(kept)}\n{END}{rest.partition(END)[2]}")


def machine():
    """When and where it was measured."""
    cpus = re.findall(r"^model name[^:]*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    version = subprocess.check_output(["ansible", "--version"], text=True).splitlines()[0]
    return {"date": datetime.now(UTC).date().isoformat(), "processors": len(cpus), "model": cpus[0], "ansible": version}


def table(kept):
    """The figures as tables of Markdown."""
    where, runs = kept["machine"], kept["runs"]
    lines = [
        f"Measured on {where['processors']} processors ({where['model']}), which Ansible shares with the hosts, all"
        f" containers; {where['ansible']}. Each figure is the median of as many runs as the last column says.",
        "",
        "| run | seconds | of which Ansible's processor time | tasks on a host | all processes | date | runs |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, one in runs.items():
        memory = f"{one['all_mib']:.0f} MiB" if "all_mib" in one else ""
        figures = f"{one['seconds']:.1f} | {one['cpu']:.1f} | {one['tasks']:.0f} | {memory}"
        lines.append(f"| {name} | {figures} | {one['date']} | {one['times']} |")

    def points(alone, many, figure):
        rows = {1: alone} | {hosts: many.format(hosts) for hosts in HOSTS[1:]}
        return [(hosts, runs[name][figure]) for hosts, name in rows.items() if figure in runs.get(name, {})]

    unchanged, deploy = points(UNCHANGED, UNCHANGED_MANY, "cpu"), points(DEPLOY, DEPLOY_MANY, "cpu")
    return "\n".join(lines + computed(unchanged, deploy))


def middle(runs):
    """The median of each figure, and of how many runs."""
    return {name: median(getattr(one, name) for one in runs) for name in Run._fields} | {"times": len(runs)}


def several(action, hosts=1):
    """The same again and again."""
    return [action() for _time in range(min(ROUNDS, SLOW.get(hosts, ROUNDS)))]


def change(source):
    """Another release with the same requirements."""
    (source / "release.txt").write_text(f"{time.time_ns()}\n")


def unchanged(count, hosts, source):
    """A run of site.yml for which there is nothing to do."""
    one = run("playbooks/site.yml", hosts=hosts, flask_apps=apps(count, source))
    assert one.changed == 0
    return one


def test_first_run_on_a_bare_host(source, found):
    first = run("playbooks/site.yml", flask_apps=apps(1, source))
    found["a bare host, one app, downloads included"] = middle([first])


def test_run_without_a_change(source, found):
    found[UNCHANGED] = middle(several(lambda: unchanged(1, 1, source)))


def test_deploy_and_rollback_in_turn_with_the_peer(source, found):
    ours, back, theirs = [], [], []
    peer = {
        "peer": PEER,
        "ansistrano_deploy_from": f"{source}/",
        "ansistrano_deploy_to": "/srv/peer",
        "ansistrano_deploy_via": "rsync",
        "ansistrano_keep_releases": 5,
        "ansistrano_allow_anonymous_stats": False,
    }
    for _time in range(ROUNDS):
        change(source)
        ours.append(run("playbooks/deploy.yml", "-e", "app=shop", flask_apps=apps(1, source)))
        back.append(run("playbooks/rollback.yml", "-e", "app=shop", flask_apps=apps(1, source)))
        if ROLES.joinpath(PEER).is_dir():
            theirs.append(run("molecule/bench_runs/peer.yml", **peer))
    assert all(one.changed for one in ours + back + theirs)
    found[DEPLOY] = middle(ours)
    found["rollback"] = middle(back)
    if theirs:
        found[f"{PEER}: code by rsync, restart of the service, nothing checked"] = middle(theirs)


def test_hosts_without_a_change(source, found):
    run("playbooks/site.yml", hosts=HOSTS[-1], flask_apps=apps(1, source))
    for hosts in HOSTS[1:]:
        found[UNCHANGED_MANY.format(hosts)] = middle(several(lambda hosts=hosts: unchanged(1, hosts, source), hosts))


def test_deploy_on_all_hosts_at_once(source, found):
    def deploy(hosts):
        change(source)
        one = run("playbooks/deploy.yml", "-e", "app=shop", hosts=hosts, flask_apps=apps(1, source))
        assert one.changed
        return one

    # From the most to the fewest: those that are left out have an older release, and nobody compares them.
    for hosts in reversed(HOSTS[1:]):
        found[DEPLOY_MANY.format(hosts)] = middle(several(lambda hosts=hosts: deploy(hosts), hosts))


@pytest.mark.parametrize("count", APPS)
def test_apps_without_a_change(count, source, found):
    run("playbooks/site.yml", flask_apps=apps(count, source))
    found[f"no change: {count} apps on one host"] = middle(several(lambda: unchanged(count, 1, source)))
