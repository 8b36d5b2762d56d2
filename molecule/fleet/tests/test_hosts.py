"""Hosts that go: stopped, upgraded, rebooted, killed in a deploy."""

import itertools
import json
import threading
import time
from pathlib import Path

import pytest
from load_report import noticed

BOTH = "--limit=emperor-web2,emperor-web3"  # the tests before left other releases on web1
# A repository of packages that do nothing; the new version of one needs another one.
REPOSITORY = r"""
set -e
mkdir -p /srv/repository && cd /srv/repository
make() { # make PACKAGE VERSION FIELD
  mkdir -p "build/$1-$2/DEBIAN"
  printf 'Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: tests <tests@shop.test>\n%sDescription: nothing\n' \
    "$1" "$2" "$3" > "build/$1-$2/DEBIAN/control"
  dpkg-deb --build "build/$1-$2" "$1_$2.deb" > /dev/null
}
make nothing 1 '' && make nothing 2 'Depends: nothing-new
' && make nothing-new 1 ''
dpkg --install nothing_1.deb > /dev/null
for file in nothing_2.deb nothing-new_1.deb; do
  dpkg-deb --field "$file"
  echo "Filename: ./$file"
  echo "Size: $(stat --format=%s "$file")"
  echo "SHA256: $(sha256sum "$file" | cut -d ' ' -f 1)"
  echo
done > Packages
mv /etc/apt/sources.list.d /etc/apt/sources.list.d.kept && mkdir /etc/apt/sources.list.d
[ ! -e /etc/apt/sources.list ] || mv /etc/apt/sources.list /etc/apt/sources.list.kept
echo 'deb [trusted=yes] file:/srv/repository ./' > /etc/apt/sources.list
"""
BACK = r"""
set -e
rm /etc/apt/sources.list
[ ! -e /etc/apt/sources.list.kept ] || mv /etc/apt/sources.list.kept /etc/apt/sources.list
rmdir /etc/apt/sources.list.d && mv /etc/apt/sources.list.d.kept /etc/apt/sources.list.d
dpkg --purge nothing nothing-new
"""


@pytest.fixture
def reachable(hosts, tmp_path):
    """Options that let Ansible tell a web host that is gone from one that fails: over something like ssh."""
    variables = {
        "ansible_connection": "ssh",
        "ansible_ssh_executable": str(Path(__file__).parents[1] / "ssh"),
        "ansible_ssh_transfer_method": "piped",
        "ansible_ssh_args": "",
        "ansible_user": "root",
    }
    inventory = tmp_path / "ssh.json"
    names = [name for name in hosts if "web" in name]
    inventory.write_text(json.dumps({"webservers": {"hosts": dict.fromkeys(names, variables)}}))
    return ["-i", str(inventory)]


def test_host_that_is_stopped_and_started_loses_no_request(clients, machines, wait_for):
    with clients() as load:
        machines.podman("stop", "--time=30", "emperor-web3")
        time.sleep(2)
        machines.start("emperor-web3")
        wait_for("emperor-web3", "UP", 60)
    print(load.report)
    assert not noticed(load.report), load.report


def test_request_waits_when_no_host_passes_its_health_check(clients, balancer, hosts, wait_for):
    names = list(balancer())
    with clients() as load:
        for name in names:
            hosts[name].check_output("pkill -STOP -u shop")
        for name in names:
            wait_for(name, "DOWN")
        time.sleep(1)
        for name in names:
            hosts[name].check_output("pkill -CONT -u shop")
        for name in names:
            wait_for(name, "UP")
    print(load.report)
    assert not noticed(load.report), load.report


