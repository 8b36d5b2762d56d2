"""tasks/hooks.yml: once per fleet and release, before anything is switched, and not at all when it failed.

Played by ansible-playbook over hosts that are none, with the module `release_command` replaced by one that takes notes.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

ROOT = Path(__file__).parents[2]
MODULE = """#!/usr/bin/python
import sys
from ansible.module_utils.basic import AnsibleModule

options = {name: {} for name in ("name", "home", "id", "command")}
options |= {"environment": {"type": "dict"}, "timeout": {"type": "int"}, "setting": {}, "network": {}}
module = AnsibleModule(argument_spec=options, supports_check_mode=True)
asked, environment = module.params, module.params["environment"]
if not module.check_mode:
    with open(environment["NOTES"], "a") as notes:
        print(environment["HOST"], asked["id"], asked["command"], environment["VIRTUAL_ENV"], file=notes)
if asked["command"] == "flask fail":
    module.fail_json(msg="it failed")
module.exit_json(changed=True)
"""
# As the role flask_apps includes it, for two apps, in the block that locked.yml has.
PLAY = """
- hosts: webservers
  gather_facts: false
  vars_files: [ROLES/flask_apps/defaults/main.yml, ROLES/flask_apps/vars/main.yml]
  serial: "{{ batch | default('100%') }}"
  tasks:
    - set_fact:
        __flask_apps_plan:
          apps:
            shop: &release {release: "{{ wanted | default('new') }}", current: "{{ current }}"}
            blog: *release
    - block:
        - include_role: {name: fleet, tasks_from: hooks}
          vars: {__fleet_moment: prepare}
          loop: [shop, blog]
          loop_control: {loop_var: __flask_apps_name}
        - debug: {msg: "{{ inventory_hostname }} is tried"}
        - include_role: {name: fleet, tasks_from: hooks}
          vars: {__fleet_moment: before_switch}
          loop: [shop, blog]
          loop_control: {loop_var: __flask_apps_name}
        - debug: {msg: "{{ inventory_hostname }} switches"}
        - include_role: {name: fleet, tasks_from: hooks}
          vars: {__fleet_moment: after_switch}
          loop: [shop, blog]
          loop_control: {loop_var: __flask_apps_name}
      always:
        - debug: {msg: "{{ inventory_hostname }} is freed"}
