#!/usr/bin/python
"""Ansible module: let an app run as its config says, or not at all, and never worse than before."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils import nginx, web
from ansible_collections.flaskops.emperor.plugins.module_utils.exclusive import Busy, exclusive
from ansible_collections.flaskops.emperor.plugins.module_utils.module import Module
from ansible_collections.flaskops.emperor.plugins.module_utils.releases import activation, settings_files
from ansible_collections.flaskops.emperor.plugins.module_utils.releases.registry import Releases
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal import states
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.config import Config, shown
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.health import Unhealthy
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.journal import discreet
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.modes import MODES
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.store import App

DOCUMENTATION = r"""
module: vassal
short_description: Let an app run as its config says, or leave it as it was
version_added: 1.0.0
description:
  - An app has two slots for a vassal, C(blue) and C(green), each with a file, a socket and a statistics socket of its
    own. Usually one is taken; during a switch both may be.
  - V(switched) starts the new config once on a private socket, as the app's user, and sends it the health check (trial
    start). Only if it passes, the app goes over to it in the way O(reload) says. What ran before is remembered.
  - V(trial) is the trial start alone, and keeps the memory the app used in it. Nothing that runs is touched.
  - V(committed) ends what ran before, after its requests. V(rolled_back) goes back to it instead.
  - A run that was killed at any step is healed by the next one.
