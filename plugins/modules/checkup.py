#!/usr/bin/python
"""Ansible module: what a request meets on its way through a host, for all apps at once."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils import emperor_unit, system
from ansible_collections.flaskops.emperor.plugins.module_utils.checkup import instance, logs, network, storage
from ansible_collections.flaskops.emperor.plugins.module_utils.module import Module
from ansible_collections.flaskops.emperor.plugins.module_utils.nginx import PID_FILE

DOCUMENTATION = r"""
module: checkup
short_description: What a request meets on its way through a host
version_added: 1.0.0
description:
  - Looks at services, ports, disks, sockets, instances, releases and logs in one execution. Changes nothing.
  - The action plugin of the same name says what is wrong with it.
options:
  apps:
    description: The apps, each with its C(name), C(home) and C(run), the directory of its sockets.
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
  units:
    description: Units of systemd to look at.
    type: list
    elements: str
    default: []
  nginx:
    description: Directory of nginx's configuration.
    type: path
    default: /etc/nginx
  port:
    description: Port of nginx.
    type: int
    default: 80
  ports:
    description: Ports to which clients of the apps come.
    type: list
    elements: int
    default: []
  web_user:
    description: User of nginx.
    type: str
    default: www-data
attributes:
  check_mode:
    description: Only reads.
    support: full
author:
  - flaskops maintainers (@flaskops)
"""

EXAMPLES = r"""
- name: Look at the host and at the shop
  flaskops.emperor.checkup:
    directory: /etc/emperor/vassals
    root: /srv/flask_apps
    apps: [{name: shop, home: /srv/flask_apps/shop, run: /run/emperor/shop}]
"""

RETURN = r"""
host:
  description: C(units), C(listeners) of the port, C(barred) ports, C(nginx_fault), C(nginx_unread), C(nginx_errors),
    C(sharing) (apps that share F(/tmp)), C(disks), C(now).
  type: dict
  returned: always
apps:
  description: For every app its release, workers, requests, memory, rights and what its journal says.
  type: dict
  returned: always
"""

PROPERTIES = ("Id,LoadState,ActiveState,SubState,UnitFileState,Result,MainPID,DropInPaths,"
              "ActiveEnterTimestamp,StateChangeTimestamp")  # fmt: skip
NGINX = "nginx.service"
OWN_DROP_INS = ("/etc/systemd/system/", "/run/systemd/")  # where a person puts them; /usr is the distribution's


def drop_ins(unit: str, paths: list[str]) -> list[str]:
    """The files by which a person changed a unit, or all units of its template.

    A memory limit of an app that somebody told systemd is none, nor is what confines the app: they are in the plan.
    """
    template = re.sub("@.*[.]", "@.", unit)
    planned = ("/system.control/emperor-app@", f"/{unit}.d/{emperor_unit.FILE}")
    own = [path for path in paths if path.startswith(OWN_DROP_INS) and not any(part in path for part in planned)]
    return [path for path in own if f"/{unit}.d/" in path or f"/{template}.d/" in path]


def units(names: list[str]) -> dict[str, dict[str, Any]]:
    """The state of units; of those that do not run as they should the end of their log, too."""
    found = system.show(names, PROPERTIES)
    told = {}
    for name in names:
        one = found.get(name, {})
        active = one.get("ActiveState") in ("active", "reloading")
        told[name] = {
            "load": one.get("LoadState", "not-found"),
            "active": active,
            "state": f"{one.get('ActiveState', 'unknown')} ({one.get('SubState', '')})",
            "file": one.get("UnitFileState", ""),
            "result": one.get("Result", ""),
            "since": system.parse_time(one.get("ActiveEnterTimestamp", "")),
            "changed": system.parse_time(one.get("StateChangeTimestamp", "")),
            "drop_ins": drop_ins(name, one.get("DropInPaths", "").split()),
            "log": [] if active or not one else logs.last_lines(name),
        }
    return told


def nginx_fault() -> str:
    """What nginx has against its configuration on disk; empty when it has nothing, or is not installed."""
    there = os.path.exists(PID_FILE)
    try:
        done = subprocess.run(["/usr/sbin/nginx", "-t", "-q"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    if not there:  # the test leaves an empty one
        with contextlib.suppress(FileNotFoundError):
            os.unlink(PID_FILE)
    return "" if done.returncode == 0 else (done.stderr or done.stdout).strip()


def host(params: dict[str, Any], found: dict[str, dict[str, Any]], apps: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Everything that is not of one app."""
    now = time.time()
    homes = [f"{app['home']}/{name}" for app in params["apps"] for name in ("releases", "shared")]
    nginx = found.get(NGINX, {"active": False, "changed": 0.0})
    search = [f"{app['home']}/{name}" for app in params["apps"] for name in ("shared", "cache")]
    places = [params["root"], *homes, "/etc", "/run", "/tmp", "/var/log"]  # noqa: S108
    return {
        "now": now,
        "units": found,
        "listeners": network.listeners(params["port"]),
        "barred": [port for port in params["ports"] if network.barred(port)],
        "nginx_fault": nginx_fault(),
        "nginx_unread": system.changed_after(nginx["changed"], [params["nginx"]]) if nginx["active"] else "",
        "nginx_read": nginx["changed"],
        "nginx_errors": logs.nginx_errors("/var/log/nginx/error.log", now),
        "sharing": [name for name, app in apps.items() if app.get("shares_directories")],
        "disks": storage.disks(places, [*search, "/var/log"]),
    }


def main() -> None:
    """Look, answer."""
    module = Module(
        argument_spec={
            "apps": {"type": "list", "elements": "dict", "required": True},
            "directory": {"type": "path", "required": True},
            "root": {"type": "path", "required": True},
            "units": {"type": "list", "elements": "str", "default": []},
            "nginx": {"type": "path", "default": "/etc/nginx"},
            "port": {"type": "int", "default": 80},
            "ports": {"type": "list", "elements": "int", "default": []},
            "web_user": {"type": "str", "default": "www-data"},
        },
        supports_check_mode=True,
    )
    params = module.params
    found = units(params["units"])
    started = {app["name"]: found.get(emperor_unit.unit(app["name"]), {}).get("since", 0.0) for app in params["apps"]}
    begin = max(min(started.values(), default=0.0), time.time() - instance.HOUR)
    log = logs.journal("emperor", begin)
    with ThreadPoolExecutor(8) as pool:
        looked = list(pool.map(lambda app: instance.look(app, params, started[app["name"]], log), params["apps"]))
        apps = {app["name"]: one for app, one in zip(params["apps"], looked)}
    module.exit_json(changed=False, host=host(params, found, apps), apps=apps)


if __name__ == "__main__":
    main()
