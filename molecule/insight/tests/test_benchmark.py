"""A benchmark beside what serves: it finds what is known beforehand, and what serves notices nothing."""

import re

import pytest

# Seconds that each request waits, long beside what a busy machine adds: two processes of two threads answer at most 8 a
# second.
WAIT = 0.5


def traces(host):
    """What a benchmark could leave: processes, units, files."""
    return (
        host.check_output("pgrep -u desk -f ini | sort"),
        host.check_output("ls -A /run/emperor/desk /etc/emperor/vassals /etc/systemd/system /run/systemd/transient"),
        host.check_output("systemctl list-units --all --plain --no-legend 'emperor-benchmark*' | wc -l"),
    )


@pytest.fixture(scope="module")
def measured(fleet, playbook, logged, tmp_path_factory):
    """The run, what it left on the host, and the page."""
    (host,) = [one for one in fleet if one.backend.name.startswith("emperor-debian13")]
    reports = tmp_path_factory.mktemp("reports")
    before = (traces(host), len(logged(host, "desk")))
    run = playbook("benchmark", "-e", "app=desk", "-e", "confirm=yes", "-e", f"path=/slow?seconds={WAIT}",
                   "-e", "workers=2x8", "-e", "at_a_time=4,16", "-e", "seconds=3", "-e", "rounds=1",
                   "-e", "host=emperor-debian13", "-e", f"to={reports}")  # fmt: skip
    after = (traces(host), len(logged(host, "desk")))
    (page,) = reports.iterdir()
    return run, before, after, page


def test_requests_that_wait_get_the_workers_that_serve_more_at_a_time(measured):
    run, _before, _after, _page = measured
    assert not run.failed, run.output
    assert "Set `workers: {processes: 2, threads: 8}`" in run.output
    assert "16 at a time, the most that were measured, serve it best" in run.output
    rates = dict(re.findall(r"^ +(2x2 \(now\)|2x8) +\d+ +(\d+) ", run.output, re.MULTILINE))
    assert 3 <= int(rates["2x2 (now)"]) <= 2 * 2 / WAIT
    assert 2 * 2 / WAIT < int(rates["2x8"]) <= 2 * 8 / WAIT


def test_what_serves_is_untouched_and_nothing_is_left(measured):
    _run, before, after, _page = measured
    assert before == after


def test_page_needs_nothing_else_and_says_what_the_numbers_do_not_show(measured):
    text = measured[3].read_text()
    assert measured[3].name.startswith("benchmark-desk-emperor-debian13-")
    assert text.count("<svg") == 1
    assert not re.search(r"<(script|link|img|iframe)|url\(|https?://(?!www\.w3\.org/2000/svg)", text)
    for part in ("Recommendation", "processes: 2, threads: 8", "What the numbers do not show"):
        assert part in text


def test_benchmark_without_confirmation_is_refused_with_a_sentence(playbook):
    run = playbook("benchmark", "-e", "app=desk")
    assert run.failed
    assert "confirm is not set, but a benchmark takes processors and memory from what desk serves" in run.error
    assert "add `-e confirm=yes`" in run.error
