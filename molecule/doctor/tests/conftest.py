"""Break hosts, ask doctor.yml, and do what it says."""

import json
import os
import shlex
import subprocess
import time
from pathlib import Path

import pytest

PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
INVENTORY = os.environ["MOLECULE_INVENTORY_FILE"]


def run(*arguments, **variables):
    """Run a playbook of the collection that prints JSON; return its exit code and what it printed."""
    command = ["ansible-playbook", "-i", INVENTORY, *arguments, "-e", "format=json"]
    if variables:
        command += ["-e", json.dumps(variables)]
    # As an operator has it, with the checkout's own configuration.
    own = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    done = subprocess.run(command, cwd=PROJECT, env=own, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("{"), (done.stdout, done.stderr)
    return done.returncode, json.loads(done.stdout)


def told(answer):
    """All problems of an answer, each with the host's name; of those between hosts it is empty."""
    found = [(host, problem) for host, one in answer["hosts"].items() for problem in one["problems"]]
    return found + [("", problem) for problem in answer["problems"]]


@pytest.fixture(scope="session")
def doctor():
    """The problems that doctor.yml finds on all hosts, and its exit code says the same."""

    def ask(**variables):
        code, answer = run("playbooks/doctor.yml", **variables)
        found = told(answer)
        assert bool(found) == (code != 0), (code, found)
        return found

    return ask


@pytest.fixture(scope="session")
def machines(fleet):
    """The hosts by the names that the inventory gives them."""
    listing = json.loads(subprocess.check_output(["ansible-inventory", "-i", INVENTORY, "--list"]))
    names = {one.get("ansible_host", name): name for name, one in listing["_meta"]["hostvars"].items()}
    return {names[host.backend.name]: host for host in fleet}


@pytest.fixture(scope="session")
def cure(machines):
    """Do what problems say, on their hosts or here; those of several hosts at the same time.

    :param variables: what a person changes in the inventory first.
    """

    def do(problems, **variables):
        here = []
        for host, problem in problems:
            if problem["where"] == "host":
                machines[host].check_output(problem["cure"])
            elif problem["cure"] not in here:
                here.append(problem["cure"])
        changed = f" -e {shlex.quote(json.dumps(variables))}" if variables else ""
        own = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
        started = [
            subprocess.Popen(one + changed, cwd=PROJECT, env=own, shell=True, text=True, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            for one in here
        ]  # fmt: skip
        for command, process in zip(here, started, strict=True):
            output, _none = process.communicate()
            assert process.returncode == 0, f"{command}\n{output}"

    return do


@pytest.fixture(scope="session")
def well(doctor):
    """Wait until doctor.yml finds nothing wrong."""

    def wait(seconds=60):  # the Emperor throttles an app that ended again and again
        end = time.monotonic() + seconds
        while found := doctor():
            assert time.monotonic() < end, found
            time.sleep(1)

    return wait
