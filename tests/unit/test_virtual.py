"""Addresses that load balancers share: each of them gets its priority, and what does not go together is refused."""

import pytest
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.virtual import complete_virtual

PAIR = {"lb1": "10.0.0.1", "lb2": "10.0.0.2"}
SETTINGS = {"virtual_addresses": ["10.0.0.9/24", "fd00::9/64"], "virtual_router": 51, "balancers": PAIR}


def test_order_of_the_balancers_is_that_of_their_priorities():
    first, second = complete_virtual(SETTINGS, "lb1"), complete_virtual(SETTINGS, "lb2")
    assert first["priority"] > second["priority"]
    assert first["others"] == {"lb2": "10.0.0.2"}
    assert second["others"] == {"lb1": "10.0.0.1"}


def test_addresses_of_both_kinds_are_kept_apart_as_the_system_writes_them():
    found = complete_virtual({**SETTINGS, "virtual_addresses": ["FD00:0::9/64", "10.0.0.9"]}, "lb1")
    assert found["ipv4"] == ["10.0.0.9/32"]
    assert found["ipv6"] == ["fd00::9/64"]


def test_one_balancer_without_virtual_addresses_needs_nothing():
    assert complete_virtual({**SETTINGS, "virtual_addresses": [], "balancers": {}}, "lb1") == {}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"virtual_addresses": "10.0.0.9"}, "is '10.0.0.9', but must be a list of addresses"),
        ({"virtual_addresses": ["10.0.0.300"]}, "has '10.0.0.300', but must have addresses like"),
        ({"virtual_addresses": [10]}, "has 10, but must have addresses like"),
        ({"virtual_addresses": ["10.0.0.9/24", "10.0.0.9/32"]}, "has 10.0.0.9 twice"),
        ({"virtual_addresses": ["fd00::9/64"]}, "has addresses of IPv6 only"),
        ({"virtual_addresses": ["10.0.0.2/24"]}, "has 10.0.0.2, the own address of lb2"),
        ({"virtual_router": 256}, "load_balancer_virtual_router is 256, but must be a whole number"),
        ({"balancers": {"lb1": "10.0.0.1"}}, "needs a second load balancer, but there is only lb1"),
        ({"balancers": {"lb2": "10.0.0.2"}}, "load_balancer_peers lacks lb1"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(change, sentence):
    with pytest.raises(Refused) as refusal:
        complete_virtual({**SETTINGS, **change}, "lb1")
    assert sentence in str(refusal.value)
