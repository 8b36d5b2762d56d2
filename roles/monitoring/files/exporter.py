#!/usr/bin/python3 -Is
"""Tell Prometheus what the apps of this host do: requests, workers, memory, releases, and what went wrong.

What there is to know is read when Prometheus asks: from the access logs, from the instances' statistics, from /proc and
from the journal. It needs no right but to read these. Metrics: docs/monitoring.md.
"""

import argparse
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

sys.path.insert(0, "/usr/local/lib/emperor")  # root's alone, both
sys.path.insert(0, "/usr/local/lib/emperor-exporter")

from access_counts import BOUNDS, Access
from app_facts import Apps
from journal_counts import Journal
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

# Of each app: what it is called as a metric, what it means, and how `app_facts` calls it.
GAUGES = {
    "up": "Whether a worker of the app accepts requests.",
    "instances": "Instances that run; two while a release takes over from another.",
    "workers": "Workers that accept requests.",
    "threads": "Requests that these can work on at a time.",
    "threads_busy": "Requests that they work on.",
    "queue": "Connections that wait for a worker.",
    "oldest_request_seconds": "Seconds that the oldest running request has taken so far.",
    "memory_bytes": "Memory that the app uses.",
    "memory_limit_bytes": "Memory at which the kernel ends processes of the app.",
    "switching": "Whether a switch to another release is under way, or was when a run was killed.",
}


# What is told of side processes: the fact, of which kind it is, and the metric.
OF_SIDES: tuple[tuple[str, str, type[Metric], str, str], ...] = (
    ("wanted", "background", GaugeMetricFamily, "emperor_side_processes", "Background processes that should run."),
    ("running", "background", GaugeMetricFamily, "emperor_side_processes_running", "Those of them that run."),
    ("restarts", "background", CounterMetricFamily, "emperor_side_process_restarts",
     "How often they were started again after they ended."),
    ("active", "schedule", GaugeMetricFamily, "emperor_schedule_active", "Whether the job runs at its times."),
    ("failed", "schedule", GaugeMetricFamily, "emperor_schedule_failed", "Whether it failed when it last ran."),
    ("began", "schedule", GaugeMetricFamily, "emperor_schedule_start_timestamp_seconds", "When it last began."),
    ("succeeded", "schedule", GaugeMetricFamily, "emperor_schedule_success_timestamp_seconds",
     "When it last began and ended well."),
)  # fmt: skip


