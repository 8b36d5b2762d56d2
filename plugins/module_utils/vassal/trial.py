"""The trial start: a release is started once on a private socket, and passes its health check or is refused."""

from __future__ import annotations

import contextlib
import os
import pwd
import tempfile

from ansible_collections.flaskops.emperor.plugins.module_utils import confined, host, processes
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal import health, journal, tasks, watch
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
    command = [app.params["wrapper"], "--ini", file]
    limit = app.params["start_timeout"] * 3 + 60  # it is ended long before
    most = int(config.launch.get("tasks") or confined.TASKS)
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        try:
            name = f"emperor-trial-{app.name}"
            with confined.running(
                name, command, user, output, {}, what=f"Trial start of the app {app.name}", seconds=limit, tasks=most,
                network=config.network,
            ) as unit:  # fmt: skip
                dying = watch.deaths(stats)

                def hopeless() -> bool:
                    if unit.process.poll() is not None:
                        raise Stop(f"it ends before it answers (exit code {unit.process.returncode})")
                    return dying()

                health.wait(app, sock, config.generation, app.params["start_timeout"], hopeless)
                output.seek(0)
                app.warnings += journal.warnings(output.read())
                used = None
                with contextlib.suppress(OSError):
                    used = processes.memory(processes.of_file(file, user.pw_uid), user.pw_uid, user.pw_gid)
                # A master looks once a second whether its workers have ended; a question wakes it.
                unit.stop(lambda: watch.statistics(stats))
                return used
        except Unhealthy as reason:
            output.seek(0)
            log = output.read()
            if said := tasks.refused(app.name, config, log):
                raise Unhealthy(f"{said}\n{journal.excerpt(log)}") from reason
            raise Unhealthy(journal.explained(str(reason), log, config.network)) from reason
        except confined.Unconfined as reason:
            raise Unhealthy(str(reason)) from reason
        finally:
            for leftover in (file, sock, stats):
                host.remove(leftover)


def once(app: App, config: Config) -> processes.Memory | None:
    """The trial start, unless this run had it already. Returns what the app used in it.

    :raises Unhealthy: with the reason and the app's own last words.
    """
    tried = app.trial
    if app.params["tried"] and app.params["tried"] == app.digest(config) == tried.get("digest"):
        size = tried["size"]
        return processes.Memory(*(size[name] for name in processes.Memory._fields)) if size else None
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
