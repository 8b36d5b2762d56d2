"""Processes that die, services that are restarted: repeatable requests succeed, and everything recovers.

A request that is at work in a process which is killed is lost with it. nginx asks again if that can do no harm (GET);
a POST gets status 502, and its client must decide.
"""

import json
import signal
import time

import pytest
from load_report import noticed

# What is killed without warning, and whether all of its kind.
KILLED = {
    "one worker": ("worker", 1),
    "all workers": ("worker", None),
    "the vassal's master": ("master", None),
    "the Emperor": ("emperor", None),
    "the holder of the listening socket": ("emperor@shop", None),
}
HARMLESS = {"the holder of the listening socket"}
# A request is sent to one more worker only, so that one that crashes its worker ends no more. That one may die here,
# too: what a master or the Emperor leaves behind ends one process after the other.
NOBODY_LEFT = {"all workers", "the vassal's master", "the Emperor"}
# What an operator, or the upgrade of a package, does.
DONE = {
    # The second one comes while workers are starting.
    "restarts of the Emperor": "systemctl restart emperor; sleep 0.3; systemctl restart emperor",
    "reload of the Emperor": "systemctl reload emperor",
    "reload of nginx": "systemctl reload nginx",
    "restart of the holder": "systemctl restart emperor@shop.service",
}


@pytest.fixture(autouse=True)
def order(fleet, in_order):
    for host in fleet:
        in_order(host)


@pytest.mark.parametrize("victim", KILLED)
def test_killed_process_costs_at_most_its_own_requests(victim, clients, fleet, process, in_order):
    what, number = KILLED[victim]
    with clients() as load:
        time.sleep(1)
        for host in fleet:
            pids = " ".join(map(str, process(host, what)[:number]))
            host.check_output(f"kill -{signal.SIGKILL.value} {pids}")
        for host in fleet:
            in_order(host)
        time.sleep(1)
    report = load.report
    print(report)
    if victim not in NOBODY_LEFT:
        assert not [failure for failure in report.failures if failure.idempotent], report
    if victim in HARMLESS:
        assert not report.failures, report
    assert all("502" in failure.reason for failure in report.failures), report


def test_killed_worker_of_nginx_costs_only_its_connections(clients, fleet, process, in_order):
    """Its connections are lost, and nothing in front of nginx retries. Other requests succeed."""
    with clients() as load:
        time.sleep(1)
        killed = time.time()
        for host in fleet:
            host.check_output(f"kill -{signal.SIGKILL.value} {process(host, 'nginx')[0]}")
        over = time.time()
        for host in fleet:
            in_order(host)
        time.sleep(1)
    report = load.report
    print(report)
    assert all(killed <= failure.at <= over + 1 for failure in report.failures), report
    assert not [failure for failure in report.failures if "status" in failure.reason], report


@pytest.mark.parametrize("deed", DONE)
def test_maintenance_of_services_loses_no_request(deed, clients, fleet, in_order):
    with clients() as load:
        time.sleep(1)
        for host in fleet:
            host.check_output(DONE[deed])
        for host in fleet:
            in_order(host, 45)  # an Emperor's reload waits for the longest request
        time.sleep(1)
    report = load.report
    print(report)
    # Only nginx closes connections that clients keep.
    failures = noticed(report) if deed == "reload of nginx" else report.failures
    assert not failures, report


QUEUE = """
import collections, http.client, json, threading
seen = collections.Counter()
def ask():
    connection = http.client.HTTPConnection("127.0.0.1", timeout=60)
    connection.request("GET", "/slow?ms=2000", headers={"Host": "shop.test"})
    answer = connection.getresponse()
    seen[f"{answer.status} {answer.getheader('Retry-After')}"] += 1
threads = [threading.Thread(target=ask) for _ in range(200)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps(seen))
"""


def test_full_queue_gives_503_with_retry_after(fleet, in_order):
    """24 are served and 64 wait; of 200 at once the others are told when to come again, at once, with status 503."""
    for host in fleet:
        seen = json.loads(host.check_output("python3 -c %s", QUEUE))
        assert set(seen) == {"200 None", "503 2"}, seen
        assert seen["200 None"] >= 64, seen
        in_order(host)
