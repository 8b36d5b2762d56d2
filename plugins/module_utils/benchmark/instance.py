"""An instance of an app that only the benchmark reaches: what serves is not touched, and gets no request of it."""

from __future__ import annotations

import contextlib
import os
import pwd
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace

from ansible_collections.flaskops.emperor.plugins.module_utils import host, processes
from ansible_collections.flaskops.emperor.plugins.module_utils.confined import sandbox
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal import health, journal, watch
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.config import Config
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.health import Unhealthy
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.store import App

KIND = "benchmark"  # its files are called so
WRAPPER = "/usr/local/libexec/emperor-wrapper"


def unit(app: App) -> str:
    """The unit in which it runs."""
    return f"emperor-{KIND}-{app.name}"


def files(app: App) -> list[str]:
    """All its files."""
    return [os.path.join(app.params["run"], f"{KIND}.{kind}") for kind in ("ini", "sock", "stats")]


def sized(config: Config, run: str, workers: int, threads: int) -> Config:
    """What serves, with other workers and on a socket of its own."""
    trial = config.trial(run, kind=KIND)
    other = {"processes": str(workers), "threads": str(threads)}
    return replace(trial, options=tuple((name, other.get(name, value)) for name, value in trial.options))


def properties(app: App, seconds: float) -> list[str]:
    """How its unit runs: in the sandbox of the Emperor and within the memory of the app, and clients come first."""
    told = [
        *sandbox(),
        *host.confinement(app.name, app.network()),
        "CapabilityBoundingSet=",
        "CPUWeight=50",
        "KillMode=mixed",
        "TimeoutStopSec=5",
        # Also when the run that started it is killed, nothing is left.
        f"RuntimeMaxSec={seconds:.0f}",
        f"ExecStopPost=/bin/rm -f {' '.join(files(app))}",
    ]
    limit = (host.read(app.limit) or "").strip()
    return [*told, *([f"MemoryMax={limit}"] if limit else [])]


def stop(app: App) -> None:
    """End it, and leave nothing of it."""
    subprocess.run(["systemctl", "stop", "--quiet", f"{unit(app)}.service"], capture_output=True, check=False)
    for file in files(app):
        host.remove(file)


@contextlib.contextmanager
def running(app: App, config: Config, seconds: float) -> Iterator[str]:
    """An instance that passes its health check, in a `with` block; gives its socket.

    :param config: as `sized` makes it.
    :param seconds: after which it ends, whatever happens.
    :raises Unhealthy: with the reason and the app's own last words.
    """
    stop(app)
    began = time.time()
    user, (file, sock, stats) = pwd.getpwnam(app.name), files(app)
    host.write(file, config.render(), user.pw_uid, user.pw_gid)
    command = [
        "systemd-run", "--quiet", "--collect", "--service-type=exec", f"--unit={unit(app)}",
        f"--description=Benchmark of the app {app.name}", f"--uid={app.name}", f"--gid={user.pw_gid}",
        *(f"--property={one}" for one in properties(app, seconds)), "--", WRAPPER, "--ini", file,
    ]  # fmt: skip
    try:
        started = subprocess.run(command, capture_output=True, text=True, check=False)
        if started.returncode != 0:
            raise Unhealthy(f"cannot be started beside the one that serves: {started.stderr.strip()}")
        try:
            health.wait(app, sock, config.generation, app.params["start_timeout"], watch.deaths(stats))
        except Unhealthy as reason:
            said = journal.journal(f"--unit={unit(app)}", began)
            raise Unhealthy(journal.explained(str(reason), said)) from reason
        yield sock
    finally:
        stop(app)


def memory(app: App) -> int:
    """Bytes that all its processes use; 0 where the kernel does not tell."""
    user = pwd.getpwnam(app.name)
    with contextlib.suppress(OSError):
        return processes.memory(processes.of_file(files(app)[0], user.pw_uid), user.pw_uid, user.pw_gid).total
    return 0
