"""The statistics of an instance, and seeing that one can never come up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils import processes, uwsgi_client
from ansible_collections.flaskops.emperor.plugins.module_utils.processes import Process
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal import timing
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.health import Stop, Unhealthy
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.slots import Slot


def statistics(sock: str) -> dict[str, Any] | None:
    """What an instance says of itself on its statistics socket; None when it says nothing."""
    try:
        return uwsgi_client.statistics(sock, timeout=2)
    except (OSError, ValueError):
        return None


def workers(stats: dict[str, Any]) -> list[dict[str, Any]]:
    """The workers that run."""
    return [one for one in stats["workers"] if one["pid"] > 0 and one["status"] != "cheap"]


def serves_any(stats: dict[str, Any]) -> bool:
    """Whether a worker accepts requests, or would be started for one, as a cheap one is."""
    running = workers(stats)
    return any(one["accepting"] for one in running) or all(one["status"] == "cheap" for one in stats["workers"])


def idle(slot: Slot) -> bool:
    """Whether an instance says that it has no request."""
    stats = statistics(slot.stats)
    return stats is not None and not any(core["in_request"] for one in workers(stats) for core in one["cores"])


def deaths(sock: str) -> Callable[[], bool]:
    """A function that raises Stop when workers die again and again and none of them serves, and before Unhealthy.

    It tells whether one accepts requests, or would be started for one.

    :param sock: the statistics socket of the instance.
    """
    starts: dict[int, int] = {}
    silences = alone = 0

    def dying() -> bool:
        nonlocal silences, alone
        try:
            stats = uwsgi_client.statistics(sock, timeout=1)
        except TimeoutError:
            # A master is there and has its hands full. Between two batches of workers that die it may answer once.
            silences += 1
            if silences >= timing.SILENCES:
                raise Stop("its workers die as soon as they start") from None
            raise Unhealthy("none of its workers has loaded the app") from None
        except (OSError, ValueError):
            return False  # it loads the app, and does not listen yet
        if serves_any(stats):
            silences = 0
            return True
        # Where the kernel refuses a worker, its master does not try again.
        alone = 0 if workers(stats) else alone + 1
        if alone >= timing.DEATHS:
            raise Stop("it could start no worker")
        for one in stats["workers"]:
            first = starts.setdefault(one["id"], one["respawn_count"])
            if one["respawn_count"] - first >= timing.DEATHS:
                raise Stop("its workers die as soon as they start")
        raise Unhealthy("none of its workers has loaded the app")

    return dying


def watch(slot: Slot) -> Callable[[], bool]:
    """A function that raises Stop when the instance of a slot cannot come up any more.

    It tells whether it accepts requests.
    """
    stats = statistics(slot.stats)
    running = slot.instance()
    master = [process for process in running if stats and process.pid == stats["pid"]]
    former = running[1:]
    dying = deaths(slot.stats)
    masters: set[Process] = set()

    def hopeless() -> bool:
        if master and not processes.alive(master[0]):
            raise Stop("it ends when it starts")
        if any(processes.alive(worker) for worker in former):
            return False  # it ends its requests first, and accepts no others
        accepting = dying()
        if not accepting:
            masters.update(slot.instance()[:1])
            if len(masters) > timing.DEATHS:
                raise Stop("it ends as soon as it starts, again and again")
        return accepting

    return hopeless