def of_sides(apps: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Iterator[Metric]:
    """What the side processes do.

    :param apps: as `side_facts` tells it.
    """
    for fact, kind, family, name, text in OF_SIDES:
        metric = family(name, text, labels=["app", "name"])
        for app, sides in apps.items():
            for side, told in sides.items():
                # Of what never happened there is no time.
                if told["kind"] == kind and (told[fact] or fact not in ("began", "succeeded")):
                    metric.add_metric([app, side], told[fact])
        yield metric


class Collector:
    """All metrics of the host.

    :param apps: the apps, as they are now.
    :param access: their access logs.
    :param journal: the journal.
    """

    def __init__(self, apps: Apps, access: Access, journal: Journal) -> None:
        self.apps, self.access, self.journal = apps, access, journal
        self.lock = threading.Lock()
        self.errors = 0

    def collect(self) -> Iterator[Metric]:
        """What Prometheus gets."""
        with self.lock:
            began, cpu = time.monotonic(), time.process_time()
            for part in (self.of_apps, self.of_sides, self.of_requests, self.of_events):
                yield from self.safely(part)
            yield CounterMetricFamily("emperor_exporter_errors", "Parts that could not be read.", self.errors)
            took = GaugeMetricFamily("emperor_exporter_seconds", "What reading all this took.", labels=["of"])
            took.add_metric(["clock"], time.monotonic() - began)
            took.add_metric(["processor"], time.process_time() - cpu)
            yield took

    def safely(self, part: Callable[[], Iterable[Metric]]) -> list[Metric]:
        """A part of the metrics; none of it when it cannot be read, so that the others are told all the same."""
        try:
            return list(part())
        except Exception as error:
            self.errors += 1
            print(f"{part.__name__} cannot be read: {error!r}", file=sys.stderr, flush=True)
            return []

    def of_apps(self) -> Iterator[Metric]:
        """What the apps do now."""
        found = self.apps.look()
        for name, meaning in GAUGES.items():
            gauge = GaugeMetricFamily(f"emperor_app_{name}", meaning, labels=["app"])
            for app, facts in found.items():
                if facts.get(name) is not None:
                    gauge.add_metric([app], facts[name])
            yield gauge
        starts = CounterMetricFamily("emperor_app_worker_starts", "Workers that were started.", labels=["app"])
        release = GaugeMetricFamily("emperor_release_info", "The current release.", labels=["app", "release", "label"])
        live = GaugeMetricFamily("emperor_release_activated_timestamp_seconds", "When it became that.",
                                 labels=["app", "release"])  # fmt: skip
        ends = GaugeMetricFamily("emperor_certificate_expiry_timestamp_seconds", "When the certificate ends.",
                                 labels=["app"])  # fmt: skip
        for app, facts in found.items():
            starts.add_metric([app], facts["starts"])
            if facts["release"]:
                release.add_metric([app, facts["release"], facts["label"]], 1)
                live.add_metric([app, facts["release"]], facts["activated"])
            if facts["certificate"]:
                ends.add_metric([app], facts["certificate"])
        yield from (starts, release, live, ends)

    def of_sides(self) -> Iterator[Metric]:
        """What the side processes do now."""
        return of_sides(self.apps.sides.look())

    def of_requests(self) -> Iterator[Metric]:
        """What the access logs say."""
        self.access.read(self.apps.names())
        requests = CounterMetricFamily("emperor_app_requests", "Requests that got a response, by release and the first "
                                       "digit of their status.", labels=["app", "release", "code"])  # fmt: skip
        size = CounterMetricFamily("emperor_app_response_bytes", "Bytes of response bodies.", labels=["app"])
        seconds = HistogramMetricFamily("emperor_app_request_seconds", "From a request's first byte to its response's "
                                        "last.", labels=["app"])  # fmt: skip
        queue = HistogramMetricFamily("emperor_app_queue_seconds", "How long requests waited for a worker.",
                                      labels=["app"])  # fmt: skip
        for app, counts in self.access.apps.items():
            for (release, code), number in counts.requests.items():
                requests.add_metric([app, release, code], number)
            size.add_metric([app], counts.bytes)
            for family, histogram in ((seconds, counts.seconds), (queue, counts.queue)):
                names = [*map(str, BOUNDS), "+Inf"]
                family.add_metric([app], list(zip(names, histogram.cumulative(), strict=True)), histogram.sum)
        yield from (requests, size, seconds, queue)
        yield CounterMetricFamily("emperor_exporter_skipped_bytes", "Bytes of access logs that were too many to read.",
                                  self.access.skipped)  # fmt: skip

    def of_events(self) -> Iterator[Metric]:
        """What the journal says."""
        events = CounterMetricFamily(
            "emperor_app_events", "What went wrong, or had to be done.", labels=["app", "event"]
        )
        self.journal.read(self.apps.names())
        for (app, event), number in self.journal.counts.items():
            events.add_metric([app, event], number)
        yield events


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--address", required=True, help="IP address to listen on")
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("--vassals", required=True, help="directory of the vassal files")
    parser.add_argument("--run", required=True, help="directory of the apps' sockets")
    parser.add_argument("--root", required=True, help="directory of the apps")
    parser.add_argument("--logs", required=True, help="directory of the access logs")
    parser.add_argument("--sites", required=True, help="directory of nginx's sites")
    given = parser.parse_args()
    apps = Apps(given.vassals, given.run, given.root, given.sites)
    registry = CollectorRegistry()
    collector = Collector(apps, Access(given.logs), Journal())
    list(collector.collect())  # from here on is counted
    registry.register(collector)
    start_http_server(given.port, given.address, registry)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main()
