"""What can be seen of an app's instances without touching anything."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils import host
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal import health
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.health import Unhealthy
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.slots import Slot
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.store import App


def problem(app: App, slot: Slot) -> str:
    """Why an instance does not pass its health check; empty when it does."""
    config = slot.config
    if config is None:
        return "its vassal file is gone"
    try:
        for sock in slot.sockets(config):
            health.check(app, sock, config.generation)
    except Unhealthy as reason:
        return str(reason)
    return ""


def observe(params: Mapping[str, Any]) -> dict[str, Any]:
    """Look at an app.

    :param params: ``name``, ``directory``, ``run``, ``link``, ``upstream``, ``health_path``, ``health_status``,
        ``health_host`` and ``patience`` (seconds for an answer).
    :returns: ``slots`` that are taken, the older first, each with its ``slot``, ``digest``, ``generation`` and
        ``problem``; ``unfinished``: whether a switch was neither committed nor rolled back, or a killed run left files;
        ``serving``: where the link leads; ``release``: what the newest instance runs; ``upstream_right``; ``limit`` in
        bytes, 0 for none; ``limit_held``; ``confined``.
    """
    app = App({**params, "start_timeout": params["patience"], "release": "", "size": "", "memory_limit": 0})
    taken = app.taken
    kept = host.read(app.limit) or "0"
    newest = taken[-1].config if taken else None
    return {
        "slots": [
            {
                "slot": slot.slot,
                "digest": slot.digest,
                "generation": config.generation if (config := slot.config) else "",
                "problem": problem(app, slot),
            }
            for slot in taken
        ],
        "unfinished": app.before is not None or bool(app.leftovers) or len(app.others) > 0,
        "serving": app.leads_to,
        "release": (newest.environment.get("RELEASE_ID") or os.path.basename(app.leads_to)) if newest else "",
        "upstream_right": app.reached,
        "limit": int(kept) if kept.isdigit() else 0,
        "limit_held": app.holds(kept) if kept != "0" else True,
        "confined": app.confined,
    }
