"""Scripts that run on the machine itself while a test does, among them clients."""

import json

import pytest

# Asks an app again and again until SIGTERM, four clients at a time, and says how the requests ended. Nothing is
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


class Script:
    """A Python script on the machine, in a unit of its own."""

    def __init__(self, host, unit, script, *arguments):
        self.host, self.unit = host, unit
        command = f"systemd-run --quiet --unit {unit} python3 -c" + " %s" * (1 + len(arguments))
        host.check_output(command, script, *arguments)
        self.run = host.check_output("systemctl show --property InvocationID --value %s", unit)

    def told(self):
        """The last line it printed, empty when there is none."""
        # Not --unit, which has also what systemd says of it, and what it said when the test ran before.
        return self.host.check_output(f"journalctl --quiet --output cat --lines 1 _SYSTEMD_INVOCATION_ID={self.run}")

    def end(self):
        """End it; returns its last words."""
        self.host.check_output(f"systemctl stop {self.unit}")
        return self.told()


@pytest.fixture
def start(host):
    """Start a script: the name of its unit, its text and arguments. It ends with the test at the latest."""
    units = []

    def one(unit, *script):
        units.append(unit)
        return Script(host, unit, *script)

    yield one
    for unit in units:
        host.run(f"systemctl stop {unit}")


@pytest.fixture
def visits(start):
    """Begin visits of an app; returns the function that ends them and tells how their requests ended."""

    def begin(app):
        script = start(f"clients-{app}", VISIT, f"{app}.test")
        return lambda: json.loads(script.end())

    return begin


@pytest.fixture
def clients(visits):
    """Clients of the app shop; the function that ends them and tells how their requests ended."""
    return visits("shop")
