"""All hosts or none: a failure on one host stops all, and afterwards every host serves the same release."""

from load_report import noticed

TRIAL = "if HOST == 'emperor-web2': raise RuntimeError('web2 lacks something')"
# Only requests through nginx have a port: the trial start passes.
SWITCH = "    if HOST == 'emperor-web3' and request.environ['REMOTE_PORT'] != '0': return Response('no', 500)"


def locked(hosts):
    return [name for name, host in hosts.items() if host.file("/run/flask_apps.json").exists]


def test_release_that_fails_after_the_switch_of_one_host_is_taken_back_on_all(deploy, release, served, hosts, clients):
    before = served()
    with clients() as load:
        # The first of them has switched and gets requests when the second one fails.
        options = ["-e", "rolling=1", "--limit=emperor-web1,emperor-web3"]
        run = deploy(release("switch", healthz=SWITCH), options=options)
    assert not noticed(load.report), load.report
    assert run.failed
    assert "Clients of shop.test/healthz" in run.error
    assert served() == before
    (current,) = set(before.values())
    assert f"shop: emperor-web1, emperor-web3 serve {current}" in run.output
    assert not locked(hosts)


def test_app_that_fails_in_the_trial_start_of_one_host_touches_none_while_another_app_goes_on(
    deploy, release, served, hosts, clients, apps, variant
):
    def echo():
        where = "readlink /srv/flask_apps/echo/current"
        return {hosts[name].check_output(where) for name in ("emperor-web2", "emperor-web3")}

    before = served()
    echo_before = echo()
    with clients() as load:
        run = deploy(
            release("continue", lines=TRIAL),
            variant(apps["echo"], {"mark.txt": "continue"}),
            options=["-e", "rolling=1", "--limit=emperor-web2,emperor-web3"],
            flask_apps_on_failure="continue",
        )
    assert run.failed
    assert "Not deployed: shop" in run.error
    assert "web2 lacks something" in run.error
    assert served() == before
    (current,) = set(before.values())
    assert f"shop: emperor-web2, emperor-web3 serve {current}" in run.output
    assert len(echo()) == 1
    assert echo() != echo_before
    assert "echo: emperor-web2, emperor-web3 serve" in run.output
    assert not noticed(load.report), load.report
    assert not locked(hosts)
