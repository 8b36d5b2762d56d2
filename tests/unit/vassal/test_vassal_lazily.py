"""An app that opens connections while it is imported: each worker loads it itself."""

import pytest
from vassal_host import MIB

SIZE = {"total": 30 * MIB, "private": 10 * MIB, "rss": 25 * MIB, "lazy": False}

CONNECTED = (
    "connections that the app opens while it is imported and keeps open (db:5432, cache:6379) are shared by its workers"
)


@pytest.fixture
def connected(host):
    """An app with connections that its workers share unless each loads it itself. Returns the options for that."""
    host.said = lambda config: [] if ("lazy-apps", "true") in config.options else [CONNECTED, "another warning"]
    return [*map(list, host.config("1").options), ["lazy-apps", "true"]]


def test_app_whose_workers_would_share_connections_is_tried_as_each_loads_it_itself(module, host, connected, capsys):
    answer = module("1", state="trial", lazily=connected)
    assert len(host.tried) == 2
    assert answer["size"] == {**SIZE, "lazy": True}
    warned = capsys.readouterr().err
    assert "(db:5432, cache:6379) cannot be shared by workers, so each of them loads the app itself" in warned
    assert "another warning" not in warned
    again = module("1", state="trial", lazily=connected)
    assert (again["changed"], again["size"]) == (False, {**SIZE, "lazy": True})
    lazy = {"launch": host.config("1").launch, "options": connected}
    assert module("1", config=lazy, tried=answer["tried"])["changed"]
    assert len(host.tried) == 2


def test_warning_of_shared_connections_stays_when_the_user_has_decided(module, host, connected, capsys):
    assert module("1", state="trial")["size"] == SIZE
    warned = capsys.readouterr().err
    assert f"shop: {CONNECTED}" in warned
    assert "shop: another warning" in warned


def test_unknown_size_causes_no_second_trial_start(module, host, connected):
    host.memory = None  # the plan of the workers would not know of it
    assert module("1", state="trial", lazily=connected)["size"] == {}
    assert len(host.tried) == 1
