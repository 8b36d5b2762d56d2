"""Which steps of a deploy are needed. One that is skipped costs this machine 25 ms for every host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.flaskops.emperor.plugins.plugin_utils.plan import Wanted


def of_app(wanted: Wanted, built: bool, known: bool, sides: bool, hooks: bool) -> dict[str, bool]:
    """Which steps of a deploy an app needs, of those that most do not.

    :param built: whether its release is on the host, and can start.
    :param known: whether the host serves some release of it.
    :param sides: whether it has side processes, or had some.
    :param hooks: whether its hooks run.
    """
    differs, commands = wanted.differs.keys(), wanted.app["hooks"]
    prepares = bool(commands["prepare"] or (commands["before_switch"] and not known))
    return {
        "account": bool(differs & {"account", "files"}),
        "build": not built or bool(differs & {"static", "persistent", "configuration"}),
        "prepare": hooks and prepares,
        "before": sides or "socket" in differs or (hooks and bool(commands["before_switch"])),
        "after": sides or "configuration" in differs or (hooks and bool(commands["after_switch"])),
    }


def of_host(answer: Mapping[str, Any], rolling: bool, balanced: bool) -> list[str]:
    """The steps of a deploy that a host needs, by the names of their files in the role flask_apps.

    :param answer: the plan of the host.
    :param rolling: whether hosts switch one batch after the other.
    :param balanced: whether load balancers send it requests.
    """
    certificates, apps = answer["certificates"], [answer["apps"][name]["steps"] for name in answer["todo"]]
    prepares = [answer[kind] for kind in ("untooled", "packages", "host_differs", "accounts")]
    prepares += [certificates[kind] for kind in ("todo", "files_differ")]
    https_ends = answer["https"] and not answer["https_stays"]
    needed = {
        "prepare": any(prepares),
        "build": bool(apps),
        "between": any(one["prepare"] for one in apps),
        "absent": bool(answer["absent"]),
        "rolling" if rolling else "switch": bool(apps),
        "around": any(one["before"] or one["after"] for one in apps),
        "finish": bool(balanced or answer["nginx_outdated"] or certificates["unused"] or https_ends),
    }
    # After new certificates the host is compared once more, and then it may need any of them.
    return [name for name, this in needed.items() if this or needed["prepare"]]
