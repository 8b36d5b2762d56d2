"""A host that is added gets the release of the others and then requests; weights move clients without a loss."""

import itertools
import time

from load_report import noticed

STAYING = ("emperor-web1", "emperor-web2")


def test_host_that_is_added_gets_its_share_and_emperors_with_a_new_setting_start_anew_by_turns(
    playbook, start_playbook, clients, balancer, served, apps, hosts
):
    (release,) = set(served(STAYING).values())
    emperors = {
        name: hosts[name].check_output("systemctl show --property=MainPID emperor-app@shop") for name in STAYING
    }
    known, out = [], []
    with clients() as load:
        process = start_playbook("site")
        while process.poll() is None:
            seen = balancer()
            known.append("emperor-web3" in seen)
            if known[-1]:
                assert served()["emperor-web3"] == release
            out.append([name for name, status in seen.items() if not status.startswith("UP")])
            time.sleep(0.3)
        output = process.stdout.read()
        print(output)
        assert process.returncode == 0, output
        while not int(balancer("stot")["emperor-web3"]):
            time.sleep(0.2)
        # Blue and green: all clients go over to the new one, which lacks an app.
        variables = {"weights": dict.fromkeys(STAYING, 0), "flask_apps": [apps["shop"], apps["echo"]]}
        run = playbook("site", "--limit=load_balancers", variables=variables)
        assert not run.failed, run.error
        for where in ("emperor-balancer", "emperor-balancer2"):
            assert [name for name, weight in balancer("uweight", where).items() if weight != "0"] == ["emperor-web3"]
        time.sleep(2)
        taken = balancer("stot")
        assert int(taken.pop("emperor-web3")) > 5
        assert set(taken.values()) == {"0"}, taken
    print(load.report)
    # Those that serve: never two of them at a time.
    assert [one for one, _same in itertools.groupby(filter(None, out))] == [[name] for name in STAYING]
    for name in STAYING:
        assert hosts[name].check_output("systemctl show --property=MainPID emperor-app@shop") != emperors[name]
    assert not known[0]
    assert not noticed(load.report), load.report
    assert load.report.releases == [release]
