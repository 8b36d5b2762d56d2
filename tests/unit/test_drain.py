"""fleet/tasks/drain.yml: what the load balancers do with a host is told in one line for all of them.

Played by ansible-playbook over hosts that are none, with a module that answers as a load balancer would.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULE = """#!/usr/bin/python
from ansible.module_utils.basic import AnsibleModule

module = AnsibleModule(argument_spec={"server": {}, "state": {}, "wait": {}, "alone": {}, "apps": {"type": "list"}})
apps = module.params["apps"] or []
module.exit_json(changed=bool(apps), apps=apps)
"""
PLAY = """
- hosts: webservers
  gather_facts: false
  tasks:
    - import_role: {name: fleet, tasks_from: drain}
"""


@pytest.fixture
def play(tmp_path):
    """Play it for two hosts and these load balancers; return what is printed between the play's name and the recap."""
    modules = tmp_path / "ansible_collections/flaskops/emperor/plugins/modules"
    modules.mkdir(parents=True)
    (modules / "haproxy_server.py").write_text(MODULE)
    (tmp_path / "play.yml").write_text(PLAY)

    def run(state, found, balancers=("lb1", "lb2")):
        variables = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "flask_apps_balancers": [*balancers],
            "__flask_apps_longest": 60,
            "__fleet_traffic": state,
            "__fleet_awaited": f"{{{{ {found} }}}}",
        }
        hosts = {"webservers": {"hosts": {"web1": {}}}, "all": {"hosts": dict.fromkeys(balancers), "vars": variables}}
        (tmp_path / "hosts.json").write_text(json.dumps(hosts))
        done = subprocess.run(
            ["ansible-playbook", "-i", tmp_path / "hosts.json", tmp_path / "play.yml"],
            env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(tmp_path), "ANSIBLE_ROLES_PATH": str(ROOT / "roles"),
                 "ANSIBLE_DISPLAY_OK_HOSTS": "false", "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "false", "ANSIBLE_NOCOLOR": "1",
                 "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml"},
            capture_output=True, text=True, check=False, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        said, _recap, counts = done.stdout.partition("PLAY RECAP")
        return [line for line in said.splitlines()[2:] if line and not line.startswith("TASK")], counts

    return run


@pytest.mark.parametrize(("state", "what"), [("drained", "no new requests"), ("ready", "requests again")])
def test_apps_are_told_once_for_all_balancers(play, state, what):
    lines, counts = play(state, "{'lb1': ['shop'], 'lb2': ['shop', 'blog'], 'lb3': []}[item]", ("lb1", "lb2", "lb3"))
    assert lines == ["changed: [web1] => ", f"    msg: 'shop, blog: {what} from lb1, lb2'"]
    assert " changed=1 " in counts


@pytest.mark.parametrize("balancers", [(), ("lb1",)])
def test_nothing_is_told_where_nothing_changed(play, balancers):
    lines, counts = play("ready", "[]", balancers)
    assert lines == []
    assert " changed=0 " in counts
