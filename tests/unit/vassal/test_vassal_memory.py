"""Room for two instances, and the limit of an app's memory."""

import os

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import (
    processes,
)
from ansible_collections.flaskops.emperor.plugins.module_utils.processes import Memory
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal import (
    states,
    trial,
)
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.config import Config
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.health import Unhealthy
from vassal_host import (
    MIB,
    config,
)


def test_second_instance_needs_the_memory_of_the_trial_start_and_of_each_further_worker(host, monkeypatch):
    # 30 for the first worker and all it shares, 10 for each of three more: 60.
    content = config("1", None, "processes = 4")
    monkeypatch.setattr(processes, "available_memory", lambda: (60 + 64) * MIB)
    trial.check_memory(host.app(), content, Memory(30 * MIB, 10 * MIB, 25 * MIB))
    monkeypatch.setattr(processes, "available_memory", lambda: (60 + 64) * MIB - 1)
    with pytest.raises(Unhealthy) as refusal:
        trial.check_memory(host.app(), content, Memory(30 * MIB, 10 * MIB, 25 * MIB))
    assert str(refusal.value) == (
        "a second instance beside the running one needs about 60 MiB, but of the host's 123 MiB of available memory "
        "64 MiB must stay free (flask_apps_memory_reserve): set reload of this app to chain or graceful, or "
        "workers.processes lower, or give the host more memory"
    )
    trial.check_memory(host.app(memory_reserve=63), content, Memory(30 * MIB, 10 * MIB, 25 * MIB))


@pytest.mark.parametrize("content", [Config(), config("1", None, "processes = 1")])
def test_one_worker_needs_no_more_than_the_trial_start(content, host, monkeypatch):
    monkeypatch.setattr(processes, "available_memory", lambda: (30 + 64) * MIB)
    trial.check_memory(host.app(), content, Memory(30 * MIB, 10 * MIB, 25 * MIB))


def test_unknown_memory_refuses_no_switch(host, monkeypatch):
    monkeypatch.setattr(processes, "available_memory", lambda: 0)
    trial.check_memory(host.app(), config("1"), None)


def test_without_memory_for_two_instances_the_switch_is_refused_with_a_sentence(host, monkeypatch):
    host.deploy("1")
    host.commit()
    monkeypatch.setattr(processes, "available_memory", lambda: 100 * MIB)
    with pytest.raises(
        Unhealthy, match=r"^was not changed, because 2:app would not start: a second instance .* 40 MiB"
    ):
        host.deploy("2")
    assert os.listdir(host.params["directory"]) == ["shop.blue.ini"]


def test_memory_for_two_instances_is_needed_only_with_two(host, monkeypatch):
    monkeypatch.setattr(processes, "available_memory", lambda: 0)
    assert host.deploy("1") is True
    host.commit()
    assert host.deploy("2", reload="graceful") is True


def test_an_app_is_held_to_its_limit_from_its_start(limited, host):
    limits, _group = limited
    host.deploy("1", memory_limit=100)
    assert limits() == [100, 100]
    assert not host.commit(memory_limit=100)


def test_a_higher_limit_comes_before_the_switch_and_a_lower_one_after_it(limited, host):
    limits, _group = limited
    host.deploy("1", memory_limit=100)
    host.commit(memory_limit=100)
    host.deploy("2", memory_limit=200)
    assert limits() == [200, 200]
    host.commit(memory_limit=200)
    host.deploy("3", memory_limit=50)
    assert limits() == [200, 200]
    assert host.commit(memory_limit=50)
    assert limits() == [50, 50]


def test_a_limit_alone_is_a_change_and_no_switch(limited, host):
    limits, _group = limited
    host.deploy("1", memory_limit=100)
    host.commit(memory_limit=100)
    before = host.runs()
    assert not host.deploy("1", memory_limit=120)
    assert host.commit(memory_limit=120)
    assert limits() == [120, 120]
    assert host.runs() == before
    assert not host.commit(memory_limit=120)


@pytest.mark.parametrize("reload", ["zerg", "graceful"])
def test_a_limit_that_was_raised_for_a_broken_release_is_rolled_back(limited, impatient, host, reload):
    limits, _group = limited
    host.deploy("1", memory_limit=100)
    host.commit(memory_limit=100)
    with pytest.raises(Unhealthy):
        host.deploy("broken", reload=reload, memory_limit=120)
    assert limits() == [100, 100]
    assert not host.commit(memory_limit=100)


def test_rolled_back_first_release_leaves_no_limit(limited, host):
    limits, _group = limited
    host.deploy("1", memory_limit=100)
    states.roll_back(host.app())
    assert limits()[0] is None


def test_limit_changed_by_hand_is_repaired(limited, host):
    limits, group = limited
    host.deploy("1", memory_limit=100)
    host.commit(memory_limit=100)
    group.write_text("infinity")
    assert host.commit(memory_limit=100)
    assert limits() == [100, 100]


def test_limit_of_0_leaves_the_limit_as_it_is(limited, host):
    limits, _group = limited
    host.deploy("1", memory_limit=100)
    assert not host.commit(memory_limit=0)
    assert limits() == [100, 100]


def test_check_mode_reports_a_changed_limit(limited, module, host):
    limits, _group = limited
    module("1", memory_limit=100)
    module(state="committed", memory_limit=100)
    assert not module(state="committed", check=True, memory_limit=100)["changed"]
    assert module(state="committed", check=True, memory_limit=90)["changed"]
    assert limits() == [100, 100]


def test_absent_app_leaves_no_limit(limited, host):
    limits, _group = limited
    host.deploy("1", memory_limit=100)
    states.absent(host.app())
    assert limits()[0] is None
