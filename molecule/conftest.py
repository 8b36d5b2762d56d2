"""Run a scenario's testinfra modules on every host of its inventory, over the fastest connection.

testinfra's own ansible:// backend starts `ansible` for every single command when a host is a podman container
(seconds each): such hosts are addressed as podman://NAME, all others stay ansible://NAME.

The same files run against real machines: pytest --ansible-inventory=inventory/example molecule/default/tests
"""

import json
import os
import subprocess

import pytest

JOURNAL = "journalctl --no-pager --lines=50 --unit=emperor --unit='emperor@*' --unit='emperor-*' --unit=nginx"


def pytest_configure(config):
    path = config.getoption("ansible_inventory") or os.environ.get("MOLECULE_INVENTORY_FILE")
    if not path or config.option.hosts:
        return
    listing = subprocess.check_output(["ansible-inventory", "-i", path, "--list"])
    hosts = []
    for name, hostvars in sorted(json.loads(listing)["_meta"]["hostvars"].items()):
        if hostvars.get("ansible_connection") == "containers.podman.podman":
            hosts.append(f"podman://{hostvars.get('ansible_host', name)}")
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
