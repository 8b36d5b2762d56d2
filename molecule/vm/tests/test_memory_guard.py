"""A machine with little memory left, on which three apps leak: the floor is kept, and no client notices."""

import re
import time

import pytest
from asking import ask

APPS = ("shop", "hog", "third")
FLOOR = 0.1  # of the memory, see molecule.yml
LEFT = 40  # MiB until the guard begins, at twice the floor
LEAK = 100  # MiB, per app
AVAILABLE = """
import re, signal, sys, time
def available():
    with open("/proc/meminfo") as file:
        return int(re.search(r"MemAvailable: +(\\d+)", file.read())[1]) >> 10
"""
# Takes memory until so many MiB are available, and keeps it.
HOLD = f"""{AVAILABLE}
held = []
while available() > int(sys.argv[1]):
    held.append(bytearray(b"x") * (1 << 20))
print("held", len(held), flush=True)
time.sleep(3600)
"""
# Looks until SIGTERM, then tells the least memory that was available, in MiB.
LOOK = f"""{AVAILABLE}
found = []
def tell(*_signal):
    print(min(found), flush=True)
    sys.exit()
signal.signal(signal.SIGTERM, tell)
while True:
    found.append(available())
    time.sleep(0.5)
"""


def wait(true):
    deadline = time.monotonic() + 300
    while not true():
        assert time.monotonic() < deadline
        time.sleep(1)


@pytest.fixture
def begin(host, start):
    """Memory is short while a test runs; returns where the guard begins, in MiB."""
    host.check_output("systemctl restart emperor")  # workers that leaked in another run would soon replace themselves
    wait(lambda: ask(host, "/healthz", 1, apps=APPS) == {"200": len(APPS)})
    total = int(re.search(r"MemTotal: +(\d+)", host.file("/proc/meminfo").content_string)[1]) // 1024
    begin = int(2 * FLOOR * total)
    wait(start("ballast", HOLD, str(begin + LEFT)).told)
    return begin


def test_the_floor_is_kept_while_apps_leak(host, begin, start, clients):
    lowest, began = start("look", LOOK), host.check_output("date +@%s")
    leaked = ask(host, "/leak?kb=1024", LEAK, 0.25, apps=APPS)
    seen, least = clients(), int(lowest.end())
    guard = host.check_output("journalctl --output cat --identifier emperor-memory-guard --since %s", began)
    print(guard, seen, f"floor {begin // 2} MiB, lowest {least} MiB", sep="\n")
    assert leaked == {"200": LEAK * len(APPS)}
    assert set(seen) == {"200"}, seen
    assert least > begin // 2
    assert len(re.findall("is replaced", guard)) >= 3
