"""Side processes of an app as units of systemd: what they are called, and what is in their files.

A background process is a template unit; its instances are called GENERATION-NUMBER, so that those of the next release
can run beside those of this one. A job that runs on a schedule is a service and a timer. What to run, and in which
environment, is in no unit, which every user can read, but in a file of the app: see `store.Sides`.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils import host

UNITS = "/etc/systemd/system"
PROGRAM = "/usr/local/sbin/emperor-run"
# With the mounts of the host: between two of the sandbox, which "+" keeps, there are no hard links.
SOCKET = "/usr/bin/nsenter --target=1 --mount -- /usr/local/libexec/emperor-side-socket"
PREFIX = "emperor-side-"
WANTS = {"service": "multi-user.target", "timer": "timers.target"}
PAUSE = 2  # seconds before a background process that ended is started again
# SIGTERM goes to the first process alone, which lets those that it started end.
OWN = ("CapabilityBoundingSet=", "KillMode=mixed")

Job = Mapping[str, Any]


def of_app(app: str) -> str:
    """How the units of an app begin. No name of an app or of a part has a full stop in it."""
    return f"{PREFIX}{app}."


def unit(app: str, part: str) -> str:
    """A side process's unit without what follows its name."""
    return of_app(app) + part


def slice_of(app: str) -> str:
    """The slice of all side processes of an app, in that of the app."""
    return host.slice_of(app).removesuffix(".slice") + "-side.slice"


def former(app: str) -> str:
    """The file of the slice as version 1.0 called it."""
    return f"{UNITS}/{PREFIX}{host.slice_of(app).removeprefix('emperor-')}"


def is_background(job: Job) -> bool:
    """Whether a job runs all the time, and not on a schedule."""
    return "calendar" not in job


def digest(job: Job) -> str:
    """Names what the settings say of a job; the rest of it is the host's."""
    told = {key: value for key, value in job.items() if key != "sandbox"}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode("utf-8", "surrogateescape")).hexdigest()


def instances(app: str, part: str, generation: str, job: Job) -> list[str]:
    """The units of a generation of a background process."""
    return [f"{unit(app, part)}@{generation}-{number + 1}.service" for number in range(int(job.get("instances", 0)))]


def _service(app: str, part: str, job: Job) -> str:
    lines = ["# Ansible managed", "[Unit]"]
    if is_background(job):
        lines += [f"Description=Side process {part} of the app {app}, %i", "After=network.target"]
        lines += [
            "StartLimitIntervalSec=0",
            "",
            "[Service]",
            "Type=exec",
            f"ExecStart={PROGRAM} --side {app} {part} %i",
        ]
        lines += ["Restart=always", f"RestartSec={PAUSE}", f"TimeoutStopSec={job['stop_seconds']}"]
    else:
        lines += [f"Description=Scheduled job {part} of the app {app}", "", "[Service]", "Type=oneshot"]
        lines += [f"ExecStart={PROGRAM} --side {app} {part}"]
    lines += [f"User={app}", f"Group={app}", f"Slice={slice_of(app)}", f"SyslogIdentifier={app}-{part}", *OWN]
    lines += ["# The sandbox of the Emperor.", *job["sandbox"], *host.network(job.get("network", "full"))]
    if job.get("serve"):
        lines += ["# nginx, which is in the group of the directory, may use its socket.", "UMask=0007"]
        lines += ["# As root; until the process listens, which may take as long as the process runs."]
        lines += [f"ExecStartPost=+{SOCKET} {app} {part} %i", "TimeoutStartSec=infinity"]
    if is_background(job):
        lines += ["", "[Install]", f"WantedBy={WANTS['service']}"]
    return "\n".join([*lines, ""])


def _timer(app: str, part: str, job: Job) -> str:
    return (
        f"# Ansible managed\n[Unit]\nDescription=When the job {part} of the app {app} runs\n\n[Timer]\n"
        f"OnCalendar={job['calendar']}\nAccuracySec=1s\n"
        "# Once after a time in which the host was off.\nPersistent=yes\n\n"
        f"[Install]\nWantedBy={WANTS['timer']}\n"
    )


def files(app: str, part: str, job: Job) -> dict[str, str]:
    """The files of a side process's units, by path.

    :param job: with ``sandbox``, the lines of the Emperor's unit.
    """
    path = f"{UNITS}/{unit(app, part)}"
    if is_background(job):
        return {f"{path}@.service": _service(app, part, job)}
    return {f"{path}.service": _service(app, part, job), f"{path}.timer": _timer(app, part, job)}


def slice_file(app: str, limit: str, tasks: str) -> dict[str, str]:
    """The file of an app's slice.

    :param limit: bytes of memory that all its side processes may use together; empty for no limit.
    :param tasks: processes and threads that they may have together; empty for no limit.
    """
    lines = [f"MemoryMax={limit}", "MemorySwapMax=0"] if limit else []
    lines += [f"TasksMax={tasks}"] if tasks else []
    told = ["# Ansible managed", "[Unit]", f"Description=Side processes of the app {app}", "", "[Slice]", *lines, ""]
    return {f"{UNITS}/{slice_of(app)}": "\n".join(told)}


def shown(part: str, job: Job) -> str:
    """A job as a diff may show it: of its environment only the names, and whether values changed."""
    values = hashlib.sha256(json.dumps(job["environment"], sort_keys=True).encode("utf-8", "surrogateescape"))
    told = {key: job[key] for key in sorted(job) if key not in ("environment", "sandbox")}
    told["command"] = shlex.join(job["command"])
    told["environment"] = f"{', '.join(sorted(job['environment']))} (values: {values.hexdigest()[:8]})"
    return "".join(f"{part}.{key} = {value}\n" for key, value in told.items())
