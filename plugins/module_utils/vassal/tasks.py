"""Whether an app has as many processes and threads as it may have, so that the kernel lets it start no more."""

from __future__ import annotations

import contextlib
import os
import pwd

from ansible_collections.flaskops.emperor.plugins.module_utils import processes
from ansible_collections.flaskops.emperor.plugins.module_utils.causes import REFUSED
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.config import Config


def count(uid: int) -> int:
    """The processes and threads of a user, as the kernel counts them."""
    found = 0
    for process in processes.of_user(uid):
        with contextlib.suppress(OSError):
            found += len(os.listdir(f"/proc/{process.pid}/task"))
    return found


def refused(name: str, config: Config, log: str) -> str:
    """Why an app does not start, as a phrase, when its log tells that this is the reason; else empty.

    :param name: of the app, which is also its user.
    """
    limit = config.launch.get("tasks")
    if not limit or not REFUSED.search(log):
        return ""
    return (
        f"it may not start another process or thread: max_tasks is {limit}, and its user has "
        f"{count(pwd.getpwnam(name).pw_uid)} now, those of side processes included. Set flask_apps[{name}].max_tasks "
        "higher, or let its side processes have fewer"
    )
