"""What an app may reach over the network."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils.host import NETWORKS
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import fail


def network(app: Mapping[str, Any], where: str) -> str:
    """What an app may reach, as the function `network` of `host` takes it.

    :raises Refused: for what is no address.
    """
    kind = app.get("network") or "full"
    if kind not in NETWORKS:
        fail(f"{where}.network", f"is {kind!r}, but must be full, local or none.")
    besides = []
    for address in app.get("allowed_addresses") or []:
        try:
            if "%" in str(address):  # to Python any text may follow
                raise ValueError("systemd knows no zones")
            besides.append(ipaddress.ip_network(str(address)).compressed)
        except ValueError as error:
            fail(
                f"{where}.allowed_addresses",
                f"has {address!r}, which cannot be used ({error}): write addresses or networks, like 10.0.3.7 or "
                "10.0.3.0/24; names are not possible.",
            )
    return " ".join([kind, *dict.fromkeys(besides)])
