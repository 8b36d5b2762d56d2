"""Make a table of the apps of a host, as lines of text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

DOCUMENTATION = r"""
name: status_table
short_description: A table of the apps of a host
version_added: 1.0.0
description:
  - Shows for every app its release, how it is replaced, its workers, its memory, why it has so many workers, and how
    many processes the kernel killed at its limit.
positional: _input, apps
options:
  _input:
    description: For every app what the module M(flaskops.emperor.app_status) found, in a loop over the apps.
    type: list
    elements: dict
    required: true
  apps:
    description: For every app, by its name, what the plugin M(flaskops.emperor.apps_plan) says of it.
    type: dict
    required: true
author:
  - flaskops maintainers (@flaskops)
"""

EXAMPLES = r"""
- name: Show the apps
  ansible.builtin.debug:
    msg: "{{ __flask_apps_now.results | flaskops.emperor.status_table(__flask_apps_plan.apps) }}"
"""

RETURN = r"""
_value:
  description: The lines of the table, and a line per app that explains its number of workers.
  type: list
  elements: str
"""

HEAD = ("app", "release", "reload", "workers", "memory of its share", "replaced")
MIB = 1024 * 1024


def _cells(name: str, app: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    workers = app["workers"]
    memory = "?" if now["memory"] is None else f"{now['memory'] / MIB:.0f}"
    return (
        name,
        app["current"] or "none",
        app["reload"],
        f"{now['workers']} x {workers['threads']}, busy {now['busy']}",
        f"{memory} of {workers['share']} MiB",
        str(now["replaced"]),
    )


def status_table(found: Iterable[Mapping[str, Any]], apps: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Make the table.

    :param found: the results of the module `app_status` in a loop over the apps.
    :param apps: what the plan says of each app, by its name.
    """
    rows = [(now["item"]["name"], now) for now in found]
    cells = [HEAD, *(_cells(name, apps[name], now) for name, now in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEAD))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in cells]
    for name, now in rows:
        workers = apps[name]["workers"]
        table.append(f"{name}: {workers['why']}")
        if killed := now["killed"]:
            table.append(f"{name}: the kernel killed {killed} of its processes at its limit of {workers['share']} MiB.")
    return table


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"status_table": status_table}