def test_upgrade_of_one_host_after_the_other_loses_no_request(start_playbook, clients, balancer, hosts):
    # An earlier test deployed echo to these two alone, and hosts that differ fail the check.
    names, asked = ("emperor-web2", "emperor-web3"), "systemctl show --property=MainPID emperor-app@shop nginx"
    before = {name: hosts[name].check_output(asked) for name in names}
    for name in names:
        hosts[name].check_output("sh -c %s", REPOSITORY)
    out = []
    try:
        with clients() as load:
            process = start_playbook("maintain", f"--limit={','.join(names)}", "-e", "do=upgrade")
            while process.poll() is None:
                out.append([name for name, status in balancer().items() if status.startswith("DRAIN")])
                time.sleep(0.5)
            output = process.stdout.read()
            print(output)
        assert process.returncode == 0, output
        for name in names:
            assert hosts[name].package("nothing").version == "2"
            assert hosts[name].package("nothing-new").is_installed
    finally:
        for name in names:
            hosts[name].check_output("sh -c %s", BACK)
    print(load.report)
    assert not noticed(load.report), load.report
    for name in names:
        now = hosts[name].check_output(asked)
        assert set(before[name].split()).isdisjoint(now.split()), "they run with the libraries of before"
    # One host at a time is out of the balancer, in the order of the inventory.
    assert [one for one, _same in itertools.groupby(filter(None, out))] == [[name] for name in names]
    assert set(balancer().values()) == {"UP"}


def test_reboot_of_a_host_loses_no_request(start_playbook, clients, balancer, machines, reachable):
    gone, seen = [], set()
    with clients() as load:
        process = start_playbook("maintain", "--limit=emperor-web3", *reachable, "-e", "do=reboot")
        ended = threading.Event()

        def firmware():
            while not ended.wait(0.5):
                seen.add(balancer()["emperor-web3"].split()[0])
                if not machines.runs("emperor-web3"):
                    gone.append("emperor-web3")
                    machines.start("emperor-web3")

        thread = threading.Thread(target=firmware)
        thread.start()
        output, _none = process.communicate()
        ended.set()
        thread.join()
    print(output)
    print(load.report)
    assert process.returncode == 0, output
    assert len(gone) == 1
    # Not only down: the balancer was told before.
    assert "DRAIN" in seen
    assert not noticed(load.report), load.report
    assert set(balancer().values()) == {"UP"}


def test_host_killed_in_a_deploy_leaves_the_others_on_one_release_and_gets_it_when_it_is_back(
    playbook, deploy, start_playbook, release, served, clients, machines, balancer, wait_for, reachable, apps
):
    before, new = served(), release("killed")
    with clients() as load:
        process = start_playbook(
            "deploy", "-e", "app=shop", "-e", "rolling=1", BOTH, *reachable,
            variables={"flask_apps": [new]},
        )  # fmt: skip
        # The first of them is about to switch.
        wait_for("emperor-web2", "DRAIN", 120)
        killed = time.time()
        machines.podman("kill", "emperor-web3")
        gone = time.time()
        output, _none = process.communicate()
        print(output)
        assert process.returncode != 0
        alive = [name for name in before if name != "emperor-web3"]
        assert served(alive) == {name: before[name] for name in alive}
        assert f"shop: emperor-web2 serves {before['emperor-web2']}" in output
        assert "shop: emperor-web3 cannot be asked; what is there now is not known" in output
        assert "Bring emperor-web3 back, or go on without with -e allow_missing=1" in output
        # Nobody deploys to a part of the fleet by accident.
        run = deploy(new, options=[*reachable, BOTH])
        assert run.failed
        assert "emperor-web3 cannot be reached" in run.error
        assert "so nothing was changed" in run.error
        run = deploy(new, options=[*reachable, "-e", "allow_missing=1"])
        assert "emperor-web3 is left out and keeps what it has" in run.output
        (now,) = set(served(alive).values())
        assert now != before["emperor-web1"]
        machines.start("emperor-web3")
        # It gets no requests before it has the release of the others.
        assert balancer()["emperor-web3"].startswith(("DRAIN", "DOWN"))
        run = deploy(new, apps["echo"])
        assert not run.failed, run.error
    print(load.report)
    assert set(served().values()) == {now}
    assert set(balancer().values()) == {"UP"}
    # Only what was in flight on the killed host, and may not be sent twice.
    lost = noticed(load.report)
    in_flight = [one for one in lost if one.begun < gone and killed < one.at < gone + 15]
    assert not [one for one in lost if one.idempotent or one not in in_flight], load.report
    assert not playbook("validate").failed
