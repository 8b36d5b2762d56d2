"""Plan the workers of one app: how many, and when each of them is recycled, within the memory of the host.

The plan depends on the host, the list of its apps and the app's own size alone, so that running again changes nothing,
and neither does the deploy of another app.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.modes import MODES
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.relations import check_tasks
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused

MIB = 1024 * 1024
SYSTEM = 200  # MiB for the kernel, systemd, nginx and the Emperor
GROWTH = 32  # MiB which even the smallest worker may grow before it is recycled
# MiB for a master that does not load the app. A number of its own, so that the limit does not follow every small change
# of an app: a chain reload needs a vassal file that stays the same.
MASTER = 32
# MiB at which a worker is recycled at the latest, or four times its fresh size, rounded up to a power of two. On a host
# with plenty of memory the limit then stays the same when an app joins the list, and so do the processes of the others.
CEILING = 256
SIDE = (
    96  # MiB of a side process, unless the user says how much all of them have; as a web worker before it is measured
)
RAMP_SECONDS = 2  # in which all processes of an adaptive app are there when they are needed


def refuse(sentence: str) -> NoReturn:
    """Refuse the settings.

    :raises Refused: always.
    """
    raise Refused(sentence)


class Size(NamedTuple):
    """What an app uses with one worker, in bytes.

    :ivar total: master and worker, shared pages counted once.
    :ivar private: what of it the worker alone has.
    :ivar rss: what the worker alone and shared together has, as its limit counts it.
    """

    total: int
    private: int
    rss: int


class Profile(NamedTuple):
    """How many workers suit a kind of work, while memory allows it.

    :ivar per_cpu: processes per processor. More than two per processor served no more requests; with one, requests that
        compute held up more of the others.
    :ivar threads: threads per process. They hand Python's lock on to one another, so that 16 of them served a tenth
        fewer short requests than 8.
    :ivar assumed: the size before it was measured.
    """

    per_cpu: int
    threads: int
    assumed: Size


PROFILES = {
    "web": Profile(2, 8, Size(total=96 * MIB, private=32 * MIB, rss=64 * MIB)),
    # Its workers wait more than they compute.
    "slow_io": Profile(2, 32, Size(total=96 * MIB, private=32 * MIB, rss=64 * MIB)),
    # Its workers compute outside of Python's lock, on processors that are not there twice.
    "inference": Profile(1, 4, Size(total=1024 * MIB, private=64 * MIB, rss=960 * MIB)),
}


def _assumed(app: Mapping[str, Any]) -> int:
    """MiB that are kept for the side processes of an app whose user did not say how much."""
    if app["memory"]["side_processes"]:
        return 0
    return SIDE * sum(int(one["instances"]) for one in app["background"].values())


def _without(memory: int, kept: int) -> int:
    """What is left when memory is kept for side processes: at least half, as nobody said how much that is."""
    return memory - min(kept, memory // 2)


def _share(apps: Sequence[Mapping[str, Any]], name: str, memory: int, reserve: int) -> int:
    """MiB of memory for one app: its limit, or an equal part of what the limits of others leave.

    :raises Refused: when the limits do not fit into the host's memory.
    """
    present = [app for app in apps if app["state"] == "present"]
    usable = memory - SYSTEM - reserve
    host = (
        f"of the host's {memory} MiB {max(0, usable)} MiB are for apps ({SYSTEM} MiB are for the system, {reserve} MiB "
    )
    host += "for flask_apps_memory_reserve)"
    set_by_user = {
        f"flask_apps[{app['name']}].memory.{kind}": int(app["memory"][kind])
        for app in present for kind in ("limit", "side_processes") if app["memory"][kind]
    }  # fmt: skip
    free, others = usable - sum(set_by_user.values()), sum(not app["memory"]["limit"] for app in present)
    if free < 0 and set_by_user:
        refuse(
            f"{', '.join(set_by_user)}: {sum(set_by_user.values())} MiB in all, but {host}: lower them, or give the "
            "host more memory."
        )
    app = next(app for app in present if app["name"] == name)
    if app["memory"]["limit"]:
        return int(app["memory"]["limit"])
    free = _without(free, sum(_assumed(one) for one in present if one["memory"]["limit"]))
    if free < others:
        refuse(
            f"flask_apps[{name}].memory.limit is not set, and nothing is left for it: {host}. Give the host more "
            "memory."
        )
    return _without(free // others, _assumed(app))


def _processes(app: Mapping[str, Any], cpus: int, fits: int, need: str) -> tuple[int, str]:
    """The number of processes and its reason.

    :param fits: how many fit into the share.
    :param need: what a process needs, and where that comes from; empty while that is assumed and nothing is refused.
    :raises Refused: when not enough fit.
    """
    where, wanted = f"flask_apps[{app['name']}]", app["workers"]["processes"]
    least = MODES[app["reload"]].least_processes
    if wanted:
        if need and wanted > fits:
            cure = f"set it to {fits}" if fits >= least else "set memory.limit higher, or give the host more memory"
            refuse(f"{where}.workers.processes is {wanted}, but {need}: {cure}.")
        return int(wanted), f"workers.processes is {wanted}"
    profile = PROFILES[app["profile"]]
    suits = max(2, profile.per_cpu * cpus)
    reason = f"profile {app['profile']}, {profile.per_cpu} per processor"
    reason += f" ({cpus})" if suits == profile.per_cpu * cpus else ", at least 2"
    if fits >= suits:
        return suits, reason
    if need and fits < least:
        refuse(
            f"{where}.memory.limit does not hold {least} worker process{'es' * (least > 1)}: {need}: set it higher, "
            "take other apps off the host, or give the host more memory."
        )
    return max(fits, least), f"more do not fit into its memory; {reason}"


def _spread(limit: int, processes: int) -> tuple[int, int]:
    """The first worker's limit and the delta for each further one, so that none has more than the limit, none less than
    half of it, and no two the same. uWSGI adds (worker - 1) * delta.
    """
    delta = limit // (2 * processes)
    return limit - (processes - 1) * delta, delta


def _apart(limit: int, fresh: int, processes: int) -> int:
    """MiB by which each further worker is recycled earlier, so that the last one may grow half as much as the first.

    A power of two, for the same reason as MASTER.
    """
    delta = (limit - fresh) // (2 * processes)
    return 2 ** (delta.bit_length() - 1) if delta > 0 and processes > 1 else 0


def _bounded(value: int | None, low: int, high: int, where: str, unit: str) -> int:
    if value is None:
        return 0
    if not low <= value <= high:
        refuse(f"{where} is {value}, but must be a whole number of {unit}.")
    return value


class Copy(NamedTuple):
    """The memory of one copy of an app: its base and, for each worker, what it may have alone when it is recycled.

    Workers that load the app themselves share next to nothing: all they have counts.

    :ivar share: MiB of the app, for two copies.
    :ivar room: MiB of one copy.
    :ivar base: MiB whatever the number of workers.
    :ivar fresh: MiB that a worker has when it has started, shared pages included.
    :ivar shared: MiB of them that it shares with others.
    :ivar grown: MiB that a worker may have alone.
    """

    share: int
    room: int
    base: int
    fresh: int
    shared: int
    grown: int

    @property
    def fits(self) -> int:
        """How many workers fit into it."""
        return (self.room - self.base) // self.grown

    @property
    def need(self) -> str:
        """The same as a sentence's first half."""
        return (
            f"of the app's share of {self.share} MiB each of the two copies during a deploy has {self.room} MiB, the "
            f"app needs {self.base} MiB and each process {self.grown} MiB to grow into, so that {max(self.fits, 0)} fit"
        )

    def limit(self, processes: int) -> int:
        """MiB at which a worker is recycled when the user set none."""
        ceiling: int = max(CEILING, 2 ** math.ceil(math.log2(4 * self.fresh)))
        return min(max((self.room - self.base) // processes + self.shared, self.fresh + 1), ceiling)


def _copy(app: Mapping[str, Any], share: int, size: Size, measured: bool, lazy: bool) -> Copy:
    """The memory of one copy of an app.

    :param lazy: whether each worker loads the app itself.
    :raises Refused: when a worker would be recycled as soon as it has started.
    """
    recycle = app["memory"]["worker_recycle"]
    fresh = math.ceil(size.rss / MIB)
    shared = 0 if lazy else max(size.rss - size.private, 0) // MIB
    alone = fresh if lazy else math.ceil(size.private / MIB)
    if recycle and measured and recycle <= fresh:
        refuse(
            f"flask_apps[{app['name']}].memory.worker_recycle is {recycle} MiB, but a fresh worker has {fresh} MiB, so "
            f"that each would be recycled at once: set it to {fresh + max(alone, GROWTH)} or more."
        )
    base = max(math.ceil((size.total - size.private) / MIB), MASTER if lazy else 0)
    grown = max(recycle - shared, 1) if recycle else alone + max(alone, GROWTH)
    return Copy(share, share // 2, base, fresh, shared, grown)


def _turnover(app: Mapping[str, Any], processes: int) -> dict[str, int]:
    """After how many requests and seconds each worker is replaced, 0 for no limit.

    :raises Refused: when that is too few to keep the limits of the workers apart.
    """
    where, workers = f"flask_apps[{app['name']}].workers", app["workers"]
    # As many as keep the limits apart, and a worker longer at work than its first request takes.
    requests = _bounded(
        workers["max_requests"], 2 * processes, 10**9, f"{where}.max_requests",
        f"requests from {2 * processes} (two per process) to {10**9}",
    )  # fmt: skip
    least = max(60, 2 * processes, 2 * app["max_request_seconds"])
    lifetime = _bounded(
        workers["max_lifetime_seconds"], least, 10**8, f"{where}.max_lifetime_seconds",
        f"seconds from {least} (twice max_request_seconds, and no less than 60) to {10**8}",
    )  # fmt: skip
    max_requests, max_requests_delta = _spread(requests, processes)
    max_lifetime, max_lifetime_delta = _spread(lifetime, processes)
    return {
        "max_requests": max_requests,
        "max_requests_delta": max_requests_delta,
        "max_lifetime_seconds": max_lifetime,
        "max_lifetime_delta": max_lifetime_delta,
    }


def steady(memory: int) -> int:
    """MiB of memory that a host has after any start: kernels leave some more or less."""
    return memory // 64 * 64


def worker_plan(
    apps: Sequence[Mapping[str, Any]],
    name: str,
    cpus: int,
    memory: int,
    reserve: int = 64,
    size: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Plan the workers of one app.

    :param apps: all apps of the host, completed by the filter ``apps``.
    :param name: the app.
    :param cpus: processors of the host.
    :param memory: memory of the host in MiB.
    :param reserve: MiB that are for no app.
    :param size: ``total``, ``private`` and ``rss`` in bytes, and ``lazy``, as the module ``vassal`` found them; falsy
        when unknown.
    :raises Refused: with one sentence naming the variable and the cure.
    """
    if memory <= 0:
        refuse("The host does not tell its memory, from which workers follow: let /proc/meminfo be readable.")
    app = next(app for app in apps if app["name"] == name)
    workers = app["workers"]
    found = Size(size["total"], size["private"], size["rss"]) if size else PROFILES[app["profile"]].assumed
    lazy = bool((size or {}).get("lazy")) if workers["lazy_apps"] is None else workers["lazy_apps"]
    copy = _copy(app, _share(apps, name, memory, reserve), found, measured=bool(size), lazy=lazy)
    processes, reason = _processes(app, cpus, copy.fits, copy.need if size else "")
    minimum = workers["minimum"] or processes
    if minimum > processes:
        refuse(
            f"flask_apps[{name}].workers.minimum is {minimum}, but the app has {processes} processes: {reason}. "
            "Set it lower."
        )
    check_tasks(app, {"processes": processes, "threads": workers["threads"]})
    turnover = _turnover(app, processes)
    limit: int = app["memory"]["worker_recycle"] or copy.limit(processes)
    delta = _apart(limit, copy.fresh, processes)
    least_limit = f"{limit - (processes - 1) * delta} to " if delta else ""
    measured = f"of {copy.fresh} MiB" if size else f"(assumed to have {copy.fresh} MiB until it is measured)"
    return {
        "processes": processes,
        "threads": workers["threads"],
        "lazy_apps": lazy,
        "minimum": minimum,
        "step": math.ceil((processes - minimum) / RAMP_SECONDS),
        **turnover,
        "recycle_rss": limit,
        "recycle_rss_delta": delta,
        "share": copy.share,
        "why": (
            f"{processes} x {workers['threads']}: {reason}; a fresh worker {measured} is recycled at "
            f"{least_limit}{limit} MiB, which keeps two copies of the app within its {copy.share} MiB."
        ),
    }
