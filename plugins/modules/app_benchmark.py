#!/usr/bin/python
"""Ansible module: how an app serves with several settings of its workers, measured beside the instance that serves."""

from __future__ import annotations

import os
import pwd
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils import processes
from ansible_collections.flaskops.emperor.plugins.module_utils.benchmark import instance
from ansible_collections.flaskops.emperor.plugins.module_utils.benchmark.load import MERCY, Asked, load
from ansible_collections.flaskops.emperor.plugins.module_utils.module import Module
from ansible_collections.flaskops.emperor.plugins.module_utils.releases import settings_files
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.config import Config
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.health import Unhealthy
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.journal import discreet
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.store import MIB, App

DOCUMENTATION = r"""
module: app_benchmark
short_description: Measure an app with several settings of its workers
version_added: 1.0.0
description:
  - Starts the current release of an app beside the instance that serves, on a private socket, in the sandbox of the
    Emperor, and sends it GET requests, more and more at a time. So with each of the given workers.
  - What serves is not touched and gets none of these requests. Nothing is left on the host, also after a run that was
    killed.
options:
  name:
    description: Name of the app.
    type: str
    required: true
  directory:
    description: Directory of the vassal files.
    type: path
    default: /etc/emperor/vassals
  run:
    description: Directory below which every app has one for its sockets.
    type: path
    default: /run/emperor
  path:
    description: Path and query of the requests.
    type: str
    required: true
  host:
    description: Host header of the requests.
    type: str
    default: localhost
  status:
    description: Status that they must get.
    type: int
    default: 200
  health_path:
    description: Path of the health check.
    type: str
    default: /
  health_status:
    description: Status that it must get.
    type: int
    default: 200
  at_a_time:
    description: How many requests at a time, step by step.
    type: list
    elements: int
    required: true
  seconds:
    description: How long each step takes.
    type: float
    default: 3
  rounds:
    description: How often all of it is measured, every other round in reverse order.
    type: int
    default: 2
  workers:
    description:
      - Processes and threads to compare, each like V(4x8). What serves is always among them.
      - When empty, half and twice as many processes, and half and twice as many threads.
    type: list
    elements: str
    default: []
  start_timeout:
    description: Seconds the app may take to start and answer.
    type: int
    default: 60
  memory_reserve:
    description: MiB of memory that must stay free meanwhile. Workers that need more are not measured.
    type: int
    default: 64
attributes:
  check_mode:
    description: Does nothing.
    support: full
author:
  - flaskops maintainers (@flaskops)
"""

EXAMPLES = r"""
- name: Compare the workers of the shop
  flaskops.emperor.app_benchmark:
    name: shop
    path: /cart
    at_a_time: [1, 4, 16]
"""

RETURN = r"""
served:
  description: Processes and threads of what serves.
  type: str
  returned: success
  sample: 4x8
release:
  description: The release that was measured.
  type: str
  returned: success
processors:
  description: Number of processors of the host.
  type: int
  returned: success
measured:
  description:
    - By workers, the C(memory) they used (bytes), and by requests at a time (C(steps)) a list with what each round
      found.
  type: dict
  returned: success
left_out:
  description: Workers that were not measured, and why.
  type: dict
  returned: success
switched:
  description: Whether another release took over meanwhile.
  type: bool
  returned: success
"""

MOST = 512  # requests that workers may serve at a time
WARM = 20  # requests before each measurement


def size_of(config: Config) -> tuple[int, int]:
    """Processes and threads."""
    return max(config.number("processes"), 1), max(config.number("threads"), 1)


def named(size: tuple[int, int]) -> str:
    """As a user writes it."""
    return f"{size[0]}x{size[1]}"


