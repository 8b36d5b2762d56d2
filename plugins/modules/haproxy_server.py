#!/usr/bin/python
"""Ansible module: let HAProxy send no new requests to a server, or requests again, or only look."""

from __future__ import annotations

import time
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils import haproxy
from ansible_collections.flaskops.emperor.plugins.module_utils.exclusive import Busy, exclusive
from ansible_collections.flaskops.emperor.plugins.module_utils.module import Module

DOCUMENTATION = r"""
module: haproxy_server
short_description: Take a web host out of HAProxy, or back
version_added: 1.0.0
description:
  - Speaks to the running HAProxy over its statistics socket. Its configuration stays as it is. Where none runs, there
    is nothing to do.
options:
  state:
    description:
      - V(drained) sends no new requests to the server and waits until those it has have ended.
      - V(ready) sends requests to it again, and waits until its health checks pass.
      - V(seen) changes nothing.
    type: str
    choices: [drained, ready, seen]
    required: true
  server:
    description: The web host, as HAProxy calls it. Needed unless O(state=seen).
    type: str
  wait:
    description:
      - Seconds to wait. Requests that run longer are left to themselves; a server that is not back then is a failure.
    type: int
    default: 60
  alone:
    description:
      - What to do with O(state=drained) where no other server serves an app. V(fail) changes nothing and fails, V(stay)
        leaves the server in for that app.
    type: str
    choices: [fail, stay]
    default: fail
  apps:
    description:
      - With O(state=ready), wait for these apps only. Without it, for all.
    type: list
    elements: str
  socket:
    description: The statistics socket.
    type: path
    default: /run/haproxy/admin.sock
attributes:
  check_mode:
    description: Only looks.
    support: full
author:
  - flaskops maintainers (@flaskops)
"""

EXAMPLES = r"""
- name: Send no new requests to web1
  flaskops.emperor.haproxy_server:
    server: web1
    state: drained
  delegate_to: balancer
"""

RETURN = r"""
apps:
  description: The apps whose new requests the server got before, and does not now; with O(state=ready) the other way.
  type: list
  elements: str
  returned: unless O(state=seen), and a HAProxy that runs
servers:
  description:
    - Of every server of every app C(app), C(server), C(status), whether it is C(out), its C(weight), whether it
      C(takes) new requests, its C(requests) now, its C(queue), its C(responses) since HAProxy started and the C(errors)
      among them, and what its last C(check) said.
  type: list
  elements: dict
  returned: always
"""


def take_out(module: Module) -> list[dict[str, Any]]:
    """Send a server no new requests. Returns what the server was, of each app for which that changed anything."""
    path, server = module.params["socket"], module.params["server"]
    found = haproxy.states(path)
    mine = [one for one in found if one["server"] == server]
    others = [one for one in found if one["server"] != server]
    takes = [one for one in mine if not one["status"].startswith("DRAIN")]
    alone = {one["app"] for one in takes if one["takes"]} - {one["app"] for one in others if one["takes"]}
    if alone and module.params["alone"] == "fail":
        module.fail_json(
            msg=f"{server} is the only host that serves {', '.join(sorted(alone))} now, so it stays in the balancer: "
            "bring another one back first. playbooks/status.yml says what is wrong with the others."
        )
    leaves = [one for one in takes if one["app"] not in alone]
    for one in leaves if not module.check_mode else []:
        haproxy.tell(f"set server app_{one['app']}/{server} state drain", path)
    return leaves


def drained(module: Module) -> list[dict[str, Any]]:
    """Take a server out, and wait until its requests have ended. Returns what it was, as `take_out` does."""
    path, server = module.params["socket"], module.params["server"]
    # Several hosts of one batch come at once: one of them must stay.
    with exclusive(mark=False):
        left = take_out(module)
    if not module.check_mode:
        mine = [(one["app"], server) for one in haproxy.states(path) if one["server"] == server and one["out"]]
        haproxy.idle(mine, module.params["wait"], path)
    return left


def ready(module: Module, mine: list[dict[str, Any]]) -> list[str]:
    """Let a server take requests again. Returns the apps of which it does."""
    path, server = module.params["socket"], module.params["server"]
    # One that is drained and down looks down only.
    out = [one["app"] for one in mine if one["out"]]
    if module.check_mode:
        return out
    for app in out:
        haproxy.tell(f"set server app_{app}/{server} state ready", path)
    apps = module.params["apps"]
    awaited = {one["app"] for one in mine if apps is None or one["app"] in apps}
    deadline = time.monotonic() + module.params["wait"]
    while True:
        still = [one for one in haproxy.states(path) if one["server"] == server and one["out"]]
        down = [one for one in still if one["app"] in awaited]
        if not down:
            return [app for app in out if app not in {one["app"] for one in still}]
        if time.monotonic() > deadline:
            said = ", ".join(f"{one['app']} is {one['status']} ({one['check'] or 'not checked yet'})" for one in down)
            module.fail_json(msg=f"The balancer sends no requests to {server} after {module.params['wait']} s: {said}.")
        time.sleep(haproxy.PAUSE)


def main() -> None:
    """Look, act, look again."""
    module = Module(
        argument_spec={
            "state": {"type": "str", "choices": ["drained", "ready", "seen"], "required": True},
            "server": {"type": "str"},
            "wait": {"type": "int", "default": 60},
            "alone": {"type": "str", "choices": ["fail", "stay"], "default": "fail"},
            "apps": {"type": "list", "elements": "str"},
            "socket": {"type": "path", "default": haproxy.SOCKET},
        },
        required_if=[("state", "drained", ["server"]), ("state", "ready", ["server"])],
        supports_check_mode=True,
    )
    state, server, path = (module.params[name] for name in ("state", "server", "socket"))
    if state != "seen" and not haproxy.process(path):
        module.exit_json(changed=False, servers=[])  # it sends requests nowhere, and learns of the hosts when it starts
    try:
        found = haproxy.states(path)
        mine = [one for one in found if one["server"] == server]
        if state != "seen" and found and not mine:
            # Of a group that grows: the balancer gets to know it when it serves.
            module.exit_json(changed=False, servers=found)
        if state == "drained":
            left = drained(module)
            apps = [one["app"] for one in left if one["takes"]]
            module.exit_json(changed=bool(left), apps=apps, servers=haproxy.states(path))
        apps = ready(module, mine) if state == "ready" else []
        module.exit_json(changed=bool(apps), apps=apps, servers=haproxy.states(path))
    except Busy as reason:
        module.fail_json(msg=str(reason))
    except haproxy.Unanswered as reason:
        module.fail_json(msg=f"{reason}: run playbooks/site.yml, or start haproxy.service.")


if __name__ == "__main__":
    main()
