"""Hosts that are removed: a web host has no request left when the run ends, a balancer leaves nothing."""

from conftest import BALANCERS
from load_report import noticed


def test_web_host_that_is_removed_can_be_switched_off_at_once(playbook, clients, balancer, machines):
    with clients(long=10) as load:
        run = playbook("site", "--limit=load_balancers", variables={"load_balancer_group": "stayed"})
        machines.podman("kill", "emperor-web3")
        assert not run.failed, run.error
        for where in BALANCERS:
            assert balancer(where=where) == {"emperor-web1": "UP", "emperor-web2": "UP"}
    print(load.report)
    assert not noticed(load.report), load.report


def test_balancer_that_is_removed_leaves_nothing(playbook, hosts):
    assert "add `-e confirm=yes`" in playbook("remove", "--limit=emperor-balancer2").error
    run = playbook("remove", "--limit=emperor-balancer2", "-e", "confirm=yes")
    assert not run.failed, run.error
    host = hosts["emperor-balancer2"]
    for path in ("/etc/haproxy", "/etc/keepalived", "/etc/systemd/system/keepalived.service.d"):
        assert not host.file(path).exists
    assert not host.package("haproxy").is_installed
    assert not host.package("keepalived").is_installed
    assert "10.88.222." not in host.check_output("ip -oneline address show")
    assert "10.88.222." in hosts["emperor-balancer"].check_output("ip -oneline address show")
