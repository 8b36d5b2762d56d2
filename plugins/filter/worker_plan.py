"""Filter: the workers of one app, planned within the memory of the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings import workers
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused

DOCUMENTATION = r"""
name: worker_plan
short_description: Plan the workers of one app within the memory of the host
version_added: 1.0.0
description:
  - Tells how many processes and threads an app gets, when a worker is recycled, and why.
  - Every app has a share of the memory, which holds two copies of it, as there are during a deploy, with every worker
    as large as it may become.
  - Where the settings do not fit together or into the share, or where the workers need more processes and threads than
    the app may have, it gives one sentence that names the variable and the cure instead.
positional: _input
options:
  _input:
    description: The apps of the host, as the filter C(apps) completes them.
    type: list
    elements: dict
    required: true
  name:
    description: The app whose workers to plan.
    type: str
    required: true
  cpus:
    description: Number of processors of the host.
    type: int
    required: true
  memory:
    description: Memory of the host in MiB.
    type: int
    required: true
  reserve:
    description: MiB of memory that are for no app.
    type: int
    default: 64
  size:
    description:
      - What the app uses with one worker, as M(flaskops.emperor.vassal) measured it, in bytes, and whether each worker
        must load the app itself (C(lazy)).
      - While it is not known, an assumption for the app's profile takes its place, and nothing is
        refused for the app's size.
    type: dict
author:
  - flaskops maintainers (@flaskops)
"""

EXAMPLES = r"""
- name: Show how many workers the shop gets on a host with two processors and 2 GiB
  ansible.builtin.debug:
    msg: "{{ flask_apps | flaskops.emperor.apps | flaskops.emperor.worker_plan('shop', cpus=2, memory=2048) }}"
"""

RETURN = r"""
_value:
  description:
    - The plan, with the keys C(processes), C(threads), C(lazy_apps), C(minimum), C(step), C(max_requests),
      C(max_requests_delta), C(max_lifetime_seconds), C(max_lifetime_delta), C(recycle_rss), C(recycle_rss_delta) and
      C(share) (these three in MiB), and C(why), a sentence.
    - A limit that is not set is 0.
    - Or C(fault) alone, the sentence. An error would reach its reader behind three sentences of Ansible's.
  type: dict
"""


def worker_plan(*arguments: Any, **options: Any) -> dict[str, Any]:
    """Plan the workers of one app, see `settings.workers.worker_plan`; or why that cannot be done, as ``fault``."""
    try:
        return workers.worker_plan(*arguments, **options)
    except Refused as refusal:
        return {"fault": str(refusal)}


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"worker_plan": worker_plan}