"""
BLOG = {"name": "blog", "app": "blog:app", "source": {"path": "."}, "domains": ["blog.example.com"]}
COMMANDS = ["flask init", "flask db upgrade", "flask seed", "flask warm"]
UNREACHABLE = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}


@pytest.fixture
def play(tmp_path):
    """Play the hooks of an app over hosts; return what was run, where, and what each host then did."""
    collection = tmp_path / "ansible_collections/flaskops/emperor/plugins"
    (collection / "modules").mkdir(parents=True)
    (collection / "modules/release_command.py").write_text(MODULE)
    for name in ("filter", "plugin_utils", "module_utils"):
        (collection / name).symlink_to(ROOT / "plugins" / name)
    (tmp_path / "play.yml").write_text(PLAY.replace("ROLES", str(ROOT / "roles")))
    notes = tmp_path / "notes"

    def run(hosts, *options, before=("flask db upgrade", "flask seed"), after=("flask warm",), prepare=(), **more):
        environment = {"NOTES": str(notes), "HOST": "{{ inventory_hostname }}"}
        hooks = {"prepare": [*prepare], "before_switch": [*before], "after_switch": [*after]}
        shop = {**BLOG, "name": "shop", "domains": [], "hooks": hooks}
        shop.update(environment=environment, **more)
        variables = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        inventory = {"webservers": {"hosts": hosts, "vars": {**variables, "flask_apps": [shop, BLOG]}}}
        (tmp_path / "hosts.yml").write_text(yaml.dump(inventory))
        done = subprocess.run(
            ["ansible-playbook", "-i", tmp_path / "hosts.yml", *options, tmp_path / "play.yml"],
            env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(tmp_path), "ANSIBLE_ROLES_PATH": str(ROOT / "roles"),
                 "ANSIBLE_LOCALHOST_WARNING": "false", "ANSIBLE_NOCOLOR": "1", "ANSIBLE_PIPELINING": "true"},
            capture_output=True, text=True, check=False, cwd=tmp_path,
        )  # fmt: skip
        ran = [line.rpartition(" ") for line in notes.read_text().splitlines()] if notes.exists() else []
        return SimpleNamespace(
            code=done.returncode,
            ran=[first for first, _space, _virtualenv in ran],
            virtualenvs={virtualenv for _first, _space, virtualenv in ran},
            # What ran before the first trial start.
            prepared=[
                found[1]
                for found in re.findall(r"changed: \[(\w+)\] => \(item=([^)]+)\)", done.stdout.partition("is tried")[0])
            ],
            switched=sorted(re.findall(r'"msg": "(\w+) switches"', done.stdout)),
            freed=sorted(re.findall(r'"msg": "(\w+) is freed"', done.stdout)),
            output=done.stdout + done.stderr,
        )

    return run


OLD = {"current": "old"}


def test_the_first_host_that_needs_the_release_runs_the_hooks_for_all_batches(play):
    # In the mode chain all paths lead through a link to the release that serves, which is the old one.
    hosts = {"web1": {"current": "new"}, "web2": OLD, "web3": OLD}
    played = play(hosts, "-e", "batch=2", reload="chain")
    assert played.code == 0, played.output
    assert played.ran == ["web2 new flask db upgrade", "web2 new flask seed", "web2 new flask warm"]
    assert played.virtualenvs == {"/srv/flask_apps/shop/releases/new/venv"}
    assert played.switched == played.freed == ["web1", "web2", "web3"]


def test_hooks_run_once_for_each_release_of_a_fleet(play):
    hosts = {f"web{number}": {**OLD, "wanted": "ab"[number % 2]} for number in (1, 2, 3)}
    played = play(hosts, before=["flask db upgrade"], after=[])
    assert sorted(played.ran) == ["web1 b flask db upgrade", "web2 a flask db upgrade"], played.output


def test_a_hook_that_fails_stops_every_host_before_anything_is_switched(play):
    # One fork: web3 is asked after the failure, when web1 is in the batch no more.
    hosts = {"web1": OLD, "web2": {"current": "new"}, "web3": OLD, "web4": OLD}
    played = play(hosts, "--forks=1", "-e", "batch=3", before=["flask fail", "flask seed"])
    assert played.code == 2, played.output
    assert (played.ran, played.switched, played.freed) == (["web1 new flask fail"], [], ["web1", "web2", "web3"])


def test_unreachable_host_stops_every_host(play):
    played = play({"web1": {**OLD, **UNREACHABLE}, "web2": OLD})
    assert re.search(r"\[web1\].*Connection refused", played.output), played.output
    assert not re.search(r"\[web1\] \(item=flask seed\)", played.output)  # it may be back by then
    assert (played.ran, played.switched) == ([], [])


def test_no_hook_runs_in_check_mode_or_when_no_host_needs_the_release(play):
    assert play({"web1": OLD, "web2": OLD}, "--check").ran == []
    played = play({"web1": {"current": "new"}, "web2": {"current": "new"}})
    assert (played.code, played.ran, played.switched) == (0, [], ["web1", "web2"])


def test_first_deploy_prepares_the_database_before_the_trial_start(play):
    new = {"current": ""}
    played = play({"web1": new, "web2": new}, prepare=["flask init"])
    assert played.code == 0, played.output
    assert played.prepared == ["flask init", "flask db upgrade", "flask seed"]
    assert played.ran == [f"web1 new {command}" for command in COMMANDS]


def test_host_that_joins_a_fleet_changes_no_database_before_the_trial_start(play):
    played = play({"web1": {"current": ""}, "web2": OLD}, prepare=["flask init"])
    assert played.code == 0, played.output
    assert played.prepared == ["flask init"]
    assert played.ran == [f"web1 new {command}" for command in COMMANDS]


def test_later_deploy_changes_no_database_before_the_trial_start(play):
    played = play({"web1": OLD, "web2": OLD}, prepare=["flask init"])
    assert played.prepared == ["flask init"]
