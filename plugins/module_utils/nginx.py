"""Change files of nginx's configuration, never to something nginx would refuse, and let nginx run what is on disk."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils import configuration, host, service

ROOT, PID_FILE = "/etc/nginx", "/run/nginx.pid"
PID = re.compile(r"^\s*pid\s+[^;]+;", re.MULTILINE)
BROTLI = re.compile(r"^\s*brotli_static\s+[^;]+;", re.MULTILINE)
BROTLI_MODULE = "modules-enabled/50-mod-http-brotli-static.conf"
LOG = re.compile(r"(?<=access_log )(/[^ ;]+)")


def adapted(text: str, copy: str) -> str:
    """A file as nginx can test it in a copy: in a dry run there may be no directory for a log yet."""
    log = os.path.join(os.path.dirname(copy), "log")
    return LOG.sub(lambda found: found[1] if os.path.isdir(os.path.dirname(found[1])) else log, text)


def command(nginx: str, copy: str, dry: bool) -> list[str]:
    """The test of a copy. It opens the pid file it is told of: not the one of the running nginx.

    :param dry: whether it is a dry run, in which the module for brotli may not be installed yet.
    """
    main_file = os.path.join(copy, "nginx.conf")
    pid = os.path.join(os.path.dirname(copy), "pid")
    text = PID.sub("", host.read(main_file) or "")
    if dry and not os.path.exists(os.path.join(copy, BROTLI_MODULE)):
        text = BROTLI.sub("", text)
    configuration.put(main_file, f"pid {pid};\n{text}")
    return [nginx, "-t", "-q", "-c", main_file]


def tested(module: Any, root: str, texts: configuration.Texts, pending: bool) -> tuple[configuration.Texts, bool]:
    """The files that change, and whether nginx tested them. Ends the module when nginx refuses them.

    :param module: an ``AnsibleModule``.
    :param root: directory of nginx's configuration.
    :param pending: whether an earlier task writes a file that these need, which a dry run lacks.
    """
    changes = configuration.differing(texts)
    if not changes:
        return changes, False
    nginx = module.get_bin_path("nginx", opt_dirs=["/usr/sbin"])
    if not nginx and not module.check_mode:
        module.fail_json(msg="nginx is not installed on this host: run the role flaskops.emperor.nginx first.")
    # In check mode on a bare host there is nothing to test with, nor a configuration to test.
    if not nginx or not os.path.exists(os.path.join(root, "nginx.conf")) or (pending and module.check_mode):
        return changes, False

    def fault(changes: configuration.Texts) -> str:
        return configuration.fault(module, root, changes, lambda copy: command(nginx, copy, module.check_mode), adapted)

    reason = fault(changes)
    if reason and module.check_mode and fault({}):
        return changes, False  # an earlier step of a real run may have corrected what is on disk
    if reason:
        configuration.refuse(module, "nginx", changes, reason)
    return changes, True


def write(module: Any, changes: configuration.Texts) -> list[dict[str, str]]:
    """Put tested files in their places. Returns each change, as Ansible shows it."""
    diff = [configuration.shown(path, text) for path, text in changes.items()]
    for path, text in changes.items() if not module.check_mode else ():
        configuration.put(path, text)
    return diff


def reload(module: Any, root: str) -> list[str]:
    """Let nginx run what is on disk. Returns what was done; ends the module when it fails."""
    return service.make_current(module, "nginx.service", [root], "reload", ["nginx", "-t", "-q"])[0]


def texts(files: Iterable[Mapping[str, Any]]) -> configuration.Texts:
    """The text of every file; None for one that is to be absent."""
    return {one["path"]: one.get("content") if (one.get("state") or "present") == "present" else None for one in files}
