"""Entries of the list `flask_apps`, for tests of its settings."""

from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings import apps

DIGEST = "sha256:" + "0" * 64
# Computed by the filter `worker_plan`, or not limited.
NOTHING_SET = dict.fromkeys(("processes", "minimum", "max_requests", "max_lifetime_seconds"))
NO_HOOKS: dict[str, list[str]] = {"prepare": [], "before_switch": [], "after_switch": [], "backup": [], "restore": []}
GIT = {"repo": "https://git.example.com/shop.git", "version": "v1"}


def app(**changes):
    return {"name": "shop", "app": "shop:app", "source": {"path": "."}, **changes}


def one(**changes):
    return apps.complete_apps([app(**changes)])[0]
