"""Plan the workers of one app: how many, and when each of them is recycled, within the memory of the host.

The plan depends on the host, the list of its apps and the app's own size alone, so that running again changes nothing,
and neither does the deploy of another app.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: worker_plan
short_description: Plan the workers of one app within the memory of the host
version_added: 1.0.0
description:
  - Tells how many processes and threads an app gets, when a worker is recycled, and why.
  - Every app has a share of the memory, which holds two copies of it, as there are during a deploy, with every worker
    as large as it may become.
  - Fails with one sentence that names the variable and the cure when the settings do not fit together or into the
    share.
positional: _input
options:
  _input:
    description: The apps of the host, as the filter C(apps) completes them.
    type: list
    elements: dict
    required: true
  name:
    description: The app whose workers to plan.
    type: str
    required: true
  cpus:
    description: Number of processors of the host.
    type: int
    required: true
  memory:
    description: Memory of the host in MiB.
    type: int
    required: true
  reserve:
    description: MiB of memory that are for no app.
    type: int
    default: 64
  size:
    description:
      - What the app uses with one worker, as M(flaskops.emperor.vassal) measured it, in bytes.
      - While it is not known, an assumption that goes with the app's profile takes its place, and nothing is
        refused for the app's size.
    type: dict
author:
  - flaskops maintainers (@flaskops)
"""

EXAMPLES = r"""
- name: Show how many workers the shop gets on a host with two processors and 2 GiB
  ansible.builtin.debug:
    msg: "{{ flask_apps | flaskops.emperor.apps | flaskops.emperor.worker_plan('shop', cpus=2, memory=2048) }}"
"""

RETURN = r"""
_value:
  description:
    - The plan, with the keys C(processes), C(threads), C(lazy_apps), C(minimum), C(step), C(max_requests),
      C(max_requests_delta), C(max_lifetime_seconds), C(max_lifetime_delta), C(recycle_rss), C(recycle_rss_delta) and
      C(share) (these three in MiB), and C(why), a sentence.
    - A limit that is not set is 0.
  type: dict
"""

MIB = 1024 * 1024
SYSTEM = 200  # MiB for the kernel, systemd, nginx and the Emperor
GROWTH = 32  # MiB which even the smallest worker may grow before it is recycled
# MiB for a master that does not load the app. A number of its own, so that the limit does not follow every small change
# of an app: a chain reload needs a vassal file that stays the same.
MASTER = 32
# MiB at which a worker is recycled at the latest, or four times its fresh size, rounded up to a power of two. On a host
# with plenty of memory the limit then stays the same when an app joins the list, and so do the processes of the others.
CEILING = 256
RAMP_SECONDS = 2  # in which all processes of an adaptive app are there when they are needed


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


def _fail(sentence: str) -> NoReturn:
    raise AnsibleFilterError(sentence)


