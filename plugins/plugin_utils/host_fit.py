"""Whether a host has what its settings need: memory, accounts, interpreters."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.flaskops.emperor.plugins.plugin_utils import side_processes
from ansible_collections.flaskops.emperor.plugins.plugin_utils.plan import Host, Wanted
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.building import debian_packages
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.relations import check_uwsgi
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused


def check_ports(ports: Mapping[str, int], strangers: Mapping[str, list[str]]) -> None:
    """See that nginx can listen.

    :param ports: where it is to listen, by the variables that say so.
    :param strangers: programs other than nginx that listen on a port.
    :raises Refused: for the first port that is taken.
    """
    for variable, port in ports.items():
        if found := strangers.get(str(port)):
            raise Refused(
                f"{variable} is {port}, but on this host {', '.join(found)} listens there: stop and disable it, or set "
                "another port."
            )


def check_host(host: Host, wanted: Iterable[Wanted], state: Mapping[str, Any]) -> None:
    """Check settings against the host.

    :raises Refused: for workers that do not fit into its memory, an account that belongs to something else, and an
        interpreter that is not there.
    """
    major = state["machine"]["version"].split(".")[0]
    for app in host.apps:
        if app["state"] == "present":
            check_uwsgi(app, host.uwsgi, int(major) if major.isdigit() else 0)
            host.workers(app["name"], None)  # planning them refuses what does not fit
    for one in wanted:
        where, account = f"flask_apps[{one.name}]", state["apps"][one.name]["account"]
        if account and account["home"] != one.app["paths"]["shared"]:
            raise Refused(
                f"{where}.name is an account of this host that belongs to something else: choose another name."
            )
        if one.app["state"] == "absent":
            continue
        if one.app["network"] != "full" and not state["machine"]["filters"]:
            raise Refused(
                f"{where}.network cannot be held to, as the kernel of this host has no control groups of version 2: "
                "boot it without systemd.unified_cgroup_hierarchy=0, or leave network and allowed_addresses out."
            )
        side_processes.check_calendars(one.app, state["apps"][one.name]["calendars"])
        interpreter = one.app["python"]["interpreter"]
        package, found = posixpath.basename(interpreter), state["files"][interpreter]
        # A Debian package is called like the Python that it brings: it is installed before the release is built.
        if (not found or not found["executable"]) and package not in debian_packages(one.app):
            raise Refused(
                f"{where}.python.interpreter is {interpreter}, which is no program on this host: add the Debian "
                f"package that has it to `packages` ({package}), install it first, or correct the path."
            )
