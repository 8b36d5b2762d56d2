"""An app that locks its data: it never runs twice, and its clients wait meanwhile."""

import pytest

LOCK = """
import fcntl, pathlib
held = open(pathlib.Path.home() / "data.lock", "w")
fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
"""


@pytest.fixture
def release(app, variant):
    """A release of the app that locks its data, with more at the end of its module; and other settings."""

    def make(more, **settings):
        with open(f"{app['source']['path']}/shop/__init__.py", encoding="utf-8") as file:
            text = file.read().replace("from flask import", f"{LOCK}from flask import", 1) + more
        alone = {"reload": "exclusive", "workers": {"processes": 1, "threads": 8}}
        return variant(app | alone | settings, {"shop/__init__.py": text})

    return make


def test_app_that_locks_its_data_goes_over_without_a_failed_request(release, playbook, clients, release_of, app):
    run = playbook("deploy", "-e", "app=shop", variables={"flask_apps": [app | {"reload": "upstream"}]})
    assert not run.failed, run.error  # without a lock, on a socket of its own

    def deploy(more, **settings):
        before = release_of()
        with clients() as load:
            run = playbook("deploy", "-e", "app=shop", variables={"flask_apps": [release(more, **settings)]})
        assert not load.failures, load.failures
        return run, release_of() != before

    for more, settings in (
        ("# the first one finds no lock", {}),
        ("# the next one waits until the one before has ended", {}),
        ("# one that cannot reload in place, for its limit of processes", {"max_tasks": 600}),
    ):
        run, changed = deploy(more, **settings)
        assert not run.failed, run.error
        assert changed
    run, changed = deploy("raise RuntimeError('broken on purpose')", max_tasks=600)
    assert "did not start: RuntimeError: broken on purpose" in run.error
    assert "The earlier release serves again" in run.error
    assert not changed
    run, changed = deploy("# a second instance", reload="zerg", max_tasks=600)
    assert "another process has locked what it needs" in run.error
    assert "set `reload` to exclusive" in run.error
    assert not changed
