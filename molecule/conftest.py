"""Run a scenario's testinfra modules on every host of its inventory, over the fastest connection.

testinfra's own ansible:// backend starts `ansible` for every single command when a host is a container (seconds each):
such hosts are addressed as docker://NAME (which is podman, see .config/bootstrap), all others stay ansible://NAME.

The same files run against real machines: pytest --ansible-inventory=inventory/example molecule/default/tests
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import testinfra
import yaml

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))  # load_client, asking

# Facts are gathered once per test session, which halves the time of a refusal.
SETTINGS = {
    "ANSIBLE_NOCOLOR": "1",
    "ANSIBLE_FORCE_COLOR": "0",
    "ANSIBLE_GATHERING": "smart",
    "ANSIBLE_CACHE_PLUGIN": "jsonfile",
}
JOURNAL = "journalctl --no-pager --lines=50 --unit=emperor --unit='emperor@*' --unit='emperor-*' --unit=nginx"


def pytest_configure(config):
    path = config.getoption("ansible_inventory") or os.environ.get("MOLECULE_INVENTORY_FILE")
    if not path or config.option.hosts:
        return
    listing = subprocess.check_output(["ansible-inventory", "-i", path, "--list"])
    hosts = []
    for name, hostvars in sorted(json.loads(listing)["_meta"]["hostvars"].items()):
        if hostvars.get("ansible_connection") == "community.docker.docker":
            hosts.append(f"docker://{hostvars.get('ansible_host', name)}")
        else:
            hosts.append(f"ansible://{name}")
    if not hosts:
        raise pytest.UsageError(f"{path} has no hosts: nothing would be tested")
    config.option.hosts = ",".join(hosts)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    """Show the journal of the host's units beside a failed test."""
    outcome = yield
    report = outcome.get_result()
    host = item.funcargs.get("host") if hasattr(item, "funcargs") else None
    if report.failed and host is not None:
        name = host.backend.get_pytest_id()
        report.sections.append((f"journal of {name}", host.run(JOURNAL).stdout))


class Run:
    """How a run of ansible-playbook ended.

    :ivar output: all it printed.
    :ivar failed: whether it ended with an error.
    :ivar changed: changed tasks, over all hosts.
    :ivar error: what it says went wrong, on one line.
    """

    def __init__(self, code, output):
        self.output = output
        self.failed = code != 0
        recap = output.rpartition("PLAY RECAP")[2]
        self.changed = sum(int(number) for number in re.findall(r"changed=(\d+)", recap))
        told = re.findall(r"^(?:fatal:|failed:|\[ERROR\]:).*?(?=^TASK |^PLAY |\Z)", output, re.MULTILINE | re.DOTALL)
        self.error = " ".join("".join(told).split())


@pytest.fixture(scope="session")
def start_playbook(tmp_path_factory):
    """Start a playbook, by its name in playbooks/ or its path, on the scenario's hosts as an operator would.

    Returns the process.
    """
    project = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
    facts = tmp_path_factory.mktemp("facts")

    def start(name, *arguments, variables=None):
        extra = tmp_path_factory.mktemp("variables") / "extra.json"
        extra.write_text(json.dumps(variables or {}))
        inventory = os.environ["MOLECULE_INVENTORY_FILE"]
        command = [
            "ansible-playbook",
            "-i",
            inventory,
            f"--extra-vars=@{extra}",
            *arguments,
            str(name if isinstance(name, Path) else project / f"playbooks/{name}.yml"),
        ]
        environment = os.environ | SETTINGS | {"ANSIBLE_CACHE_PLUGIN_CONNECTION": str(facts)}
        return subprocess.Popen(
            command, cwd=project, env=environment, start_new_session=True, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    return start


def finish(process):
    """Wait for a playbook that was started."""
    output, _none = process.communicate()
    print(output)
    return Run(process.returncode, output)


@pytest.fixture(scope="session")
def playbook(start_playbook):
    """Run one of the collection's playbooks to its end."""
    return lambda *arguments, **more: finish(start_playbook(*arguments, **more))


@pytest.fixture(scope="session")
def playbooks(start_playbook):
    """Run several side by side: each argument is a pair of arguments and variables."""

    def run(*several):
        started = [start_playbook(*arguments, variables=variables) for arguments, variables in several]
        return [finish(process) for process in started]

    return run


@pytest.fixture(scope="session")
def fleet(request):
    """All hosts of the scenario."""
    return testinfra.get_hosts(request.config.option.hosts.split(","))


@pytest.fixture(scope="session")
def addresses(fleet):
    """Where the hosts are, by name."""
    return {host.backend.name: host.check_output("hostname -I").split()[0] for host in fleet}


@pytest.fixture(scope="session")
def apps():
    """The scenario's apps as its variables have them, by name, for tests to change."""
    scenario = yaml.safe_load(Path(os.environ["MOLECULE_PROJECT_DIRECTORY"]).joinpath(
        "molecule", os.environ["MOLECULE_SCENARIO_NAME"], "molecule.yml").read_text())  # fmt: skip
    found = scenario["provisioner"]["inventory"]["group_vars"]["webservers"]["flask_apps"]
    for one in found:
        one["source"] = {kind: os.path.expandvars(where) for kind, where in one["source"].items()}
    return {one["name"]: one for one in found}


@pytest.fixture
def variant(tmp_path):
    """Make another release of an app: a copy of its source with other files. Made anew by every call."""
    made = []

    def make(app, files):
        source = tmp_path / f"source{len(made)}"
        made.append(source)
        shutil.copytree(app["source"]["path"], source)
        for name, text in files.items():
            source.joinpath(name).parent.mkdir(exist_ok=True)
            source.joinpath(name).write_text(text)
        return app | {"source": {"path": str(source)}}

    return make