def _share(apps: Sequence[Mapping[str, Any]], name: str, memory: int, reserve: int) -> int:
    """MiB of memory for one app: its limit, or an equal part of what the limits of others leave.

    :raises AnsibleFilterError: when the limits do not fit into the host's memory.
    """
    usable = memory - SYSTEM - reserve
    host = (
        f"of the host's {memory} MiB {max(0, usable)} MiB are for apps ({SYSTEM} MiB are for the system, {reserve} MiB "
    )
    host += "for flask_apps_memory_reserve)"
    limits = {app["name"]: app["memory"]["limit"] for app in apps if app["state"] == "present"}
    set_by_user = {one: limit for one, limit in limits.items() if limit}
    free, others = usable - sum(set_by_user.values()), len(limits) - len(set_by_user)
    if free < 0 and set_by_user:
        names = ", ".join(f"flask_apps[{one}].memory.limit" for one in set_by_user)
        _fail(f"{names}: {sum(set_by_user.values())} MiB in all, but {host}: lower them, or give the host more memory.")
    if name in set_by_user:
        return int(set_by_user[name])
    if free < others:
        _fail(f"flask_apps[{name}].memory.limit is not set, and nothing is left, for {host}: give it more memory.")
    return int(free // others)


def _processes(app: Mapping[str, Any], cpus: int, fits: int, need: str) -> tuple[int, str]:
    """The number of processes and its reason.

    :param fits: how many fit into the share.
    :param need: what a process needs, and where that comes from; empty while that is assumed and nothing is refused.
    :raises AnsibleFilterError: when not enough fit.
    """
    where, wanted = f"flask_apps[{app['name']}]", app["workers"]["processes"]
    least = 2 if app["reload"] == "chain" else 1
    if wanted:
        if need and wanted > fits:
            cure = f"set it to {fits}" if fits >= least else "set memory.limit higher, or give the host more memory"
            _fail(f"{where}.workers.processes is {wanted}, but {need}: {cure}.")
        return int(wanted), f"workers.processes is {wanted}"
    profile = PROFILES[app["profile"]]
    suits = max(2, profile.per_cpu * cpus)
    reason = f"profile {app['profile']}, {profile.per_cpu} per processor"
    reason += f" ({cpus})" if suits == profile.per_cpu * cpus else ", at least 2"
    if fits >= suits:
        return suits, reason
    if need and fits < least:
        _fail(
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
        _fail(f"{where} is {value}, but has to be a whole number of {unit}.")
    return value


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
    :param size: ``total``, ``private`` and ``rss`` in bytes, as the module ``vassal`` measured them; falsy if unknown.
    :raises AnsibleFilterError: with one sentence naming the variable and the cure.
    """
    if memory <= 0:
        _fail(
            "ansible_facts has no memtotal_mb, from which the number of workers follows: gather the facts `hardware`."
        )
    app = next(app for app in apps if app["name"] == name)
    where, workers = f"flask_apps[{name}]", app["workers"]
    share = _share(apps, name, memory, reserve)
    assumed = PROFILES[app["profile"]].assumed
    found = Size(size["total"], size["private"], size["rss"]) if size else assumed

    # One copy of the app is its base and, for each worker, what this one may have alone when it is recycled. Workers
    # that load the app themselves share next to nothing: all they have counts.
    copy = share // 2
    lazy = workers["lazy_apps"]
    fresh = math.ceil(found.rss / MIB)
    shared = 0 if lazy else max(found.rss - found.private, 0) // MIB
    base = max(math.ceil((found.total - found.private) / MIB), MASTER if lazy else 0)
    alone = fresh if lazy else math.ceil(found.private / MIB)
    recycle = app["memory"]["worker_recycle"]
    if recycle and size and recycle <= fresh:
        _fail(
            f"{where}.memory.worker_recycle is {recycle} MiB, but a fresh worker has {fresh} MiB, so that each "
            f"would be recycled at once: set it to {fresh + max(alone, GROWTH)} or more."
        )
    grown = max(recycle - shared, 1) if recycle else alone + max(alone, GROWTH)
    fits = (copy - base) // grown
    need = (
        f"of the app's share of {share} MiB each of the two copies during a deploy has {copy} MiB, the app needs "
        f"{base} MiB and each process {grown} MiB to grow into, so that {max(fits, 0)} fit"
    )
    processes, reason = _processes(app, cpus, fits, need if size else "")
    ceiling = max(CEILING, 2 ** math.ceil(math.log2(4 * fresh)))
    limit = recycle or min(max((copy - base) // processes + shared, fresh + 1), ceiling)

    minimum = workers["minimum"] or processes
    if minimum > processes:
        _fail(f"{where}.workers.minimum is {minimum}, but the app has {processes} processes: {reason}. Set it lower.")
    # As many as keep the limits apart, and a worker at work longer than its first request.
    requests = _bounded(
        workers["max_requests"], 2 * processes, 10**9, f"{where}.workers.max_requests",
        f"requests from {2 * processes} (two per process) to {10**9}",
    )  # fmt: skip
    least = max(60, 2 * processes, 2 * app["max_request_seconds"])
    lifetime = _bounded(
        workers["max_lifetime_seconds"], least, 10**8, f"{where}.workers.max_lifetime_seconds",
        f"seconds from {least} (twice max_request_seconds, and no less than 60) to {10**8}",
    )  # fmt: skip
    max_requests, max_requests_delta = _spread(requests, processes)
    max_lifetime, max_lifetime_delta = _spread(lifetime, processes)
    recycle_delta = _apart(limit, fresh, processes)
    least_limit = f"{limit - (processes - 1) * recycle_delta} to " if recycle_delta else ""
    threads = workers["threads"]
    measured = f"of {fresh} MiB" if size else f"(assumed to have {fresh} MiB until it is measured)"
    return {
        "processes": processes,
        "threads": threads,
        "lazy_apps": lazy,
        "minimum": minimum,
        "step": math.ceil((processes - minimum) / RAMP_SECONDS),
        "max_requests": max_requests,
        "max_requests_delta": max_requests_delta,
        "max_lifetime_seconds": max_lifetime,
        "max_lifetime_delta": max_lifetime_delta,
        "recycle_rss": limit,
        "recycle_rss_delta": recycle_delta,
        "share": share,
        "why": (
            f"{processes} x {threads}: {reason}; a fresh worker {measured} is recycled at {least_limit}{limit} MiB, "
            f"which keeps two copies of the app within its {share} MiB."
        ),
    }


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"worker_plan": worker_plan}
