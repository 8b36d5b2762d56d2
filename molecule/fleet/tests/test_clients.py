"""Clients of the balancer notice nothing: no deploy, no reload of the balancer, no host that is sick."""

import time

from load_report import noticed

SICK = "    if __import__('os').path.exists('/srv/flask_apps/shop/sick'): return Response('sick', 500)"


def deploy(playbook, app, *more, **variables):
    return playbook("deploy", "-e", "app=shop", *more, variables={"flask_apps": [app]} | variables)


def test_deploys_and_a_rollback_in_parallel_and_rolling_lose_no_request(
    playbook, start_playbook, release, served, clients, hosts, balancer
):
    first = served()
    with clients() as load:
        run = deploy(playbook, release("parallel"))
        assert not run.failed, run.error
        process = start_playbook(
            "deploy", "-e", "app=shop", "-e", "rolling=1", variables={"flask_apps": [release("rolling")]}
        )
        seen = set()
        while process.poll() is None:
            seen |= set(balancer().items())
            hosts["emperor-balancer"].check_output("systemctl reload haproxy")
            time.sleep(4)
        output = process.stdout.read()
        assert process.returncode == 0, output
        rolling = served()
        run = playbook("rollback", "-e", "app=shop", "-e", f"release={first['emperor-web1']}")
        assert not run.failed, run.error
    print(load.report)
    assert not noticed(load.report), load.report
    assert len(set(rolling.values())) == 1
    assert set(rolling.values()) != set(first.values())
    assert served() == first
    assert set(balancer().values()) == {"UP"}


def test_canary_that_fails_takes_no_other_host_with_it(playbook, release, served, clients, balancer):
    before = served()
    with clients() as load:
        run = deploy(
            playbook,
            release("canary"),
            "-e",
            "canary=emperor-web2",
            flask_apps_canary_check="echo too many errors; false",
        )
    assert run.failed
    assert "too many errors" in run.error
    assert served() == before
    assert set(balancer().values()) == {"UP"}
    assert not noticed(load.report), load.report


def test_sick_host_is_out_within_two_checks_and_back_when_it_is_well(playbook, release, clients, hosts, wait_for):
    assert not deploy(playbook, release("sick", healthz=SICK)).failed
    sick = hosts["emperor-web1"]
    with clients() as load:
        sick.check_output("touch /srv/flask_apps/shop/sick")
        # Two checks, one second between them, and what it takes to look.
        assert wait_for("emperor-web1", "DOWN") < 4
        run = playbook("status")
        assert run.failed
        assert "! emperor-web1  shop  DOWN" in run.output
        assert "check: L7STS 500" in run.output
        sick.check_output("rm /srv/flask_apps/shop/sick")
        wait_for("emperor-web1", "UP")
        # It hangs: requests that it has wait, others go elsewhere.
        sick.check_output("pkill -STOP -u shop")
        assert wait_for("emperor-web1", "DOWN") < 6
        sick.check_output("pkill -CONT -u shop")
        wait_for("emperor-web1", "UP")
    print(load.report)
    assert not noticed(load.report), load.report


def test_maintenance_of_one_host_after_the_other_loses_no_request(playbook, clients, balancer):
    with clients() as load:
        command = "systemctl restart emperor && systemctl restart nginx"
        run = playbook("maintain", "-e", "do=command", variables={"command": command})
    assert not run.failed, run.error
    print(load.report)
    assert not noticed(load.report), load.report
    assert set(balancer().values()) == {"UP"}
