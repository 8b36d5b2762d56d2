#!/usr/bin/python
"""Ansible module: what is on a host, for all of its apps at once."""

from __future__ import annotations

import contextlib
import glob
import grp
import hashlib
import os
import pwd
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils import certificate, emperor_unit, lock, system, web
from ansible_collections.flaskops.emperor.plugins.module_utils.checkup import network
from ansible_collections.flaskops.emperor.plugins.module_utils.module import Module
from ansible_collections.flaskops.emperor.plugins.module_utils.nginx import PID_FILE
from ansible_collections.flaskops.emperor.plugins.module_utils.releases import observation
from ansible_collections.flaskops.emperor.plugins.module_utils.releases.sandbox import BUILDER
from ansible_collections.flaskops.emperor.plugins.module_utils.sides.store import observe as observe_sides
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.observe import observe

DOCUMENTATION = r"""
module: apps_state
short_description: What is on a host, for all of its apps at once
version_added: 1.0.0
description:
  - Reads accounts, files, units, releases, vassals and health checks in one execution. Changes nothing.
  - The action plugin M(flaskops.emperor.apps_plan) compares it with the settings.
options:
  apps:
    description:
      - The apps. Each has C(name), C(home), C(static), C(data), C(keep), the ID of the wanted C(release) (null for the
        one to which a rollback returns), what the
        module M(flaskops.emperor.vassal) needs to find its instances (C(run), C(link), C(upstream), C(health_path),
        C(script_name), C(health_status), C(health_host)), C(patience), seconds to wait for its answers, the C(port) of
        nginx to which its health check goes, by HTTPS if C(tls), and the C(calendars) of its scheduled jobs.
    type: list
    elements: dict
    required: true
  directory:
    description: Directory of the vassal files.
    type: path
    required: true
  root:
    description: Directory below which every app has a directory of its own.
    type: path
    required: true
  files:
    description: Paths to describe.
    type: list
    elements: str
    default: []
  units:
    description: Units of systemd to describe.
    type: list
    elements: str
    default: []
  packages:
    description: Packages of Debian that are to be there.
    type: list
    elements: str
    default: []
  ports:
    description: TCP ports that are for nginx.
    type: list
    elements: int
    default: []
  offered:
    description: Packages of Debian that apt must know.
    type: list
    elements: str
    default: []
  tool:
    description: The C(path) of the virtualenv that builds releases, and the C(package) in it, with its version.
    type: dict
  nginx:
    description: Directory of nginx's configuration.
    type: path
    default: /etc/nginx
  lock:
    description:
      - The C(owner), C(replace) and C(wait) of M(flaskops.emperor.deploy_lock), to hold the lock before it looks. When
        another run has it, the answer is that of M(flaskops.emperor.deploy_lock).
    type: dict
attributes:
  check_mode:
    description: Only reads.
    support: full
author:
  - flaskops maintainers (@flaskops)
"""

EXAMPLES = r"""
- name: Look at the shop
  flaskops.emperor.apps_state:
    directory: /etc/emperor/vassals
    root: /srv/flask_apps
    apps:
      - name: shop
        home: /srv/flask_apps/shop
        run: /run/emperor/shop
        release: 3f2a9c01d4e5
"""

RETURN = r"""
apps:
  description:
    - For every app its C(account), C(releases), C(vassal), C(sides), C(health), and what systemd has against its
      C(calendars).
  type: dict
  returned: always
files:
  description: For every path its C(kind), C(owner), C(group), C(mode), C(digest) and C(target); null without one.
  type: dict
  returned: always
units:
  description: For every unit whether it is C(there), C(active), C(enabled) and C(stale).
  type: dict
  returned: always
found:
  description: Names of all apps that are on the host.
  type: list
  elements: str
  returned: always
nginx_outdated:
  description: Whether nginx does not run, or its configuration changed after it last read it.
  type: bool
  returned: always
packages:
  description: Those of O(packages) that are not installed.
  type: list
  elements: str
  returned: always
strangers:
  description: Of O(ports) those on which other programs listen, each with their names and units.
  type: dict
  returned: always
barred:
  description: Of O(ports) those to which ufw lets nobody in.
  type: list
  returned: always
unknown:
  description: Those of O(offered) that are not installed, and that apt does not know.
  type: list
  elements: str
  returned: always
certificates:
  description: For every app that has a certificate what is known of it.
  type: dict
  returned: always
tooled:
  description: Whether O(tool) and the user that builds releases are there.
  type: bool
  returned: always
mounts:
  description: The files of nginx for apps that are reached by the site of another one.
  type: list
  returned: always
machine:
  description:
    - Of the host its C(distribution) and C(version), the number of C(cpus), the C(memory) in MiB, whether it has
      C(ipv6) addresses, whether the kernel can limit the memory of apps (C(limits)) and may keep
      them from addresses (C(filters)), and
        the version of C(nginx), of which there may be none yet.
  type: dict
  returned: always
"""

KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
NGINX = "nginx.service"
AT_ONCE = 8  # health checks at a time
DEFAULTS = {"link": "", "upstream": "", "health_path": "/", "script_name": "", "health_status": 200,
            "health_host": "localhost", "patience": 10, "port": 80, "tls": False}  # fmt: skip


