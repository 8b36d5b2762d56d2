"""The output of a run: what changes and what fails, and nothing of what was included."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLAY = """
- name: Play
  hosts: localhost
  gather_facts: false
  tasks:
    - name: More of them
      ansible.builtin.include_tasks: more.yml
"""
MORE = """
- name: Nothing new
  ansible.builtin.assert: {that: true}
- name: Something new
  ansible.builtin.debug: {msg: new}
  changed_when: true
"""


@pytest.fixture
def output(tmp_path):
    """What a run with this repository's ansible.cfg says."""
    (tmp_path / "play.yml").write_text(PLAY)
    (tmp_path / "more.yml").write_text(MORE)

    def run(*arguments, code=0, **settings):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
        environment = {**kept, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", **settings}
        command = ["ansible-playbook", "-i", "localhost,", "-c", "local", *arguments, str(tmp_path / "play.yml")]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    return run


def test_run_prints_what_changes_and_not_what_is_included(output):
    text = output()
    assert "TASK [Something new]" in text
    assert not [word for word in ("included", "More of them", "Nothing new") if word in text]


def test_run_that_shows_every_task_prints_what_is_included(output):
    text = output(ANSIBLE_DISPLAY_OK_HOSTS="true")
    assert not [word for word in ("included: ", "More of them", "Nothing new") if word not in text]


WRONG = """
- name: Play
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Check the settings
      ansible.builtin.validate_argument_spec:
        argument_spec: {good: {type: str, description: All about it.}}
        provided_arguments: {bad: 1}
"""


def test_wrong_setting_is_told_without_the_list_of_all(output, tmp_path):
    (tmp_path / "play.yml").write_text(WRONG)
    assert "bad. Supported parameters include: good." in output(code=2)
    assert "All about it." not in output(code=2)
    assert "All about it." in output("-v", code=2)


SPECIFICATION = """
argument_specs:
  main:
    options:
      shops_keep: {type: int, description: How many stay.}
"""
LOOK = """
- name: Look at the host
  flaskops.emperor.host_state:
    role: {name: shops, tested: {}, allow_untested: true}
"""
ROLE = """
- name: Play
  hosts: localhost
  gather_facts: false
  vars: {ansible_python_interpreter: "{{ ansible_playbook_python }}"}
  tasks:
    - name: Prepare
      ansible.builtin.import_role: {name: shops, tasks_from: look}
"""


@pytest.fixture
def role(output, tmp_path):
    """A run of a role whose variables are checked by its first task."""
    for path, text in {"meta/argument_specs.yml": SPECIFICATION, "tasks/look.yml": LOOK}.items():
        (tmp_path / "roles/shops" / path).parent.mkdir(parents=True)
        (tmp_path / "roles/shops" / path).write_text(text)
    (tmp_path / "play.yml").write_text(ROLE)
    return output


def test_variable_that_a_role_does_not_know_is_told_though_nothing_changes(role):
    told = "The role shops has no variable shops_kep: did you mean shops_keep?"
    assert told in role("-e", "shops_kep=3")
    assert told not in role("-e", "shops_keep=3")
