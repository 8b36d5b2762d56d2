"""Clients of the balancer notice nothing: no deploy, no rollback, no reload of the balancer, no host that is sick."""

import http.client
import re
import time

import pytest
from load_report import noticed

SICK = "    if __import__('os').path.exists('/srv/flask_apps/shop/sick'): return Response('sick', 500)"

SPOILT = "    if request.query_string: return Response('spoilt', 500)"


@pytest.fixture(scope="module")
def rolled():
    """What the hosts served after each of the deploys: one test's end is the next one's beginning."""
    return []


def test_canary_with_too_many_errors_takes_no_other_host_with_it(
    deploy, start_playbook, release, served, clients, balancer, hosts
):
    assert "is web9, which is no host of this run" in deploy(release("canary"), options=["-e", "canary=web9"]).error
    before = served()
    with clients() as load:
        process = start_playbook(
            "deploy", "-e", "app=shop", "-e", "canary=emperor-web2",
            variables={
                "flask_apps": [release("canary", healthz=SPOILT)],
                "flask_apps_canary_seconds": 5,
                "flask_apps_canary_error_percent": 5,
                "flask_apps_fleet_on_failure": "stop",
            },
        )  # fmt: skip
        address = hosts["emperor-balancer"].check_output("hostname -I").split()[0]
        answers = []
        while process.poll() is None:
            client = http.client.HTTPConnection(address, timeout=10)
            client.request("GET", "/healthz?spoilt", headers={"Host": "shop.test"})
            answers.append(client.getresponse().status)
            client.close()
            time.sleep(0.03)  # the canary gets a small share: its start is slow
        output = process.stdout.read()
    print(output)
    assert process.returncode != 0
    assert set(answers) == {200, 500}
    said = re.search(r"(\d+) of (\d+) responses of shop on emperor-web2 were errors", output)
    assert 1 <= int(said[1]) <= answers.count(500)
    # It stays as it is, to be looked at, and gets requests.
    after = served()
    assert after.pop("emperor-web2") != before.pop("emperor-web2")
    assert after == before
    assert "shop: emperor-web1, emperor-web3 serve" in output
    assert "shop: emperor-web2 serves" in output
    assert "To bring all hosts to one release: ansible-playbook playbooks/deploy.yml -e app=shop" in output
    assert set(balancer().values()) == {"UP"}
    assert not noticed(load.report), load.report


def test_deploys_in_parallel_and_rolling_lose_no_request(
    deploy, start_playbook, release, served, clients, hosts, balancer, rolled, tmp_path
):
    checked = tmp_path / "checked"
    with clients() as load:
        run = deploy(release("parallel"))
        assert not run.failed, run.error
        rolled.append(served())
        watch = {"flask_apps_canary_seconds": 1, "flask_apps_canary_error_percent": 0}
        process = start_playbook(
            "deploy", "-e", "app=shop", "-e", "rolling=1",
            variables={
                "flask_apps": [release("rolling")], "flask_apps_canary_check": f"echo once >> {checked}",
                **watch,
            },
        )  # fmt: skip
        drained = []
        while process.poll() is None:
            drained += [[name for name, status in balancer().items() if status.startswith("DRAIN")]]
            hosts["emperor-balancer"].check_output("systemctl reload haproxy")
            time.sleep(3)
        output = process.stdout.read()
        assert process.returncode == 0, output
        rolled.append(served())
    print(load.report)
    assert not noticed(load.report), load.report
    parallel, rolling = (set(one.values()) for one in rolled)
    assert len(parallel) == len(rolling) == 1
    assert parallel != rolling
    assert checked.read_text() == "once\n"
    # One host at a time.
    assert max(len(names) for names in drained) == 1, drained
    assert set(balancer().values()) == {"UP"}


def test_sick_host_is_out_within_two_checks_and_back_when_it_is_well(
    deploy, playbook, release, clients, hosts, wait_for, balancer
):
    # One host is ahead of the others: validate and status say so.
    assert not deploy(release("sick", healthz=SICK), options=["--limit=emperor-web1"]).failed
    sick = hosts["emperor-web1"]
    with clients() as load:
        sick.check_output("touch /srv/flask_apps/shop/sick")
        # Two checks, one second between them, and what it takes to look.
        assert wait_for("emperor-web1", "DOWN") < 4
        run = playbook("status")
        assert run.failed
        assert "! emperor-web1  shop  DOWN" in run.output
        assert "check: L7STS 500" in run.output
        assert "different releases of shop" in run.output
        assert run.output.count("  here") == 2  # both addresses, at one of the balancers
        assert run.output.count("at another balancer") == 2
        sick.check_output("rm /srv/flask_apps/shop/sick")
        wait_for("emperor-web1", "UP")
        # Its share grows slowly.
        assert int(balancer("weight")["emperor-web1"]) < 100
        # It hangs: requests that it has wait, others go elsewhere.
        sick.check_output("pkill -STOP -u shop")
        assert wait_for("emperor-web1", "DOWN") < 6
        sick.check_output("pkill -CONT -u shop")
        wait_for("emperor-web1", "UP")
    print(load.report)
    assert not noticed(load.report), load.report
    run = playbook("validate")
    assert run.failed
    assert "different releases of shop" in run.error


def test_rollback_goes_to_one_release_on_all_hosts_also_where_it_was_removed(
    playbook, served, clients, hosts, rolled, balancer
):
    parallel, rolling = rolled
    with clients() as load:
        # To the release before the newest one: where it serves already, nothing happens.
        run = playbook("rollback", "-e", "app=shop")
        assert not run.failed, run.error
        assert served() == rolling
        # One host has no longer the release that is named: it is made there again.
        (wanted,) = set(parallel.values())
        hosts["emperor-web2"].check_output("rm -r /srv/flask_apps/shop/releases/%s", wanted)
        run = playbook("rollback", "-e", "app=shop", "-e", f"release={wanted}")
        assert not run.failed, run.error
    print(load.report)
    assert not noticed(load.report), load.report
    assert served() == parallel
    assert set(balancer().values()) == {"UP"}
