"""The trial start: a release is started once on a private socket, and passes its health check or is refused."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
import tempfile

from ansible_collections.flaskops.emperor.plugins.module_utils import host, processes
from ansible_collections.flaskops.emperor.plugins.module_utils.as_user import with_parent
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal import health, journal, watch
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.config import Config
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.health import Stop, Unhealthy
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.store import MIB, App


def start(app: App, config: Config) -> processes.Memory | None:
    """Start the app once on a socket of its own, with everything as it will be, and send the health check.

    :returns: what it uses with one worker, None where the kernel does not tell.
    :raises Unhealthy: with the reason and the app's own last words.
    """
    run, user = app.params["run"], pwd.getpwnam(app.name)
    file, sock, stats = (os.path.join(run, f"trial.{kind}") for kind in ("ini", "sock", "stats"))
    release = app.params["release"] or ""
    text = config.trial(run, (app.params["link"] or "") if release else "", release).render()
    for leftover in (sock, stats):
        host.remove(leftover)
    host.write(file, text, user.pw_uid, user.pw_gid)
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        process = subprocess.Popen(
            with_parent([app.params["wrapper"], "--ini", file]),
            cwd="/", env={}, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, text=True,
            user=user.pw_uid, group=user.pw_gid, extra_groups=[],
        )  # fmt: skip

        dying = watch.deaths(stats)

        def hopeless() -> bool:
            if process.poll() is not None:
                raise Stop(f"it ends before it answers (exit code {process.returncode})")
            return dying()

        try:
            health.wait(app, sock, config.generation, app.params["start_timeout"], hopeless)
            output.seek(0)
            app.warnings += journal.warnings(output.read())
            with contextlib.suppress(OSError):
                return processes.memory(processes.of_file(file, user.pw_uid), user.pw_uid, user.pw_gid)
            return None
        except Unhealthy as reason:
            output.seek(0)
            raise Unhealthy(journal.explained(str(reason), output.read())) from reason
        finally:
            end(process)
            for leftover in (file, sock, stats):
                host.remove(leftover)


def end(process: subprocess.Popen[str]) -> None:
    """End the trial start and its children: politely, then for good."""
    for means, seconds in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
        try:
            os.killpg(process.pid, means)
            process.wait(seconds)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # workers that outlived their master


def once(app: App, config: Config) -> processes.Memory | None:
    """The trial start, unless this run had it already. Returns what the app used in it.

    :raises Unhealthy: with the reason and the app's own last words.
    """
    tried = app.trial
    if app.params["tried"] and app.params["tried"] == app.digest(config) == tried.get("digest"):
        size = tried["size"]
        return processes.Memory(**size) if size else None
    return start(app, config)


def check_memory(app: App, config: Config, used: processes.Memory | None) -> None:
    """See that the host has room for a second instance.

    Its size is that of the trial start, which had one worker, and for each other worker what that one shared with none.

    :raises Unhealthy: when there is not enough memory.
    """
    if used is None:
        return
    needed = used.total + max(config.number("processes") - 1, 0) * used.private
    available, reserve = processes.available_memory(), app.params["memory_reserve"] * MIB
    if needed > available - reserve:
        raise Unhealthy(
            f"a second instance beside the running one needs about {needed // MIB} MiB, but of the host's "
            f"{available // MIB} MiB of available memory {reserve // MIB} MiB must stay free "
            "(flask_apps_memory_reserve): set reload of this app to chain or graceful, or workers.processes lower, "
            "or give the host more memory"
        )
