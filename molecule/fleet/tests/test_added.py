"""A host that is added gets the release of the others and then requests; weights move clients without a loss."""

import time

from load_report import noticed

STAYING = ("emperor-web1", "emperor-web2")


def test_host_that_is_added_gets_the_release_and_then_its_share_of_requests(
    playbook, start_playbook, clients, balancer, served, apps
):
    (release,) = set(served(STAYING).values())
    known = []
    with clients() as load:
        process = start_playbook("site")
        while process.poll() is None:
            known.append("emperor-web3" in balancer())
            if known[-1]:
                assert served()["emperor-web3"] == release
            time.sleep(1)
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
    assert not known[0]
    assert not noticed(load.report), load.report
    assert load.report.releases == [release]
