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
positional: _input
options:
  _input:
    description:
      - For every app its C(name), C(release) and C(reload), its C(plan) by the filter C(worker_plan), and what runs
        C(now) by the module M(flaskops.emperor.app_status).
    type: list
    elements: dict
    required: true
author:
  - flaskops maintainers (@flaskops)
"""

EXAMPLES = r"""
- name: Show the apps
  ansible.builtin.debug:
    msg: "{{ __flask_apps_rows | flaskops.emperor.status_table }}"
"""

RETURN = r"""
_value:
  description: The lines of the table, and a line per app that explains its number of workers.
  type: list
  elements: str
"""

HEAD = ("app", "release", "reload", "workers", "memory of its share", "replaced")
MIB = 1024 * 1024


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    plan, now = row["plan"], row["now"]
    memory = "?" if now["memory"] is None else f"{now['memory'] / MIB:.0f}"
    return (
        row["name"],
        row["release"] or "none",
        row["reload"],
        f"{now['workers']} x {plan['threads']}, busy {now['busy']}",
        f"{memory} of {plan['share']} MiB",
        str(now["replaced"]),
    )


def status_table(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Make the table.

    :param rows: the apps, as the role's tasks in `status_app.yml` find them.
    """
    rows = list(rows)
    cells = [HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEAD))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in cells]
    for row in rows:
        table.append(f"{row['name']}: {row['plan']['why']}")
        if killed := row["now"]["killed"]:
            share = row["plan"]["share"]
            table.append(f"{row['name']}: the kernel killed {killed} of its processes at its limit of {share} MiB.")
    return table


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"status_table": status_table}
