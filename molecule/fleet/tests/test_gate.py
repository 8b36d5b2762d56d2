"""All hosts or none: a failure on one host stops all, and afterwards every host serves the same release."""

from load_report import noticed

TRIAL = "if HOST == 'emperor-web2': raise RuntimeError('web2 lacks something')"
# Only requests through nginx have a port: the trial start passes.
SWITCH = "    if HOST == 'emperor-web3' and request.environ['REMOTE_PORT'] != '0': return Response('no', 500)"


def deploy(playbook, app, *more, **variables):
    return playbook("deploy", "-e", "app=shop", *more, variables={"flask_apps": [app]} | variables)


def test_release_that_fails_in_the_trial_start_of_one_host_touches_none(playbook, release, served, hosts):
    before = served()
    run = deploy(playbook, release("trial", lines=TRIAL))
    assert run.failed
    assert "web2 lacks something" in run.error
    assert served() == before
    (current,) = set(before.values())
    assert f"shop: emperor-web1, emperor-web2, emperor-web3 serve {current}" in run.output
    for host in hosts.values():
        assert not host.file("/run/flask_apps.json").exists, "the lock is still held"


def test_release_that_fails_after_the_switch_of_one_host_is_taken_back_on_all(
    playbook, release, served, hosts, clients
):
    before = served()
    with clients() as load:
        run = deploy(playbook, release("switch", healthz=SWITCH))
    assert not noticed(load.report), load.report
    assert run.failed
    assert "Clients of shop.test/healthz" in run.error
    assert served() == before
    (current,) = set(before.values())
    assert f"shop: emperor-web1, emperor-web2, emperor-web3 serve {current}" in run.output
    for host in hosts.values():
        assert not host.file("/run/flask_apps.json").exists, "the lock is still held"
    assert not playbook("validate").failed


def test_rollback_goes_to_one_release_on_all_hosts(playbook, release, served):
    before = served()
    assert not deploy(playbook, release("two")).failed
    assert len(set(served().values())) == 1
    # One host is ahead of the others: validate and status say so.
    run = deploy(playbook, release("three"), "--limit=emperor-web1")
    assert not run.failed, run.error
    run = playbook("validate")
    assert run.failed
    assert "different releases of shop" in run.error
    assert playbook("status").failed
    # The release before the newest one: where it serves already, nothing happens.
    ahead = served()
    run = playbook("rollback", "-e", "app=shop")
    assert not run.failed, run.error
    assert set(served().values()) == {ahead["emperor-web2"]}
    run = playbook("rollback", "-e", "app=shop")
    assert not run.failed, run.error
    assert served() == before
    # A release that one host lacks is refused before anything changes.
    run = playbook("rollback", "-e", "app=shop", "-e", f"release={ahead['emperor-web1']}")
    assert run.failed
    assert "on emperor-web2, emperor-web3, so nothing was changed" in run.error
    assert served() == before
    assert not playbook("validate").failed
