"""Visitors on the machine itself."""

import json

import pytest

# Asks an app again and again until SIGTERM, four visitors at a time, and says how the requests ended. Nothing is
# sent twice, and every exception counts.
VISIT = """
import collections, http.client, json, signal, sys, threading
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
seen, over = collections.Counter(), threading.Event()
def visit():
    while not over.is_set():
        connection = http.client.HTTPConnection("127.0.0.1", timeout=60)
        try:
            connection.request("GET", "/slow?ms=50", headers={"Host": sys.argv[1]})
            answer = connection.getresponse()
            answer.read()
            seen[answer.status] += 1
        except (OSError, http.client.HTTPException) as error:
            seen[repr(error)] += 1
        connection.close()
several = [threading.Thread(target=visit) for _ in range(4)]
for one in several: one.start()
signal.sigwait([signal.SIGTERM])
over.set()
for one in several: one.join()
print(json.dumps(seen), flush=True)
"""


@pytest.fixture
def visitors(host):
    """Visitors of the other app; returns the function that ends them and tells how their requests ended."""
    host.check_output("systemd-run --quiet --unit visitors python3 -c %s shop.test", VISIT)

    def end():
        host.check_output("systemctl stop visitors")
        return json.loads(host.check_output("journalctl --output cat --unit visitors --grep '^{'").splitlines()[-1])

    yield end
    host.run("systemctl stop visitors")  # of a test that failed before
