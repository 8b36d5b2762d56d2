"""Whether a host has what its settings need: a tested system, memory, accounts, interpreters."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.flaskops.emperor.plugins.plugin_utils import side_processes
from ansible_collections.flaskops.emperor.plugins.plugin_utils.plan import Host, Wanted
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.building import debian_packages
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.relations import check_tasks, check_uwsgi
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused


def check_system(machine: Mapping[str, Any], tested: Mapping[str, Sequence[str]], allow: bool) -> None:
    """See that the host's system is one on which the role is tested.

    :param machine: what `apps_state` says of it.
    :param tested: major versions by the distribution's name.
    :param allow: whether to go on all the same.
    :raises Refused: when it is not.
    """
    if allow or machine["version"].split(".")[0] in tested.get(machine["distribution"], ()):
        return
    known = " or ".join(f"{name} {' or '.join(versions)}" for name, versions in tested.items())
    raise Refused(
        f"The role flask_apps is not tested on {machine['distribution']} {machine['version']}. Use {known}, or set "
        "flask_apps_allow_unproven_os to true to try it anyway."
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
            check_tasks(app, host.workers(app["name"], None))  # planning them refuses what does not fit
    for one in wanted:
        where, account = f"flask_apps[{one.name}]", state["apps"][one.name]["account"]
        if account and account["home"] != one.app["paths"]["shared"]:
            raise Refused(
                f"{where}.name is an account of this host that belongs to something else: choose another name."
            )
        if one.app["state"] == "absent":
            continue
        side_processes.check_calendars(one.app, state["apps"][one.name]["calendars"])
        interpreter = one.app["python"]["interpreter"]
        package, found = posixpath.basename(interpreter), state["files"][interpreter]
        # A Debian package is called like the Python that it brings: it is installed before the release is built.
        if (not found or not found["executable"]) and package not in debian_packages(one.app):
            raise Refused(
                f"{where}.python.interpreter is {interpreter}, which is no program on this host: add the Debian "
                f"package that has it to `packages` ({package}), install it first, or correct the path."
            )
