#!/usr/bin/python
"""Ansible module: background processes and scheduled jobs of an app, which follow its releases."""

from __future__ import annotations

import pwd
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils.exclusive import Busy, exclusive
from ansible_collections.flaskops.emperor.plugins.module_utils.module import Module
from ansible_collections.flaskops.emperor.plugins.module_utils.releases import settings_files
from ansible_collections.flaskops.emperor.plugins.module_utils.sides import states, store, units
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.journal import discreet

DOCUMENTATION = r"""
module: side_processes
short_description: Background processes and scheduled jobs of an app
version_added: 1.0.0
description:
  - Runs them as the app's user, in the environment and source of a release, in the sandbox of the Emperor, as units of
    systemd.
  - V(started) starts the background processes of the new release beside those of the old one. When one of them does not
    go on running, those that were started are ended again, and the module fails with the end of its log.
  - V(committed) ends those of before after their work, and lets scheduled jobs run in the new release. V(rolled_back)
    ends the new ones instead.
  - A run that was killed at any step is healed by the next one.
options:
  name:
    description: The app, which is also its user.
    type: str
    required: true
  home:
    description: Directory of the app, whose configuration files hold secrets that no message may show.
    type: path
    required: true
  run:
    description: Directory of the app's sockets, of which those of processes that ended are removed.
    type: path
    default: ""
  state:
    description: V(absent) ends all of them after their work, and removes their units.
    type: str
    choices: [started, committed, rolled_back, absent]
    default: started
  anew:
    description: Whether V(started) replaces those that run as they should, too, as when their virtualenv was made anew.
    type: bool
    default: false
  tasks:
    description:
      - Processes and threads that the app may have with the instance that is about to start, web workers included. The
        message of V(started) names them when they do not suffice.
    type: int
    default: 0
  side_tasks:
    description:
      - How many of them are for all side processes together. With V(started) this is their limit, or that of the
        instance which runs, if it is higher. In the other states their limit is that of the instance.
    type: int
    default: 0
  sides:
    description:
      - All of them by name, as the filter P(flaskops.emperor.app_sides#filter) makes them from the settings of an app.
    type: dict
    default: {}
attributes:
  check_mode:
    description: Says whether something would be done.
    support: full
  diff_mode:
    description: Shows what changes of their settings, without the values of environment variables.
    support: full
author:
  - flaskops maintainers (@flaskops)
"""

EXAMPLES = r"""
- name: Start the workers of the release
  flaskops.emperor.side_processes:
    name: shop
    home: /srv/flask_apps/shop
    sides: "{{ app | flaskops.emperor.app_sides('3f2a9c01d4e5') }}"

- name: End those of before
  flaskops.emperor.side_processes:
    name: shop
    home: /srv/flask_apps/shop
    state: committed
    sides: "{{ app | flaskops.emperor.app_sides('3f2a9c01d4e5') }}"
"""

RETURN = r"""
# Nothing besides what every module returns.
"""


def change(sides: store.Sides, state: str, wanted: states.Wanted, anew: bool, tasks: states.Tasks) -> bool:
    """Bring them into the wanted state. Returns whether that changed anything."""
    if state == "absent":
        return states.remove(sides)
    if state == "rolled_back":
        return states.roll_back(sides)
    gid = pwd.getpwnam(sides.app).pw_gid
    if state == "started":
        return states.start(sides, wanted, gid, anew, tasks)
    return states.commit(sides, wanted, gid)


def would_change(sides: store.Sides, state: str, wanted: states.Wanted) -> bool:
    """Whether something is to be done."""
    found = store.observe(sides.app)
    if state == "rolled_back":
        return False
    if state == "absent":
        return bool(found["parts"]) or found["unfinished"]
    if state == "started":
        return bool(states.fresh(sides, wanted))
    return found["unfinished"] or set(states.as_wanted(sides, wanted)) != set(wanted) | set(found["parts"])


def difference(sides: store.Sides, state: str, wanted: states.Wanted) -> dict[str, str]:
    """What changes of their settings, as Ansible shows it."""
    before = {part: one.job for part, one in sides.newest().items() if one.job}
    after = {part: job for part, job in wanted.items() if units.is_background(job) == (state == "started")}
    before = {part: job for part, job in before.items() if part in after or (part not in wanted and state != "started")}
    texts = ["".join(units.shown(part, jobs[part]) for part in sorted(jobs)) for jobs in (before, after)]
    return {"before": texts[0], "after": texts[1], "before_header": sides.directory, "after_header": sides.directory}


def main() -> None:
    """Do it while no other module is at work."""
    module = Module(
        argument_spec={
            "name": {"type": "str", "required": True},
            "home": {"type": "path", "required": True},
            "run": {"type": "path", "default": ""},
            "state": {
                "type": "str", "choices": ["started", "committed", "rolled_back", "absent"], "default": "started",
            },
            "anew": {"type": "bool", "default": False},
            "tasks": {"type": "int", "default": 0},
            "side_tasks": {"type": "int", "default": 0},
            "sides": {"type": "dict", "default": {}, "no_log": True},
        },
        supports_check_mode=True,
    )  # fmt: skip
    wanted: dict[str, dict[str, Any]] = module.params["sides"]
    # Every text in it would be replaced in every answer: discreet() hides the values.
    module.params["sides"] = sorted(wanted)
    module.no_log_values.clear()
    state, sides = (
        module.params["state"],
        store.Sides(module.params["name"], module.params["home"], module.params["run"]),
    )
    environments = [*(job["environment"] for job in wanted.values()), settings_files.secrets(module.params["home"])]
    answer: dict[str, Any] = {}
    if state in ("started", "committed"):
        told = difference(sides, state, wanted)
        answer["diff"] = {key: discreet(text, environments) for key, text in told.items()}
    if module.check_mode:
        module.exit_json(changed=would_change(sides, state, wanted), **answer)
    try:
        with exclusive():
            tasks = states.Tasks(module.params["tasks"], module.params["side_tasks"])
            changed = change(sides, state, wanted, module.params["anew"], tasks)
    except Busy as reason:
        module.fail_json(msg=str(reason))
    except store.Unfit as reason:
        module.fail_json(msg=discreet(f"The app {sides.app} {reason}", environments))
    module.exit_json(changed=changed, **answer)


if __name__ == "__main__":
    main()
