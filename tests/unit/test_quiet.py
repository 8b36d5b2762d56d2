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

    def run(**settings):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
        environment = {**kept, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", **settings}
        command = ["ansible-playbook", "-i", "localhost,", "-c", "local", str(tmp_path / "play.yml")]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout

    return run


def test_run_prints_what_changes_and_not_what_is_included(output):
    text = output()
    assert "TASK [Something new]" in text
    assert not [word for word in ("included", "More of them", "Nothing new") if word in text]


def test_run_that_shows_every_task_prints_what_is_included(output):
    text = output(ANSIBLE_DISPLAY_OK_HOSTS="true")
    assert not [word for word in ("included: ", "More of them", "Nothing new") if word not in text]
