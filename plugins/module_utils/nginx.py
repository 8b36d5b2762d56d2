"""Change files of nginx's configuration, never to something nginx would refuse, and let nginx run what is on disk."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils import configuration, host, service

ROOT = "/etc/nginx"
PID = re.compile(r"^\s*pid\s+[^;]+;", re.MULTILINE)
LOG = re.compile(r"(?<=access_log )(/[^ ;]+)")


def adapted(text: str, copy: str) -> str:
    """A file as nginx can test it in a copy: in a dry run there may be no directory for a log yet."""
    log = os.path.join(os.path.dirname(copy), "log")
    return LOG.sub(lambda found: found[1] if os.path.isdir(os.path.dirname(found[1])) else log, text)


def command(nginx: str, copy: str) -> list[str]:
    """The test of a copy. It opens the pid file it is told of: not the one of the running nginx."""
    main_file = os.path.join(copy, "nginx.conf")
    pid = os.path.join(os.path.dirname(copy), "pid")
    configuration.put(main_file, f"pid {pid};\n" + PID.sub("", host.read(main_file) or ""))
    return [nginx, "-t", "-q", "-c", main_file]


def tested(module: Any, root: str, texts: configuration.Texts) -> tuple[configuration.Texts, bool]:
    """The files that change, and whether nginx tested them. Ends the module when nginx refuses them.

    :param module: an ``AnsibleModule``.
    :param root: directory of nginx's configuration.
    """
    changes = configuration.differing(texts)
    if not changes:
        return changes, False
    nginx = module.get_bin_path("nginx", opt_dirs=["/usr/sbin"])
    if not nginx and not module.check_mode:
        module.fail_json(msg="nginx is not installed on this host: run the role flaskops.emperor.nginx first.")
    # In check mode on a bare host there is nothing to test with, nor a configuration to test.
    there = bool(nginx) and os.path.exists(os.path.join(root, "nginx.conf"))
    if there and (
        reason := configuration.fault(module, root, changes, lambda copy: command(str(nginx), copy), adapted)
    ):
        configuration.refuse(module, "nginx", changes, reason)
    return changes, there


def write(module: Any, changes: configuration.Texts) -> list[dict[str, str]]:
    """Put tested files in their places. Returns each change, as Ansible shows it."""
    diff = [
        {"before": host.read(path) or "", "after": text or "", "before_header": path, "after_header": path}
        for path, text in changes.items()
    ]
    for path, text in changes.items() if not module.check_mode else ():
        configuration.put(path, text)
    return diff


def reload(module: Any, root: str) -> list[str]:
    """Let nginx run what is on disk. Returns what was done; ends the module when it fails."""
    return service.make_current(module, "nginx.service", [root], "reload", ["nginx", "-t", "-q"])[0]


def texts(files: Iterable[Mapping[str, Any]]) -> configuration.Texts:
    """The text of every file; None for one that is to be absent."""
    return {one["path"]: one.get("content") if (one.get("state") or "present") == "present" else None for one in files}
