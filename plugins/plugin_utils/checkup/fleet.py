"""What is wrong between hosts: one app in several releases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.flaskops.emperor.plugins.plugin_utils.checkup.problem import HERE, Commands, Problem


def mixed(hosts: Mapping[str, Mapping[str, Any]], commands: Commands) -> Iterator[Problem]:
    """Apps that run in different releases.

    :param hosts: for every host the facts of its apps, by their names.
    """
    for name in sorted({name for apps in hosts.values() for name in apps}):
        where: dict[str, list[str]] = {}
        for host, apps in sorted(hosts.items()):
            if serving := apps.get(name, {}).get("release", {}).get("serving"):
                where.setdefault(serving, []).append(host)
        if len(where) > 1:
            yield Problem(
                f"The hosts run different releases of {name}: some clients see an old one.", commands.deploy(name),
                tuple(f"{release}: {', '.join(several)}" for release, several in where.items()), HERE, name,
            )  # fmt: skip
