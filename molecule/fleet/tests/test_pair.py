"""Two balancers: the active one is killed, the other one answers within three seconds, and nothing fails after that."""

import threading
import time
import urllib.request

import pytest
from conftest import BALANCERS
from load_report import noticed

AWAY = "mv /usr/sbin/haproxy /usr/sbin/haproxy.away && systemctl kill --signal=KILL haproxy"
HERE = "mv /usr/sbin/haproxy.away /usr/sbin/haproxy && systemctl reset-failed haproxy && systemctl start haproxy"

# What one balancer says to the other gets lost.
SILENT = """
add table ip silent; add chain ip silent out { type filter hook output priority 0; }
add rule ip silent out ip protocol 112 drop
"""


class Asking:
    """Asks an address ten times a second, each time on a new connection and without waiting for the other answers."""

    def __init__(self, address):
        self._request = urllib.request.Request(f"http://{address}/version", headers={"Host": "shop.test"})
        self.answered = []
        self._ended = threading.Event()

    def _ask(self):
        try:
            with urllib.request.urlopen(self._request, timeout=1) as answer:
                answer.read()
            self.answered.append(time.time())
        except OSError:
            pass

    def __enter__(self):
        def run():
            while not self._ended.wait(0.1):
                threading.Thread(target=self._ask).start()

        self._thread = threading.Thread(target=run)
        self._thread.start()
        return self

    def __exit__(self, *_exception):
        self._ended.set()
        self._thread.join()

    def silence(self, since):
        """When nobody had an answer for the longest time since then: its begin and end."""
        answers = [since, *sorted(one for one in self.answered if one > since), time.time()]
        return max(zip(answers, answers[1:], strict=False), key=lambda pair: pair[1] - pair[0])


@pytest.fixture
def shared(hosts):
    """The address that the balancers share."""
    text = hosts["emperor-balancer"].file("/etc/keepalived/keepalived.conf").content_string
    return text.partition("virtual_ipaddress {")[2].split()[0].partition("/")[0]


@pytest.fixture
def active(hosts, shared, machines):
    """The balancers that have it."""

    def ask():
        show = "ip -oneline address show"
        return [one for one in BALANCERS if machines.runs(one) and f" {shared}/" in hosts[one].check_output(show)]

    return ask


def test_balancer_that_is_killed_is_replaced_within_three_seconds_and_comes_back_without_a_loss(
    hosts, clients, machines, shared, active
):
    def taken_over(asking, deed, other):
        begun = time.time()
        deed()
        while active() != [other]:
            assert time.time() - begun < 20, active()
        time.sleep(2)
        silence = asking.silence(begun)
        print(f"no answer for {silence[1] - silence[0]:.2f} s")
        return silence

    (first,) = active()
    (second,) = set(BALANCERS) - {first}
    with clients(shared) as load, Asking(shared) as asking:
        silent = [taken_over(asking, lambda: hosts[first].check_output("sh -c %s", AWAY), second)]
        hosts[first].check_output("sh -c %s", HERE)
        time.sleep(4)
        # It is ready to take the address back, and does not.
        assert active() == [second]
        silent.append(taken_over(asking, lambda: machines.podman("kill", second), first))
        machines.start(second)
        time.sleep(4)
        assert active() == [first]
        # A new configuration lets the address stay where it is.
        hosts[first].check_output("systemctl reload keepalived")
        time.sleep(4)
        assert active() == [first]
    print(load.report)
    for begun, ended in silent:
        assert ended - begun < 3, silent
    for one in noticed(load.report):
        assert any(one.begun < ended and one.at > begun for begun, ended in silent), load.report


def test_status_fails_when_the_address_is_nowhere_or_at_two_balancers(hosts, playbook, active, machines):
    def status():
        run = playbook("status", "--limit=load_balancers")
        assert run.failed
        return run.error

    def until(holders):
        begun = time.monotonic()
        while len(active()) != holders:
            assert time.monotonic() - begun < 20, active()
            time.sleep(0.2)

    first, second = BALANCERS
    hosts[first].check_output("systemctl stop keepalived")
    # Its check of HAProxy fails, though HAProxy answers.
    hosts[second].check_output("sed -i '1a exit 1' /etc/keepalived/alive")
    try:
        until(0)
        said = status()
        assert "keepalived does not run, so 10.88.222." in said
        assert "is at no balancer: see `journalctl -u keepalived` there" in said
    finally:
        hosts[second].check_output("sed -i 2d /etc/keepalived/alive")
        hosts[first].check_output("systemctl start keepalived")
    for name in BALANCERS:
        machines.network(name, "nft", SILENT)
    try:
        until(2)
        assert f"is at {first} and {second}: they do not hear each other. Let IP protocol 112 pass" in status()
    finally:
        for name in BALANCERS:
            machines.network(name, "nft", "delete table ip silent")
    until(1)
