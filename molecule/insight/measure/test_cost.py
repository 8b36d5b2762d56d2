"""What observation costs: throughput and processor time of a host with all of it and without, and the exporter's own.

Fails where it costs more than is promised; the figures go to docs/monitoring.md.
"""

import json
import os
import re
from pathlib import Path
from statistics import median

import pytest

PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
PAGE = PROJECT / "docs/monitoring.md"
SLICES = Path(__file__).with_name("slices.py")
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "2"))  # of 45 slices of a second
APPS, ANSWERS, SCRAPE = 10, 40, 15  # apps; answers that are measured; seconds between two, by default
MOST, CORE = 0.02, 0.01  # of the throughput; of a core, for the exporter
GET = """
import sys, urllib.request
for _time in range(int(sys.argv[2])):
    told = urllib.request.urlopen(sys.argv[1]).read().decode()
print(told)
"""


@pytest.fixture(scope="module")
def rows():
    """The rows of the table; written to the page when all are there."""
    found = {}
    yield found
    if len(found) == 3:
        lines = ["| what | figure |", "|---|---|", *found.values()]
        begin, end = "<!-- measured:begin -->", "<!-- measured:end -->"
        before, _old, after = re.split(f"({begin}.*{end})", PAGE.read_text(), flags=re.DOTALL)
        PAGE.write_text("\n".join([f"{before}{begin}", *lines, f"{end}{after}"]))


def ratios(found, base, of):
    """What a kind has, slice by slice, beside the slice of another kind next to it."""
    return [of(one) / of(other) - 1 for one, other in zip(found, base, strict=True)]


def spread(values):
    """The median, how sure it is, and what half of the slices lie between."""
    ordered = sorted(values)
    low, high = ordered[len(ordered) // 4], ordered[-1 - len(ordered) // 4]
    unsure = 0.93 * (high - low) / len(ordered) ** 0.5  # standard error of a median, of quartiles
    return f"{median(ordered):+.1%} (± {unsure:.1%}; half of the slices: {low:+.1%} to {high:+.1%})"


def rate(one):
    return one["count"] / one["seconds"]


def cost(one):
    return one["served"] / one["count"]


def test_throughput_with_all_observation_is_at_most_2_percent_less(host, fleet, rows):
    host.check_output("apt-get -qq install wrk || (apt-get -qq update && apt-get -qq install wrk)")
    for one in fleet:  # it asks the others, too
        one.run("systemctl stop prometheus prometheus-alertmanager")
    kind = "JSON" if host.backend.name.startswith("emperor-debian12") else "readable"
    found = json.loads(host.check_output("python3 -c %s shop.test %s", SLICES.read_text(), str(ROUNDS)))
    print(json.dumps(found))
    off, every = found["none"], found["all"]
    lines = []
    for name, told in ((f"Debian's own log ({kind} host)", "debian"), (f"all, {kind} log", "all")):
        rates, costs = (spread(ratios(found[told], off, of)) for of in (rate, cost))
        lines.append(f"| {name} | responses/s {rates}, processor time of nginx and app {costs} |")
    reading = 1e6 * sum(one["exporters"] for one in every) / sum(one["count"] for one in every)
    alone = 1e6 * median(map(cost, off))
    lines.append(
        f"| exporters, {kind} log | {reading:.1f} µs a response; nginx and app take {alone:.0f} µs without log |"
    )
    rows[kind] = "\n".join(lines)
    print(rows[kind])
    # All of it: the slices in which the exporters were asked, too.
    assert sum(map(rate, every)) >= (1 - MOST) * sum(map(rate, off)), rows[kind]
    assert median(ratios(every, off, rate)) >= -MOST, rows[kind]


def test_exporter_needs_less_than_1_percent_of_a_core_for_10_apps(fleet, playbook, apps, rows):
    (host,) = [one for one in fleet if one.backend.name.startswith("emperor-debian13")]
    more = [apps["desk"] | {"name": f"desk{number}", "domains": [f"desk{number}.test"], "reload": "zerg"}
            for number in range(APPS - len(apps))]  # fmt: skip
    run = playbook("site", "--limit=emperor-debian13", variables={"flask_apps": [*apps.values(), *more]})
    assert not run.failed, run.output
    pid = host.check_output("systemctl show --property=MainPID --value emperor-exporter.service")

    def cpu():
        """Seconds of the exporter and of the programs it ran."""
        return sum(map(int, host.check_output(f"cat /proc/{pid}/stat").rpartition(")")[2].split()[11:15])) / 100

    def answers(count):
        return host.check_output("python3 -c %s http://127.0.0.1:9745/metrics %s", GET, str(count))

    answers(2)  # certificates are looked at once an hour
    before = cpu()
    answers(ANSWERS)
    each = (cpu() - before) / ANSWERS
    assert answers(1).count("emperor_app_up{") == APPS
    rows["exporter"] = (f"| exporter, {APPS} apps, one answer every {SCRAPE} s | {1000 * each:.0f} ms each, "
                        f"{each / SCRAPE:.2%} of a core |")  # fmt: skip
    print(rows["exporter"])
    assert each / SCRAPE < CORE
