"""What the figures of a benchmark mean: how many requests at a time serve the app best, and with which workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

MIB = 1024 * 1024
ENOUGH = 0.95  # of the highest rate: more at a time than that only wait
NOISE = 0.05  # differences below that mean nothing, and none below what rounds differ
RESTLESS = 0.25  # rounds that differ by more say nothing
BUSY, IDLE = 0.9, 0.7  # share of the processors


class Step(NamedTuple):
    """So many requests at a time, the median of the rounds."""

    at_a_time: int
    rate: float
    p50: float
    p95: float
    busy: float
    client: float
    failed: int
    requests: int
    rounds: int
    spread: float


class Setting(NamedTuple):
    """Some workers.

    :ivar best: the fewest requests at a time that get (nearly) all it can serve.
    """

    name: str
    steps: list[Step]
    best: Step
    memory: int

    @property
    def slots(self) -> int:
        """Requests it can serve at a time."""
        workers, threads = self.name.split("x")
        return int(workers) * int(threads)


def step(at_a_time: str, rounds: Sequence[Mapping[str, float]]) -> Step:
    """A step from what each round found."""

    def middle(key: str) -> float:
        return median(one[key] for one in rounds)

    rates = [one["rate"] for one in rounds]
    return Step(
        int(at_a_time), middle("rate"), middle("p50"), middle("p95"), middle("busy"), middle("client"),
        int(sum(one["failed"] for one in rounds)), int(sum(one["requests"] for one in rounds)),
        len(rounds), (max(rates) - min(rates)) / (median(rates) or 1),
    )  # fmt: skip


def settings(measured: Mapping[str, Mapping[str, Any]]) -> list[Setting]:
    """All workers that were measured."""
    found = []
    for name, one in measured.items():
        steps = sorted(step(at_a_time, rounds) for at_a_time, rounds in one["steps"].items())
        highest = max(each.rate for each in steps)
        best = next(each for each in steps if each.rate >= ENOUGH * highest)
        found.append(Setting(name, steps, best, int(one["memory"])))
    return found


def once(found: Sequence[Setting]) -> bool:
    """Whether something was measured in one round only, so that nobody knows by how much rounds differ."""
    return any(one.best.rounds == 1 for one in found)


def noise(found: Sequence[Setting]) -> float:
    """A difference that means nothing."""
    return max([RESTLESS if once(found) else NOISE, *(one.best.spread for one in found)])


def chosen(found: Sequence[Setting], served: str) -> Setting:
    """What to run: what serves already, unless others are clearly better; of these the one with the fewest slots."""
    top, least = max(one.best.rate for one in found), 1 - noise(found)
    good = [one for one in found if one.best.rate >= least * top]
    kept = [one for one in good if one.name == served]
    return kept[0] if kept else min(good, key=lambda one: (one.slots, one.memory))


def spoken(name: str) -> str:
    """Workers as a sentence has them."""
    workers, threads = name.split("x")
    return f"{workers} process{'es' if workers != '1' else ''} of {threads} thread{'s' if threads != '1' else ''}"


def workers_told(found: Sequence[Setting], served: str) -> list[str]:
    """Which workers to run."""
    best, now = chosen(found, served), next(one for one in found if one.name == served)
    workers, threads = best.name.split("x")
    if noise(found) > RESTLESS:
        return [f"Nothing can be recommended: the rounds differ by {noise(found):.0%}. Measure when the host has less "
                "to do, or longer (-e seconds=10 -e rounds=3)."]  # fmt: skip
    if best.name == served:
        return [f"Keep {spoken(served)}: no other workers that were measured serve clearly more."]
    gain = f"{best.best.rate / now.best.rate - 1:.0%} more" if now.best.rate else "where what serves answers nothing"
    told = [f"Set `workers: {{processes: {workers}, threads: {threads}}}`: {spoken(best.name)} serve "
            f"{best.best.rate:.0f} requests/s, {gain} than {spoken(served)} now."]  # fmt: skip
    if best.slots == max(one.slots for one in found):
        more = f"{best.name},{int(workers) * 2}x{threads},{workers}x{int(threads) * 2}"
        told.append(f"No more were measured, and more may be better still: -e workers={more}")
    return told


def load_told(best: Setting) -> list[str]:
    """How many requests at a time they serve best, and what limits them."""
    at, rates = best.best, f"{best.best.rate:.0f} requests/s, 95 of 100 within {best.best.p95:.0f} ms"
    if at == best.steps[-1] and len(best.steps) > 1:
        told = [f"{at.at_a_time} at a time, the most that were measured, serve it best: {rates}. Measure more "
                "(-e at_a_time=...)."]  # fmt: skip
    else:
        told = [f"{at.at_a_time} at a time serve it best: {rates}. More at a time get no more responses a second "
                f"({1 - ENOUGH:.0%} at most), and each waits longer."]  # fmt: skip
    if at.busy >= BUSY:
        told.append(f"The processors were {at.busy:.0%} busy then: they are the limit; more workers only share them.")
    elif at.busy < IDLE:
        told.append(f"The processors were {at.busy:.0%} busy then: requests wait for something else, say a database. "
                    "More of them at a time need more threads, which cost little memory.")  # fmt: skip
    return told


def reasons(found: Sequence[Setting], served: str) -> list[str]:
    """The recommendation, then why, a sentence each."""
    told = [*workers_told(found, served), *load_told(chosen(found, served))]
    if lost := sum(one.failed for setting in found for one in setting.steps):
        total = sum(one.requests for setting in found for one in setting.steps) + lost
        told.append(f"{lost} of {total} requests failed, so the figures do not count: see to that first.")
    if once(found):
        told.append(f"One round cannot tell by how much rounds differ, so differences below {RESTLESS:.0%} were taken "
                    "for chance, and \"serve it best\" is a guess. For smaller ones: -e rounds=3.")  # fmt: skip
    elif noise(found) <= RESTLESS:
        told.append(f"Differences below {noise(found):.0%} mean nothing here: rounds of the same differ as much.")
    return told


def limits(found: Sequence[Setting]) -> list[str]:
    """What the numbers do not show."""
    client = max(one.client for setting in found for one in setting.steps)
    return [
        "Other paths: one path was requested, without cookies and always the same way, so caches were warm.",
        "nginx, TLS and the network: requests went to the app directly, so clients wait longer.",
        "Quick requests beside slow ones: all were of one kind. With few threads quick ones wait (docs/workers.md).",
        "The app alone on the host: what serves shared its processors, and its database, with the benchmark. Compare "
        "the figures with each other, not with those of another time.",
        f"The load client itself took up to {client:.0%} of one processor.",
        "Weeks: memory was measured after seconds. What leaks is replaced later (docs/memory.md).",
    ]
