"""What a load client found: every request, and every failure."""

from __future__ import annotations

import json
import math
from array import array
from collections import Counter
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

# Every kind of client, and how many of each there are: up to about 250 requests a second to one target
DEFAULT_KINDS = {"get_keep": 3, "get_close": 1, "post": 1, "slow": 2, "long": 1, "upload": 1, "order": 1}
KINDS = tuple(DEFAULT_KINDS)
IDEMPOTENT = frozenset({"get_keep", "get_close", "slow", "long"})
SHORT = frozenset({"get_keep", "get_close", "post", "slow"})
SLOW_SECONDS = 0.1
FAILURES_KEPT = 1000
NO_RELEASE = -1  # the release of a request that failed


@dataclass(frozen=True)
class Failure:
    """A failed request. Times are wall clock, in seconds since 1970.

    :ivar hung_up: whether it was written to a kept connection, which the server ended without a byte of an answer.
    """

    at: float
    begun: float
    target: str
    kind: str
    idempotent: bool
    reason: str
    hung_up: bool


@dataclass(frozen=True)
class Window:
    """The requests that were under way in some span of time; waits are in seconds, NaN when nothing was answered.

    Waits are those of answered short requests: get_keep, get_close, post, and slow without its 100 ms.
    """

    total: int
    failed_idempotent: int
    failed_other: int
    worst: float
    median: float
    p99: float

    @property
    def failed(self) -> int:
        return self.failed_idempotent + self.failed_other


@dataclass(frozen=True)
class Seen:
    """When the first and the last answer of a release arrived (seconds since 1970), and how many did."""

    first: float
    last: float
    count: int


@dataclass
class Report:
    """Every request, in columns: request i goes to targets[target[i]], is of KINDS[kind[i]], and so on.

    :ivar releases: names of the releases that answered, in the order in which they were first seen.
    :ivar failures: the first FAILURES_KEPT failures; `failed` counts all.
    :ivar begun: wall clock, seconds since 1970.
    :ivar took: seconds from there to the end of the answer, or to the failure.
    :ivar release: index into `releases`, NO_RELEASE for requests that failed.
    """

    targets: list[str]
    releases: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    begun: array[float] = field(default_factory=lambda: array("d"))
    took: array[float] = field(default_factory=lambda: array("d"))
    target: array[int] = field(default_factory=lambda: array("h"))
    kind: array[int] = field(default_factory=lambda: array("h"))
    release: array[int] = field(default_factory=lambda: array("h"))

    def add(
        self,
        begun: float,
        took: float,
        target: str,
        kind: str,
        release: str | None,
        reason: str = "",
        hung_up: bool = False,
    ) -> None:
        """Note a request that `release` answered, or that failed for a `reason`; for `hung_up` see Failure."""
        if release is not None and release not in self.releases:
            self.releases.append(release)
        self.begun.append(round(begun, 4))
        self.took.append(round(took, 5))
        self.target.append(self.targets.index(target))
        self.kind.append(KINDS.index(kind))
        self.release.append(NO_RELEASE if release is None else self.releases.index(release))
        if release is None and len(self.failures) < FAILURES_KEPT:
            self.failures.append(Failure(begun + took, begun, target, kind, kind in IDEMPOTENT, reason, hung_up))

    @property
    def failed(self) -> int:
        """How many requests failed."""
        return self.release.count(NO_RELEASE)

    def window(self, begin: float = -math.inf, end: float = math.inf, target: str | None = None) -> Window:
        """Look at requests that were under way at any moment from `begin` to `end` (seconds since 1970, inclusive)."""
        total, failed, waits = 0, Counter[bool](), []
        columns = zip(self.begun, self.took, self.target, self.kind, self.release, strict=True)
        for begun, took, to, number, release in columns:
            if begun > end or begun + took < begin or target not in (None, self.targets[to]):
                continue
            total, kind = total + 1, KINDS[number]
            if release == NO_RELEASE:
                failed[kind in IDEMPOTENT] += 1
            elif kind in SHORT:
                waits.append(max(0.0, took - SLOW_SECONDS) if kind == "slow" else took)
        waits.sort()
        worst, median, p99 = (waits[math.ceil(part * len(waits)) - 1] if waits else math.nan for part in (1, 0.5, 0.99))
        return Window(total, failed[True], failed[False], worst, median, p99)

    def mixed(self, target: str, after: float = -math.inf) -> dict[str, int]:
        """Count answers by release, of requests to `target` begun after a moment: more than one key means mixed."""
        return {name: seen.count for name, seen in self.timeline(target, after).items()}

    def timeline(self, target: str, after: float = -math.inf) -> dict[str, Seen]:
        """Tell when which release answered requests to `target` begun after a moment, in the order of their names."""
        answers: dict[str, list[float]] = {}
        for begun, took, to, release in zip(self.begun, self.took, self.target, self.release, strict=True):
            if begun > after and release != NO_RELEASE and self.targets[to] == target:
                answers.setdefault(self.releases[release], []).append(begun + took)
        return {name: Seen(min(ends), max(ends), len(ends)) for name, ends in sorted(answers.items())}

    def __str__(self) -> str:
        whole = self.window()
        lines = [
            f"{whole.total} requests, {whole.failed} failed ({whole.failed_idempotent} of them idempotent); "
            f"median {whole.median:.4f} s, p99 {whole.p99:.4f} s, worst {whole.worst:.4f} s"
        ]
        lines += [f"{target}: answers by release {self.mixed(target)}" for target in self.targets]
        lines += [f"{one.at:.3f} {one.target} {one.kind}: {one.reason}" for one in self.failures[:20]]
        return "\n".join(lines)

    def write(self, path: Path) -> None:
        """Write it as JSON: `path` has all of it or does not change."""
        columns = {one.name: getattr(self, one.name) for one in fields(self)}
        columns["failures"] = [asdict(failure) for failure in self.failures]
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps(columns, default=list), encoding="utf-8")
        part.replace(path)

    @classmethod
    def read(cls, path: Path) -> Report:
        """Read what `write` wrote; OSError or ValueError when it is not there or something else."""
        report = cls(**json.loads(path.read_text(encoding="utf-8")))
        report.failures = [Failure(**failure) for failure in report.failures]  # type: ignore[arg-type]
        for column, code in {"begun": "d", "took": "d", "target": "h", "kind": "h", "release": "h"}.items():
            setattr(report, column, array(code, getattr(report, column)))
        return report


def noticed(report: Report) -> list[Failure]:
    """The failures that a browser would show to its user.

    nginx closes kept connections when it reloads. A request sent on one at that moment gets no answer; a browser sends
    it again on a new connection if it is idempotent (RFC 9112, 9.3.1).
    """
    return [failure for failure in report.failures if not (failure.idempotent and failure.hung_up)]
