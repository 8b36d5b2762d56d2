"""A host that got another Python: the releases that cannot start any more are noticed, and built anew."""

HOME = "/srv/flask_apps/jobs"


def test_release_that_lost_its_python_is_noticed_and_built_anew(client, playbook, fleet):
    host, limit = fleet[1], "--limit=webservers[1]"
    release = client("jobs", 1).ask("GET", "/")
    before = host.check_output("pgrep -u jobs | sort").split()
    # As if the host's Python had been an older one when it was built.
    host.check_output(f"cd {HOME}/current/venv/lib && mv python3* python3.9")
    run = playbook("validate", limit)
    assert run.failed
    assert "The Python of jobs's virtualenv is gone" in run.error
    run = playbook("site", limit)
    assert not run.failed, run.error
    assert "jobs    the Python of release" in run.output
    assert client("jobs", 1).ask("GET", "/") == release
    assert host.run(f"cd {HOME}/current && venv/bin/python -c 'import rq'").rc == 0
    # The old worker may still be about to end.
    ending = "systemctl list-units --no-legend --state=deactivating emperor-side-jobs.*"
    host.check_output("timeout 60 sh -c %s", f"while {ending} | grep -q .; do sleep 0.2; done")
    running = host.check_output("pgrep -u jobs | sort").split()
    emperor = host.check_output("systemctl show --property=MainPID --value emperor-app@jobs.service")
    assert set(before) & set(running) == {emperor}, "what was started with the old Python still runs"
    assert not playbook("validate", limit).failed
