"""Deploys, rollbacks and changes of the mode, under traffic and on hosts without a processor to spare."""

import time

from modes import MODES, others


def one_instance(host, mode, instances, workers=3):
    """One vassal file, one master and its workers: memory is back to one copy."""
    found = instances(host, mode)
    assert list(found.values()) == [workers + 1], (host.backend.name, mode, found)


def nginx_workers(host):
    """They are replaced when nginx is reloaded: a request sent on a kept connection then gets no response."""
    return host.check_output("pgrep -P $(cat /run/nginx.pid)")


def test_deploys_and_rollbacks_lose_no_request(apps, variant, playbook, clients, fleet, release_of, instances):
    workers = [nginx_workers(host) for host in fleet]
    first = {mode: release_of(fleet[0], mode) for mode in MODES}
    served, moments = [first], []
    with clients() as load:
        for number in range(3):  # make soak does fifty
            new = others(apps, variant, f"deploy {number}")
            run = playbook("deploy", "-e", f"app={','.join(MODES)}", variables={"flask_apps": list(new.values())})
            assert not run.failed, run.error
            moments.append(time.time())
            served.append({mode: release_of(fleet[0], mode) for mode in MODES})
            for mode in MODES:
                assert served[-1][mode] not in [before[mode] for before in served[:-1]], "no new release"
                for host in fleet:
                    assert release_of(host, mode) == served[-1][mode]
                    one_instance(host, mode, instances)
            time.sleep(1)
        for back in (2, 1):
            run = playbook("rollback", "-e", f"app={','.join(MODES)}")
            assert not run.failed, run.error
            moments.append(time.time())
            served.append(served[back])
            for host in fleet:
                for mode in MODES:
                    assert release_of(host, mode) == served[back][mode]
                    one_instance(host, mode, instances)
            time.sleep(1)
    report = load.report
    print(report)
    assert report.window().total > 3000
    assert not report.failures, report
    assert [nginx_workers(host) for host in fleet] == workers, "nginx was reloaded"
    # A request sent after a run has ended meets its release alone, until the next run begins.
    for number, (done, release) in enumerate(zip(moments, served[1:], strict=True)):
        for host in fleet:
            for mode in MODES:
                met = report.timeline(f"{host.backend.name} {mode}", after=done)
                early = [name for name, seen in met.items() if name != release[mode] and seen.first < done + 1]
                assert not early, (number, mode, early)


def test_the_mode_changes_without_a_lost_request(apps, playbook, clients, fleet, instances):
    workers = [nginx_workers(host) for host in fleet]
    with clients(["zerg"]) as load:
        for mode in ("upstream", "graceful", "chain", "upstream", "chain", "zerg"):
            app = apps["zerg"] | {"reload": mode}
            run = playbook("deploy", "-e", "app=zerg", variables={"flask_apps": [app]})
            assert not run.failed, run.error
            for host in fleet:
                visited = host.file("/srv/flask_apps/zerg/upstream.sock").linked_to
                assert (visited != "/run/emperor-sockets/zerg/app.sock") == (mode == "upstream")
                vassal = host.check_output("cat /etc/emperor/vassals/zerg.*.ini")
                assert ("EMPEROR_SERVING" in vassal) == (mode == "chain")
                one_instance(host, "zerg", instances)
    print(load.report)
    assert not load.report.failures, load.report
    assert [nginx_workers(host) for host in fleet] == workers, "nginx was reloaded"


def test_changed_environment_loses_no_request(apps, playbook, clients, fleet):
    """In the modes that change a running instance, too."""
    modes = ["graceful", "chain"]
    changed = [apps[mode] | {"environment": {"SHOP_COLOUR": "red"}} for mode in modes]
    with clients(modes) as load:
        run = playbook("deploy", "-e", f"app={','.join(modes)}", variables={"flask_apps": changed})
    assert not run.failed, run.error
    assert not load.report.failures, load.report
    ask = "import urllib.request as u, sys; print(u.urlopen(u.Request('http://127.0.0.1/env?name=SHOP_COLOUR', "
    ask += "headers={'Host': sys.argv[1]})).read().decode())"
    for host in fleet:
        for mode in modes:
            assert '"red"' in host.check_output("python3 -c %s %s", ask, f"{mode}.test")