options:
  name:
    description: Name of the app, also its Unix user and its name in the journal.
    type: str
    required: true
  directory:
    description: Directory of the vassal files.
    type: path
    required: true
  run:
    description: Directory of the app's sockets.
    type: path
    required: true
  state:
    description:
      - V(switched) lets the app run as O(config) says.
      - V(trial) starts O(config) once and writes what it uses to O(size), unless it is written there already.
      - V(committed) lets nothing else of the app run; V(rolled_back) undoes the last V(switched), until V(committed).
      - V(absent) ends the app after its running requests.
    type: str
    choices: [switched, trial, committed, rolled_back, absent]
    default: switched
  config:
    description:
      - The vassal as the filter P(flaskops.emperor.vassal_config#filter) makes it, with C(launch), a dict, and
        C(options), a list of name and value. Needed when O(state=switched) or O(state=trial).
    type: dict
  lazily:
    description:
      - The C(options) of O(config) with which each worker loads the app itself. V(trial) tries them when it finds
        connections that workers would share, and C(lazy) of the size tells that it did.
    type: list
    elements: list
  reload:
    description:
      - How to go over to a changed config.
      - V(zerg) and V(upstream) start a second instance, and leave both running.
      - V(graceful) lets the running instance reload itself.
      - V(chain) lets its workers load the release to which O(link) leads, one at a time.
      - V(exclusive) is like V(graceful), without a trial start beside what runs.
      - Where the running instance cannot go over in that way, another one is started beside it, or, with V(exclusive),
        when it has ended.
    type: str
    choices: [zerg, chain, graceful, upstream, exclusive]
    default: zerg
  link:
    description: The symbolic link through which workers find the release. Needed when O(reload=chain).
    type: path
  release:
    description: Directory of the release it must lead to. Needed when O(reload=chain).
    type: path
  upstream:
    description:
      - Symbolic link that always leads to the socket to which requests must go, wherever the app runs now. nginx
        follows it at each request and need not be reloaded. Its directory must outlive a reboot.
    type: path
  size:
    description:
      - File of the release in which the memory it uses with one worker is kept. Needed when O(state=trial).
    type: path
  tried:
    description:
      - What V(trial) returned in the same run. When it is O(config) that was tried, V(switched) does not try it again.
    type: str
    default: ""
  anew:
    description: Whether to start it anew though it runs as O(config) says, as when its virtualenv was made anew.
    type: bool
    default: false
  wrapper:
    description: The program by which the Emperor starts vassals.
    type: path
    default: /usr/local/libexec/emperor-wrapper
  health_path:
    description: Path of the health check.
    type: str
    default: /
  script_name:
    description: The part of O(health_path) by which nginx finds the app, where it shares a domain.
    type: str
    default: ""
  health_status:
    description: Status that the app must answer.
    type: int
    default: 200
  health_host:
    description: Host header of the health check.
    type: str
    default: localhost
  tls:
    description: Whether clients use HTTPS, so that the health check says so, too.
    type: bool
    default: false
  start_timeout:
    description: Seconds the app may take to start and answer.
    type: int
    default: 60
  drain_timeout:
    description: Seconds the running requests of an instance may take to end; what runs on then is killed.
    type: int
    default: 60
  memory_reserve:
    description: MiB of memory that must stay free while two instances run side by side.
    type: int
    default: 64
  memory_limit:
    description:
      - MiB of memory that all instances of the app may use together, when O(state=switched) or
        O(state=committed). Until V(committed) a former, higher limit stays. 0 changes none.
      - The kernel kills a process of the app that goes beyond. Control groups of version 1 cannot do that.
    type: int
    default: 0
  site_files:
    description:
      - Files of nginx that V(switched) writes, each as M(flaskops.emperor.nginx_config) takes them. nginx tests them
        before anything else. They are written when the app runs, and then nginx is reloaded.
    type: list
    elements: dict
    default: []
  site_pending:
    description: Whether an earlier task of the run writes what O(site_files) need, so that check mode can test nothing.
    type: bool
    default: false
  through:
    description:
      - How V(switched) sends the health check as a client would, when the app runs. With the C(port) of nginx, whether
        it is sent by C(tls), and how many checks are sent C(at_once) after the wrong instance answered.
    type: dict
  commit:
    description: Whether V(switched) goes on with V(committed) when clients reach what it started.
    type: bool
    default: false
  current:
    description:
      - The release that V(committed) makes the current one, as M(flaskops.emperor.release) does, with C(home), C(id),
        C(keep) and C(fail_others).
    type: dict
attributes:
  check_mode:
    description: Says what would be done.
    support: full
  diff_mode:
    description: Shows the change of the vassal file, without the values of environment variables.
    support: full
author:
  - flaskops maintainers (@flaskops)
"""

EXAMPLES = r"""
- name: Run the release
  flaskops.emperor.vassal:
    name: shop
    directory: /etc/emperor/vassals
    run: /run/emperor/shop
    config: "{{ app | flaskops.emperor.vassal_config(plan=workers, release='3f2a9c01d4e5') }}"
    upstream: /srv/flask_apps/shop/upstream.sock
    health_path: /healthz

- name: See that a release starts, and how much memory it needs
  flaskops.emperor.vassal:
    name: shop
    directory: /etc/emperor/vassals
    run: /run/emperor/shop
    state: trial
    config: "{{ app | flaskops.emperor.vassal_config(plan=workers, release='3f2a9c01d4e5') }}"
    size: /srv/flask_apps/shop/releases/3f2a9c01d4e5/size.json

- name: End what ran before
  flaskops.emperor.vassal:
    name: shop
    directory: /etc/emperor/vassals
    run: /run/emperor/shop
    upstream: /srv/flask_apps/shop/upstream.sock
    state: committed
"""

RETURN = r"""
generation:
  description: Names the content of the vassal file; the app answers it in the header X-Vassal. Empty when no app runs.
  type: str
  returned: when O(state=switched) or O(state=rolled_back)
size:
  description:
    - Bytes that the app uses with one worker, as C(total), C(private) and C(rss), and whether each worker must load the
      app itself (C(lazy)); empty when not known.
  type: dict
  returned: when O(state=trial)
  sample: {"total": 52428800, "private": 8388608, "rss": 47185920, "lazy": false}
tried:
  description: Names what was tried; empty when nothing had to be.
  type: str
  returned: when O(state=trial)
"""


STATES = ("switched", "trial", "committed", "rolled_back", "absent")


def difference(app: App, before: str | None, after: str | None) -> dict[str, str]:
    """The change of the vassal file, as Ansible shows it."""
    header = f"{app.params['directory']}/{app.name}"
    return {"before": shown(before), "after": shown(after), "before_header": header, "after_header": header}


def running(app: App) -> str | None:
    """The vassal file of what was started last; None when the app does not run."""
    taken = app.taken
    return taken[-1].text if taken else None


def alone(module: Module, app: App, do: Callable[[], Any], known: list[dict[str, str]], **more: Any) -> Any:
    """Do something while no other module changes the host; fail with a sentence, without secrets, when it fails.

    :param known: environments whose values no message may show.
    """
    try:
        with exclusive():
            return do()
    except Unhealthy as reason:
        if app.params["link"]:  # beside the files of the app
            known = [*known, settings_files.secrets(os.path.dirname(app.params["link"]))]
        module.fail_json(msg=discreet(f"The app {app.name} {reason}", known), **more)
    except Busy as reason:
        module.fail_json(msg=str(reason))


def switched(module: Module, app: App, config: Config) -> dict[str, Any]:
    """Answer for the state `switched`."""
    before, files = running(app), module.params["site_files"]
    changes, _tested = nginx.tested(module, nginx.ROOT, nginx.texts(files), module.params["site_pending"])
    answer: dict[str, Any] = {"generation": config.generation, "diff": difference(app, before, config.render())}
    if module.check_mode:
        changed = before != config.render() or not app.released or not app.reached
    else:
        known = [config.environment, *app.environments]
        changed = alone(module, app, lambda: states.switched(app, config), known, generation=config.generation)
    if changes:
        answer["diff"] = [answer["diff"], *nginx.write(module, changes)]
    done = False
    if not module.check_mode:
        done = bool(files and nginx.reload(module, nginx.ROOT))
        ask_as_client(module, config.generation)
    if module.params["commit"]:
        done = committed(module, app, config)["changed"] or done
    return {"changed": changed or bool(changes) or done, **answer}


def ask_as_client(module: Module, generation: str) -> None:
    """Send the health check through nginx, if it is wanted. Ends the module when clients do not reach the instance."""
    params, through = module.params, module.params["through"]
    if not through:
        return
    fault, _checks = web.wait(
        at_once=through["at_once"], port=through["port"], tls=through["tls"], host=params["health_host"],
        path=params["health_path"], status=params["health_status"], generation=generation,
        patience=params["start_timeout"],
    )  # fmt: skip
    if fault:
        module.fail_json(msg=fault, generation=generation)


def trial(module: Module, app: App, config: Config) -> dict[str, Any]:
    """Answer for the state `trial`."""
    if module.check_mode:
        changed = app.tries and not app.tried(config)
        return {"changed": changed, "size": app.trial.get("size") or {}, "tried": ""}
    done = alone(module, app, lambda: states.tried(app, config), [config.environment])
    for warning in app.warnings:
        module.warn(f"{app.name}: {warning}")
    return {"changed": bool(done), "size": app.trial.get("size") or {}, "tried": done}


def committed(module: Module, app: App, _config: Config) -> dict[str, Any]:
    """Answer for the state `committed`."""
    current = module.params["current"] or {}
    releases = Releases(current.get("home", ""))
    if module.check_mode:
        moves = bool(current) and activation.would_change(releases, current["id"], current["keep"])[0]
        return {"changed": bool(app.others or app.leftovers) or not (app.limited and app.confined) or moves}

    def commit() -> bool:
        changed = states.committed(app)
        if not current:
            return changed
        return activation.make_current(releases, current["id"], current["keep"], current["fail_others"])[0] or changed

    return {"changed": alone(module, app, commit, [])}


def rolled_back(module: Module, app: App, _config: Config) -> dict[str, Any]:
    """Answer for the state `rolled_back`."""
    changed, known = app.before is not None, app.environments
    if module.check_mode:
        return {"changed": changed, "generation": ""}
    said = alone(module, app, lambda: states.roll_back(app), known)
    text = running(app)
    named = Config.parse(text).named if text else ""
    return {"changed": changed, "msg": discreet(said, known), "generation": named}


def absent(module: Module, app: App, _config: Config) -> dict[str, Any]:
    """Answer for the state `absent`."""
    before = running(app)
    answer = {"diff": difference(app, before, None)}
    if module.check_mode:
        return {"changed": before is not None, **answer}
    return {"changed": alone(module, app, lambda: states.absent(app), []), **answer}


ANSWERS = {"switched": switched, "trial": trial, "committed": committed, "rolled_back": rolled_back, "absent": absent}


def main() -> None:
    """Bring the vassal into the wanted state."""
    module = Module(
        argument_spec={
            "name": {"type": "str", "required": True},
            "directory": {"type": "path", "required": True},
            "run": {"type": "path", "required": True},
            "state": {"type": "str", "choices": list(STATES), "default": "switched"},
            "config": {"type": "dict", "no_log": True},
            "lazily": {"type": "list", "elements": "list", "no_log": True},
            "reload": {"type": "str", "choices": list(MODES), "default": "zerg"},
            "link": {"type": "path"},
            "release": {"type": "path"},
            "upstream": {"type": "path"},
            "size": {"type": "path"},
            "tried": {"type": "str", "default": ""},
            "anew": {"type": "bool", "default": False},
            "wrapper": {"type": "path", "default": "/usr/local/libexec/emperor-wrapper"},
            "health_path": {"type": "str", "default": "/"},
            "script_name": {"type": "str", "default": ""},
            "health_status": {"type": "int", "default": 200},
            "tls": {"type": "bool", "default": False},
            "health_host": {"type": "str", "default": "localhost"},
            "start_timeout": {"type": "int", "default": 60},
            "drain_timeout": {"type": "int", "default": 60},
            "memory_reserve": {"type": "int", "default": 64},
            "memory_limit": {"type": "int", "default": 0},
            "site_files": {"type": "list", "elements": "dict", "default": []},
            "site_pending": {"type": "bool", "default": False},
            "through": {"type": "dict"},
            "commit": {"type": "bool", "default": False},
            "current": {"type": "dict"},
        },
        required_if=[("state", "switched", ["config"]), ("state", "trial", ["config", "size"])],
        required_by={"release": ["link"]},
        supports_check_mode=True,
    )
    state, data = module.params["state"], module.params["config"] or {"launch": {}, "options": []}
    # Every text in it would be replaced in every answer, the app's name and release too: discreet() hides the values.
    module.params["config"] = sorted(data.get("launch", {}).get("environment", {}))
    lazily = module.params.pop("lazily")
    module.no_log_values.clear()
    if state in ("switched", "trial") and MODES[module.params["reload"]].through_link and not module.params["release"]:
        module.fail_json(msg=f"release and link are missing, but reload is {module.params['reload']}: name both.")
    try:
        config = Config.of(data)
        app = App(module.params)
        app.lazily = Config.of({**data, "options": lazily}) if lazily else None
    except (KeyError, TypeError, ValueError) as fault:
        module.fail_json(msg=f"config cannot be used ({fault}): make it with the filter vassal_config.")
    module.exit_json(**ANSWERS[state](module, app, config))


if __name__ == "__main__":
    main()
