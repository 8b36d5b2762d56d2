#!/usr/bin/python
"""Ansible module: let HAProxy run a configuration, or what it ran before."""

from __future__ import annotations

import os
import time
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils import configuration, haproxy, host, system
from ansible_collections.flaskops.emperor.plugins.module_utils.module import Module

DOCUMENTATION = r"""
module: haproxy_config
short_description: Let HAProxy run a configuration, or what it ran before
version_added: 1.0.0
description:
  - Tests the configuration in a copy with C(haproxy -c), puts it in place, and reloads HAProxy. Running requests end in
    the old process, which also hands over its listening sockets. Which servers are drained or down is handed over, too.
  - Before that, servers that leave an app get no new requests, and those they have end.
  - When no new process takes over, the former files are put back and the old process goes on.
  - Also reloads when a file changed after HAProxy last read them, and starts it when it does not run.
options:
  content:
    description: Text of C(haproxy.cfg).
    type: str
    required: true
  certificates:
    description: Text of the files in C(certificates), by their names. Others in that directory are removed.
    type: dict
    default: {}
  root:
    description: Directory of HAProxy's configuration.
    type: path
    default: /etc/haproxy
  states:
    description: File from which the configuration lets a new process read the states of servers.
    type: path
    default: /var/lib/haproxy/states
  wait:
    description: Seconds a new process may take to start.
    type: int
    default: 15
  drain:
    description: Seconds to wait for the requests of servers that leave.
    type: int
    default: 60
attributes:
  check_mode:
    description: Tests the files where HAProxy is installed already.
    support: full
  diff_mode:
    description: Shows the change of haproxy.cfg.
    support: full
author:
  - flaskops maintainers (@flaskops)
"""

EXAMPLES = r"""
- name: Balance the load as configured
  flaskops.emperor.haproxy_config:
    content: "{{ lookup('ansible.builtin.template', 'haproxy.cfg.j2') }}"
"""

RETURN = r"""
done:
  description: What was done to the unit.
  type: list
  elements: str
  returned: always
  sample: [reload]
"""

UNIT = "haproxy.service"


def wanted(params: dict[str, Any]) -> configuration.Texts:
    """The text of every file; None for one that is to be absent."""
    directory = os.path.join(params["root"], "certificates")
    there = os.listdir(directory) if os.path.isdir(directory) else []
    texts: configuration.Texts = {os.path.join(directory, name): None for name in there}
    texts |= {os.path.join(directory, name): text for name, text in params["certificates"].items()}
    return {**texts, os.path.join(params["root"], "haproxy.cfg"): params["content"]}


def mode_of(path: str) -> int:
    """The mode of a file: certificates have keys in them."""
    return configuration.OPEN if path.endswith(".cfg") else 0o600


def put(texts: configuration.Texts) -> None:
    """Let every file have its text."""
    for path, text in texts.items():
        configuration.put(path, text, mode_of(path))


def fault(module: Module, texts: configuration.Texts) -> str:
    """What HAProxy has against the configuration; empty when it has nothing.

    :param texts: of all files, also of those that stay: the copy must name its own certificates.
    """
    root = module.params["root"]
    return configuration.fault(
        module,
        root,
        texts,
        command=lambda copy: ["haproxy", "-c", "-f", os.path.join(copy, "haproxy.cfg")],
        adapted=lambda text, copy: text.replace(f"{root}/", f"{copy}/"),
    )


def act(module: Module, step: str) -> str:
    """Start or reload HAProxy, and wait for the process that takes requests. Returns what went wrong."""
    before, states = haproxy.process(), module.params["states"]
    haproxy.keep_states(states)
    try:
        code, _out, err = module.run_command(["systemctl", step, UNIT])
        if code != 0:
            return str(err).strip()
        deadline = time.monotonic() + module.params["wait"]
        while time.monotonic() < deadline:
            if haproxy.process() not in (0, before):
                return ""
            time.sleep(0.1)
        return f"no new process takes requests {module.params['wait']} s after `systemctl {step} {UNIT}`"
    finally:
        # A later reload by hand shall not bring back what was so today.
        host.write(states, "1\n", os.getuid(), os.getgid())


def steps_of(module: Module, changed: bool) -> list[str]:
    """What systemd must do."""
    state = system.units([UNIT])[UNIT]
    steps = [] if state["enabled"] else ["enable"]
    if not state["active"]:
        return [*steps, "start"]
    if changed or system.outdated(state, [module.params["root"]]):
        steps.append("reload")
    return steps


def backends(content: str) -> dict[str, set[str]]:
    """The names of the servers of every app in a configuration."""
    found: dict[str, set[str]] = {}
    app = ""
    for words in filter(None, map(str.split, content.splitlines())):
        if words[0] in ("backend", "frontend"):
            app = words[1].removeprefix("app_")
        elif words[0] == "server":
            found.setdefault(app, set()).add(words[1])
    return found


def send_away(module: Module) -> list[str]:
    """Let the requests of servers that leave an app end. Returns what they are called."""
    if not haproxy.process():
        return []
    leaving = haproxy.leaving(backends(module.params["content"]))
    names = [f"app_{one['app']}/{one['server']}" for one in leaving]
    for name in names:
        haproxy.tell(f"set server {name} state drain")
    haproxy.idle([(one["app"], one["server"]) for one in leaving], module.params["drain"])
    return names


def carry_out(module: Module, changes: configuration.Texts) -> list[str]:
    """Put the files in place and let HAProxy run them; or what was there before."""
    before: configuration.Texts = {path: host.read(path) for path in changes}
    left = send_away(module) if changes else []
    put(changes)
    steps = steps_of(module, bool(changes))
    for step in steps:
        if step == "enable":
            module.run_command(["systemctl", step, UNIT], check_rc=True)
            continue
        if reason := act(module, step):
            log = system.output(["journalctl", "--no-pager", "--quiet", "--output=cat", "--lines=10", f"--unit={UNIT}"])
            put(before)
            again = act(module, step) if changes else reason
            for name in left:
                haproxy.ask(f"set server {name} state ready")
            said = "The former configuration is back" + (f", but {again}" if again else " and runs")
            module.fail_json(msg=f"HAProxy does not run the new configuration: {reason}. {said}.\n{log.strip()}")
    return steps


def main() -> None:
    """Compare, test, put in place, reload."""
    module = Module(
        argument_spec={
            "content": {"type": "str", "required": True},
            "certificates": {"type": "dict", "default": {}, "no_log": True},
            "root": {"type": "path", "default": "/etc/haproxy"},
            "states": {"type": "path", "default": "/var/lib/haproxy/states"},
            "wait": {"type": "int", "default": 15},
            "drain": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    params = module.params
    texts = wanted(params)
    changes = configuration.differing(texts, mode_of)
    main_file = os.path.join(params["root"], "haproxy.cfg")
    diff = configuration.shown(main_file, params["content"]) if main_file in changes else {}
    there = module.get_bin_path("haproxy", opt_dirs=["/usr/sbin"])
    if not there:
        if module.check_mode:
            module.exit_json(changed=True, done=["start"], diff=diff)
        module.fail_json(msg="haproxy is not installed on this host: run the role flaskops.emperor.load_balancer.")
    if changes and (reason := fault(module, texts)):
        configuration.refuse(module, "HAProxy", changes, reason)
    done = steps_of(module, bool(changes)) if module.check_mode else carry_out(module, changes)
    module.exit_json(changed=bool(changes or done), done=done, diff=diff)


if __name__ == "__main__":
    main()