def neighbours(size: tuple[int, int]) -> list[tuple[int, int]]:
    """Half and twice as much of each."""
    workers, threads = size
    near = [(workers * 2, threads), (workers, threads * 2), (workers // 2, threads), (workers, threads // 2)]
    return [(one, other) for one, other in near if one and other and one * other <= MOST]


def needed(app: App, workers: int) -> int:
    """Bytes of memory that so many workers need; 0 when that is not known."""
    size = app.trial.get("size") or {}
    return int(size["total"] + (workers - 1) * size["private"]) if size else 0


def too_large(app: App, size: tuple[int, int]) -> str:
    """Why these workers are not started; empty when they may be."""
    need, free = needed(app, size[0]) // MIB, processes.available_memory() // MIB
    if need <= free - app.params["memory_reserve"]:
        return ""
    kept = app.params["memory_reserve"]
    return f"needs about {need} MiB, but {free} MiB are available, of which {kept} must stay free"


def measure(app: App, config: Config, found: dict[str, Any]) -> None:
    """Start an instance, and take it through all steps."""
    params = app.params
    asked = Asked(params["path"], params["host"], params["status"])
    bound = params["start_timeout"] + len(params["at_a_time"]) * (params["seconds"] + 1 + 2 * MERCY) + 10
    with instance.running(app, config, bound) as sock:
        for at_a_time in params["at_a_time"]:
            load(sock, asked, min(at_a_time, WARM), min(1.0, params["seconds"]))
            step = load(sock, asked, at_a_time, params["seconds"])
            found["steps"].setdefault(str(at_a_time), []).append(step)
        found["memory"] = max(found["memory"], instance.memory(app))


def benchmark(app: App, served: Config) -> dict[str, Any]:
    """Measure all settings in turn, every other round in reverse: no host is equally fast all the time."""
    given = [tuple(int(number) for number in one.split("x")) for one in app.params["workers"]]
    wanted = list(dict.fromkeys([size_of(served), *(given or neighbours(size_of(served)))]))
    measured: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    for number in range(app.params["rounds"]):
        for size in wanted if number % 2 == 0 else reversed(wanted):
            if named(size) in left_out:
                continue
            if why := too_large(app, size):
                left_out[named(size)] = why
                measured.pop(named(size), None)
                continue
            found = measured.setdefault(named(size), {"memory": 0, "steps": {}})
            measure(app, instance.sized(served, app.params["run"], *size), found)
    return {"measured": measured, "left_out": left_out}


def main() -> None:
    """Measure."""
    module = Module(
        argument_spec={
            "name": {"type": "str", "required": True},
            "directory": {"type": "path", "default": "/etc/emperor/vassals"},
            "run": {"type": "path", "default": "/run/emperor"},
            "path": {"type": "str", "required": True},
            "host": {"type": "str", "default": "localhost"},
            "status": {"type": "int", "default": 200},
            "health_path": {"type": "str", "default": "/"},
            "health_status": {"type": "int", "default": 200},
            "at_a_time": {"type": "list", "elements": "int", "required": True},
            "seconds": {"type": "float", "default": 3},
            "rounds": {"type": "int", "default": 2},
            "workers": {"type": "list", "elements": "str", "default": []},
            "start_timeout": {"type": "int", "default": 60},
            "memory_reserve": {"type": "int", "default": 64},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=False, skipped=True)
    name = module.params["name"]
    run = os.path.join(module.params["run"], name)
    try:
        home = os.path.dirname(pwd.getpwnam(name).pw_dir)
    except KeyError:
        module.fail_json(msg=f"{name} is not on this host: run playbooks/deploy.yml -e app={name} first.")
    current = os.path.realpath(f"{home}/current")
    more = {"run": run, "health_host": module.params["host"], "link": "", "release": "", "size": f"{current}/size.json"}
    app = App({**module.params, **more})
    taken = app.taken
    if not taken or app.before:
        what = "is switching to another release" if taken else "does not run"
        module.fail_json(msg=f"{name} {what} on this host: run playbooks/deploy.yml -e app={name} first.")
    text = taken[-1].text or ""
    served = Config.parse(text)
    try:
        found = benchmark(app, served)
    except (Unhealthy, OSError) as reason:
        known = [*app.environments, settings_files.secrets(home)]
        module.fail_json(msg=discreet(f"The instance for the benchmark of {name} {reason}", known))
    module.exit_json(
        changed=False,
        served=named(size_of(served)),
        release=os.path.basename(current),
        processors=os.cpu_count() or 1,
        switched=not app.taken or app.taken[-1].text != text,
        **found,
    )


if __name__ == "__main__":
    main()
