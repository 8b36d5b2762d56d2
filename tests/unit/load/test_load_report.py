"""The report of a load."""

import math
import time

from hypothesis import given
from hypothesis import strategies as st
from load_report import FAILURES_KEPT, IDEMPOTENT, KINDS, SHORT, Failure, Report, Seen  # type: ignore[import-not-found]
from load_server import good, run  # type: ignore[import-not-found]  # beside this file


def test_release_that_comes_back_after_the_switch_is_seen(server):
    """A release that comes back after the switch is seen."""
    switched: list[float] = []

    def act(request):
        if request.number == 12:
            switched.append(time.time())
        return good(request, "r2" if switched and request.number != 20 else "r1")

    server.act = act
    report = run(server, requests=24)
    assert report.failed == 0, report
    seen = report.timeline("shop")
    assert list(seen) == report.releases == ["r1", "r2"]
    assert seen["r1"].first < switched[0] < seen["r2"].first < seen["r1"].last < seen["r2"].last
    assert (seen["r1"].count, seen["r2"].count) == (13, len(server.requests) - 13)
    # Number 12 was begun before
    assert report.mixed("shop", after=switched[0]) == {"r1": 1, "r2": len(server.requests) - 14}


def test_releases_are_counted_only_for_requests_begun_later():
    report = Report(["a", "b"])
    for begun, took, target, release in [
        (11, 9, "a", "r1"),  # Answered last, but begun before
        (10, 1, "a", "r1"),
        (12, 1, "a", "r2"),
        (14, 2, "a", "r2"),
        (15, 1, "a", None),
        (16, 1, "b", "r1"),
    ]:
        report.add(begun, took, target, "long", release, "")
    assert report.mixed("a") == {"r1": 2, "r2": 2}
    assert report.mixed("a", after=11) == {"r2": 2}
    assert report.mixed("a", after=14) == {}
    assert report.mixed("b") == {"r1": 1}
    assert report.timeline("a") == {"r1": Seen(11, 20, 2), "r2": Seen(13, 16, 2)}


def test_failures_beyond_the_bound_are_counted(tmp_path):
    report = Report(["a"])
    for number in range(FAILURES_KEPT + 5):
        report.add(number, 0.5, "a", "post", None, f"bad {number}", hung_up=True)
    report.add(5000, 0.25, "a", "slow", "r1")
    report.write(tmp_path / "r")
    again = Report.read(tmp_path / "r")
    assert again == report
    assert again.failed == again.window().failed_other == FAILURES_KEPT + 5
    assert len(again.failures) == FAILURES_KEPT
    assert again.failures[-1] == Failure(
        FAILURES_KEPT - 0.5, FAILURES_KEPT - 1, "a", "post", False, f"bad {FAILURES_KEPT - 1}", True
    )


# Whole numbers and halves, so that sums are exact
moments = st.integers(0, 40).map(lambda number: number / 2)
requests = st.tuples(moments, moments, st.sampled_from(["a", "b"]), st.sampled_from(KINDS), st.booleans())


@given(st.lists(requests, max_size=30), moments, moments, st.sampled_from([None, "a", "b"]))
def test_window_counts_the_requests_that_overlap_it(these, begin, end, target):
    report = Report(["a", "b"])
    for begun, took, to, kind, answered in these:
        report.add(begun, took, to, kind, "r1" if answered else None)
    window = report.window(begin, end, target)
    inside = [
        (took, kind, answered)
        for begun, took, to, kind, answered in these
        if begun <= end and begun + took >= begin and target in (None, to)
    ]
    failed = [kind for took, kind, answered in inside if not answered]
    assert window.total == len(inside)
    assert window.failed_idempotent == sum(kind in IDEMPOTENT for kind in failed)
    assert window.failed == len(failed)
    waits = [max(0, took - 0.1) if kind == "slow" else took for took, kind, yes in inside if yes and kind in SHORT]
    if not waits:
        assert all(math.isnan(wait) for wait in (window.worst, window.median, window.p99))
        return
    assert window.worst == max(waits)
    for wait, part in ((window.median, 0.5), (window.p99, 0.99)):
        # Of so many waits that many are not longer, and it is the shortest of which that is true
        assert wait in waits
        assert sum(one <= wait for one in waits) >= part * len(waits)
        assert sum(one < wait for one in waits) < part * len(waits)