def describe(path: str) -> dict[str, Any] | None:
    """Kind, owner, group, mode and content of a path, without following a link; None when it is not there."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    kind = KINDS.get(stat.S_IFMT(found.st_mode), "other")
    digest = ""
    if kind == "file":
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "kind": kind,
        "owner": system.name_of(found.st_uid, pwd.getpwuid),
        "group": system.name_of(found.st_gid, grp.getgrgid),
        "mode": f"{stat.S_IMODE(found.st_mode):04o}",
        "digest": digest,
        "target": os.readlink(path) if kind == "link" else "",
        "executable": os.access(path, os.X_OK),
    }


def account(name: str) -> dict[str, str] | None:
    """Home, shell and primary group of a user; None when there is none."""
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        return None
    return {"home": found.pw_dir, "shell": found.pw_shell, "group": system.name_of(found.pw_gid, grp.getgrgid)}


def machine() -> dict[str, Any]:
    """What the settings depend on: processors, memory (see proc_meminfo(5)), addresses, control groups."""
    with open("/proc/meminfo", encoding="ascii") as file:
        total = re.search(r"^MemTotal: +(\d+) kB", file.read(), re.MULTILINE)
    ipv6 = False
    with contextlib.suppress(OSError), open("/proc/net/if_inet6", encoding="ascii") as file:
        ipv6 = bool(file.read())
    name, version = system.distribution()
    told = system.output(["nginx", "-v"])
    return {
        "distribution": name,
        "version": version,
        "cpus": len(os.sched_getaffinity(0)),
        "memory": int(total[1]) // 1024 if total else 0,
        "ipv6": ipv6,
        "limits": emperor_unit.limits_memory(),
        "filters": emperor_unit.may_filter_addresses(),
        "nginx": [int(number) for number in re.findall(r"[0-9]+", told)[:2]],
    }


def tooled(tool: dict[str, str] | None) -> bool:
    """Whether a tool is there as the module `tool_virtualenv` installs it, and the user that builds releases."""
    return bool(tool and account(BUILDER) and system.has_tool(tool["path"], tool["package"]))


def on_host(directory: str, root: str) -> list[str]:
    """Names of the apps that have a vassal file, or a directory with releases."""
    names = {os.path.basename(path).split(".")[0] for path in glob.glob(os.path.join(directory, "*.ini"))}
    names |= {os.path.basename(os.path.dirname(path)) for path in glob.glob(os.path.join(root, "*", "releases"))}
    return sorted(names)


def look(app: dict[str, Any], directory: str) -> dict[str, Any]:
    """Everything about one app."""
    app = {**DEFAULTS, "directory": directory, **app}
    health = ""
    if app.get("check", True):
        asked = (app["port"], app["health_host"], app["health_path"], app["health_status"])
        health = web.check(*asked, patience=app["patience"], tls=app["tls"])
    return {
        "account": account(app["name"]),
        "releases": observation.observe(
            app["home"], app.get("release", ""), app.get("static") or {}, app.get("keep", 5), app.get("data")
        ),
        "vassal": observe(app),
        "sides": observe_sides(app["name"]),
        "calendars": {one: reason for one in app.get("calendars", []) if (reason := system.calendar_fault(one))},
        "health": health,
    }


def main() -> None:
    """Look, answer."""
    module = Module(
        argument_spec={
            "apps": {"type": "list", "elements": "dict", "required": True},
            "directory": {"type": "path", "required": True},
            "root": {"type": "path", "required": True},
            "files": {"type": "list", "elements": "str", "default": []},
            "units": {"type": "list", "elements": "str", "default": []},
            "packages": {"type": "list", "elements": "str", "default": []},
            "ports": {"type": "list", "elements": "int", "default": []},
            "offered": {"type": "list", "elements": "str", "default": []},
            "tool": {"type": "dict"},
            "nginx": {"type": "path", "default": "/etc/nginx"},
            "lock": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    params = module.params
    held: dict[str, Any] = {}
    if params["lock"] and not module.check_mode:
        try:
            held = lock.decide(lock.PATH, **params["lock"])
        except lock.Refused as reason:
            module.fail_json(msg=str(reason))
        if not held["held"]:
            module.exit_json(changed=False, **held)
    units = system.units([*dict.fromkeys([*params["units"], NGINX])])
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(lambda app: look(app, params["directory"]), params["apps"]))
    module.exit_json(
        changed=False,
        **held,
        apps={app["name"]: state for app, state in zip(params["apps"], found)},
        files={path: describe(path) for path in params["files"]},
        mounts=sorted(glob.glob(os.path.join(params["nginx"], "flask_apps", "*.conf"))),
        units=units,
        found=on_host(params["directory"], params["root"]),
        certificates=certificate.describe_all(os.path.join(params["nginx"], "certificates")),
        packages=system.missing(params["packages"]),
        strangers={str(one): who for one in params["ports"] if (who := network.strangers(one, "nginx", PID_FILE))},
        barred=[one for one in params["ports"] if network.barred(one)],
        unknown=system.unknown(params["offered"]),
        machine=machine(),
        tooled=tooled(params["tool"]),
        nginx_outdated=system.outdated(units[NGINX], [params["nginx"]]),
    )


if __name__ == "__main__":
    main()
