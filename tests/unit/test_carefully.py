"""release/tasks/carefully.yml: each app that fails is told with its own reason.

Played by ansible-playbook over hosts that are none. The step fails on the hosts in `fails`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WEB = dict.fromkeys(("web1", "web2"))
STEP = """
- name: Fail
  ansible.builtin.fail: {msg: "{{ reason }}"}
  when: inventory_hostname in fails[__flask_apps_name] | default([])
  any_errors_fatal: true   # as of hooks
"""
PLAY = """
- hosts: webservers
  gather_facts: false
  vars_files: [ROLES/flask_apps/vars/main.yml]
  tasks:
    - include_role: {name: release, tasks_from: carefully}
      vars: {__release_step: "{{ playbook_dir }}/step.yml"}
      loop: [shop, blog, docs]
      loop_control: {loop_var: __flask_apps_name}
    - debug: {msg: "{{ inventory_hostname }} {{ __release_failed | default({}) | to_json }} ends"}
"""


@pytest.fixture
def play(tmp_path):
    """Play it for three apps on two hosts; return which apps failed on each host, and why."""
    (tmp_path / "play.yml").write_text(PLAY.replace("ROLES", str(ROOT / "roles")))
    (tmp_path / "step.yml").write_text(STEP)

    def run(fails, reason):
        connection = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        inventory = {"webservers": {"hosts": WEB, "vars": {**connection, "fails": fails, "reason": reason}}}
        (tmp_path / "hosts.json").write_text(json.dumps(inventory))
        done = subprocess.run(
            ["ansible-playbook", "-i", tmp_path / "hosts.json", tmp_path / "play.yml"],
            env={**os.environ, "ANSIBLE_ROLES_PATH": str(ROOT / "roles"), "ANSIBLE_NOCOLOR": "1"},
            capture_output=True, text=True, check=False, cwd=tmp_path,
        )  # fmt: skip
        said = [json.loads(line.partition(": ")[2]) for line in done.stdout.splitlines() if ' ends"' in line]
        assert len(said) == 2, done.stdout + done.stderr
        return {line.split(" ", 1)[0]: json.loads(line.split(" ", 1)[1].removesuffix(" ends")) for line in said}

    return run


WAITED = "{} was not deployed, as another host could not go on."


def test_apps_that_fail_with_the_same_text_have_it_both(play):
    both = ["web1", "web2"]
    why = {"shop": "same", "docs": "same"}
    assert play({"shop": both, "docs": both}, "same") == {"web1": why, "web2": why}


def test_host_that_waits_for_another_one_does_not_tell_the_reason_of_an_app_before(play):
    found = play({"shop": ["web1"], "blog": ["web2"], "docs": ["web2"]}, "{{ __flask_apps_name }} fails")
    assert found["web1"] == {"shop": "shop fails", "blog": WAITED.format("blog"), "docs": WAITED.format("docs")}
    assert found["web2"] == {"shop": WAITED.format("shop"), "blog": "blog fails", "docs": "docs fails"}
