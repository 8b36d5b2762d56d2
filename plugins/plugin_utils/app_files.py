"""The directories and files of an app on a host, as they should be."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.site import data_directories


def files(app: Mapping[str, Any], web_group: str) -> list[dict[str, str]]:
    """Directories of an app, and the file that lets systemd make the one of its sockets at boot."""
    name, paths = app["name"], app["paths"]

    def directory(path: str, mode: str, owner: str = "root", group: str = name) -> dict[str, str]:
        return {"path": path, "state": "directory", "owner": owner, "group": group, "mode": mode}

    data = data_directories(app)
    return [
        # Passing through is open to nginx, for the static files; listing and reading is not.
        directory(paths["home"], "0751"),
        directory(paths["releases"], "0751"),
        directory(paths["static"], "0751"),
        # Where nginx delivers files of the app's data, it may pass through, too.
        directory(paths["shared"], "0710" if data else "0700", owner=name, group=web_group if data else name),
        # Files made in these get nginx's group (set-group-id).
        *(directory(f"{paths['shared']}/{one}", "2750", owner=name, group=web_group) for one in data),
        # Files made in it get nginx's group (set-group-id), which the app itself is not in.
        directory(paths["run"], "2710", owner=name, group=web_group),
        # nginx may use the sockets of all apps, so no app may put one, or a link, where nginx connects.
        directory(os.path.dirname(paths["socket"]), "0711", group="root"),
        # For nginx, whose master makes the log and whose workers open it again when it was rotated.
        directory(paths["log"], "0750", group=web_group),
        {
            "path": f"/etc/tmpfiles.d/emperor-{name}.conf",
            "content": f"# Ansible managed\nd {paths['run']} 2710 {name} {web_group}\n"
            # nginx does not start without it, also where /var/log is a new one at every boot.
            f"d {paths['log']} 0750 root {web_group}\n",
            "owner": "root",
            "group": "root",
            "mode": "0644",
        },
    ]


def digest(text: str) -> str:
    """The digest of a text, as the host tells it of a file."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def as_wanted(entry: Mapping[str, str], found: Mapping[str, Any] | None) -> bool:
    """Whether a file or directory is as its entry says."""
    if found is None or any(found[key] != entry[key] for key in ("owner", "group", "mode")):
        return False
    if entry.get("state") == "directory":
        return bool(found["kind"] == "directory")
    return bool(found["kind"] == "file" and found["digest"] == digest(entry["content"]))
