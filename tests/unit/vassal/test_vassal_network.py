"""What an app may reach: wide enough for all that runs in a switch, and for nothing else after it."""

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import emperor_unit
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal import observe, states
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.config import Config
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.health import Unhealthy
from vassal_host import config


@pytest.fixture
def reaches(host, units):
    """What systemd is told of the addresses, one line each."""

    def told():
        file = units / "emperor-app@shop.service.d/app.conf"
        return file.read_text().splitlines()[3:] if file.exists() else []

    return told


LOCAL = ["IPAddressDeny=any", "IPAddressAllow=localhost"]


def test_an_app_may_reach_everything_unless_the_settings_say_otherwise(host, reaches):
    host.deploy("1")
    host.commit()
    assert reaches() == []


@pytest.mark.parametrize("reload", ["zerg", "graceful", "exclusive"])
def test_a_narrower_network_comes_after_the_switch_and_a_wider_one_before_it(host, reaches, reload):
    host.deploy("1", reload=reload)
    host.commit()
    host.deploy(content=config("2", network="local"), reload=reload)
    assert reaches() == []
    assert host.commit()
    assert reaches() == LOCAL
    assert not host.commit()
    host.deploy(content=config("3", network="none 10.0.3.7"), reload=reload)
    assert reaches() == [*LOCAL, "IPAddressAllow=10.0.3.7"]
    host.commit()
    assert reaches() == ["IPAddressDeny=any", "IPAddressAllow=10.0.3.7"]
    host.deploy("4", reload=reload)
    assert reaches() == ["IPAddressAllow=10.0.3.7"]
    host.commit()
    assert reaches() == []


@pytest.mark.parametrize("reload", ["zerg", "graceful"])
def test_a_broken_release_leaves_the_network_as_it_was(host, impatient, reaches, reload):
    host.deploy(content=config("1", network="local"))
    host.commit()
    with pytest.raises(Unhealthy):
        host.deploy("broken", reload=reload)
    assert reaches() == LOCAL
    assert not host.commit()


def test_a_killed_run_is_healed(host, kill_at, reaches):
    host.deploy(content=config("1", network="local"))
    host.commit()
    kill_at("beside", lambda: host.deploy("2"))
    assert reaches() == []
    states.roll_back(host.app())
    assert reaches() == LOCAL


def test_what_somebody_changed_by_hand_is_seen_and_put_right(host, reaches, units):
    host.deploy(content=config("1", network="local"))
    host.commit()
    looked = {**host.params, "patience": 1}
    assert observe.observe(looked)["confined"]
    (units / "emperor-app@shop.service.d/app.conf").unlink()
    assert not observe.observe(looked)["confined"]
    assert host.commit()
    assert reaches() == LOCAL


def test_a_trial_where_no_filter_works_is_refused(host, program):
    program("systemd-run", f"exit {emperor_unit.KEPT_FROM}")
    assert states.tried(host.app(), config("1", network="local"))
    program("systemd-run", "exit 0")
    assert states.tried(host.app(), config("2"))
    with pytest.raises(
        Unhealthy, match="was not changed, because systemd can keep no unit of this host from addresses"
    ):
        states.tried(host.app(), config("2", network="local"))


def test_an_app_that_is_removed_leaves_no_file(host, reaches):
    host.deploy(content=config("1", network="local"))
    host.commit()
    states.absent(host.app())
    assert reaches() == []


@pytest.mark.parametrize("told", ["", "anything", "anything 10.0.3.7"])
def test_a_vassal_file_that_was_edited_by_hand_counts_as_full(told):
    assert Config.parse(f"[launch]\nnetwork = {told}\n[uwsgi]\n").network == "full"
