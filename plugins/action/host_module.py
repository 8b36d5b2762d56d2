"""Action plugin of all modules that need nothing from this machine; meta/runtime.yml names them."""

from __future__ import annotations

from ansible.plugins.action.normal import ActionModule as Normal
from ansible_collections.flaskops.emperor.plugins.plugin_utils.host_action import HostAction


class ActionModule(HostAction, Normal):
    """Ansible's entry point: what it does for any module, but with the files that the host keeps."""
