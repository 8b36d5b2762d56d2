"""The addresses that several load balancers share, of which one at a time has them (keepalived, VRRP)."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused, bounded, fail

WHERE = "load_balancer_virtual_addresses"
HIGHEST = 254  # priority in VRRP; 255 is of a host that owns the address by itself


def families(addresses: Sequence[Any]) -> dict[str, list[str]]:
    """The addresses, those of IPv4 apart from those of IPv6.

    :raises Refused: when one is no address, is named twice, or all are of IPv6.
    """
    found: dict[int, list[str]] = {4: [], 6: []}
    known = set()
    for given in addresses:
        try:
            one = ipaddress.ip_interface(given if isinstance(given, str) else "")
        except ValueError:
            fail(WHERE, f"has {given!r}, but must have addresses like 192.0.2.10/24.")
        if one.ip in known:
            fail(WHERE, f"has {one.ip} twice: remove one of them.")
        known.add(one.ip)
        found[one.version].append(str(one))
    if not found[4]:
        fail(WHERE, "has addresses of IPv6 only, but the balancers agree by IPv4: add an IPv4 address.")
    return {"ipv4": found[4], "ipv6": found[6]}


def complete_virtual(settings: Mapping[str, Any], me: str) -> dict[str, Any]:
    """Complete and check what keepalived needs on one balancer; empty when the balancers share no address.

    :param settings: ``virtual_addresses``, ``virtual_router``, and the ``balancers`` by name with their addresses.
    :param me: the balancer.
    :raises Refused: with one sentence that names the variable and the cure.
    """
    addresses, balancers = settings["virtual_addresses"], settings["balancers"]
    if not isinstance(addresses, list):
        fail(WHERE, f"is {addresses!r}, but must be a list of addresses like [192.0.2.10/24].")
    bounded(settings["virtual_router"], 1, 255, "load_balancer_virtual_router", "a router's number")
    if not addresses:
        return {}
    found = families(addresses)
    if me not in balancers:
        raise Refused(f"load_balancer_peers lacks {me}: name all load balancers there.")
    if not 2 <= len(balancers) < HIGHEST:
        fail(WHERE, f"needs a second load balancer, but there is only {me}: add one to the group load_balancers.")
    for given in addresses:
        for name, address in balancers.items():
            if address == str(ipaddress.ip_interface(given).ip):
                fail(WHERE, f"has {address}, the own address of {name}: choose one that no host has.")
    return {
        **found,
        "priority": HIGHEST - list(balancers).index(me),
        "others": {name: address for name, address in balancers.items() if name != me},
    }
