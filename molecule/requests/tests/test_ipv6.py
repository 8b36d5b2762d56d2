"""Clients that come by IPv6: they are served, known by their addresses, and limited like others."""

import json
import random

import pytest
from test_requests import LOGGED

# Asks from the host itself, one after the other: what, with which headers, at which address; "" is the address that
# the network interface has for its link (fe80::/10). Prints of each the status, the client's own address and the body.
ASK = """
import json, socket, sys
def found():
    with open("/proc/net/if_inet6") as file:
        number, _index, _prefix, _scope, _flags, name = next(line.split() for line in file if line.startswith("fe80"))
    return socket.inet_ntop(socket.AF_INET6, bytes.fromhex(number)) + f"%{name}"
def ask(address, lines):
    where = socket.getaddrinfo(address or found(), 80, type=socket.SOCK_STREAM)[0]
    with socket.socket(where[0], where[1]) as connection:
        connection.settimeout(40)
        connection.connect(where[4])
        connection.sendall("\\r\\n".join([*lines, "", ""]).encode())
        raw = b""
        while piece := connection.recv(65536):
            raw += piece
        own = connection.getsockname()[0].partition("%")[0]
        return int(raw.split()[1]), own, raw.partition(b"\\r\\n\\r\\n")[2].decode()
print(json.dumps([ask(*one) for one in json.loads(sys.argv[1])]))
"""


@pytest.fixture
def ask(host):
    """Send a GET request with these headers; status, address of the client, body."""

    def send(address, *lines, name="echo.test", target="/echo"):
        return several([(address, [f"GET {target} HTTP/1.0", f"Host: {name}", *lines])])[0]

    def several(requests):
        return json.loads(host.check_output("python3 -c %s %s", ASK, json.dumps(requests)))

    send.several = several
    return send


@pytest.mark.parametrize("address", ["::1", ""])
def test_client_is_served_and_known_by_its_address(address, ask, host):
    status, own, body = ask(address, "X-Forwarded-For: 2001:db8::7" if address else "X-Any: 1")
    told = json.loads(body)
    assert (status, told["REMOTE_ADDR"], told["HTTP_X_FORWARDED_FOR"], told["HTTP_X_REAL_IP"]) == (200, own, own, own)
    assert ":" in own
    assert f" {own} GET /echo " in host.check_output(LOGGED.format("echo", f"id={told['HTTP_X_REQUEST_ID']}"))


def test_proxy_in_a_trusted_network_is_believed_what_it_says(ask, host):
    said = ["X-Forwarded-For: 2001:db8::7, 2001:DB8:5:0:0::8", "X-Forwarded-Host: [2001:db8::1]:8443"]
    told = json.loads(ask("", *said)[2])
    assert told["REMOTE_ADDR"] == told["HTTP_X_FORWARDED_FOR"] == "2001:db8:5::8"
    assert told["HTTP_HOST"] == "[2001:db8::1]:8443"
    assert " 2001:db8:5::8 GET /echo " in host.check_output(LOGGED.format("echo", f"id={told['HTTP_X_REQUEST_ID']}"))


@pytest.mark.parametrize("name", ["[::1]", "[::1]:80", "[2001:db8::1]:8121", "[::ffff:192.0.2.1]"])
def test_address_as_a_host_that_no_app_has_is_misdirected(name, ask):
    assert ask("::1", name=name)[0] == 421


@pytest.mark.parametrize(("address", "answered"), [
    ("2001:db8:{0:x}:{1:x}::{2:x}", {4, 5}),  # of one network
    ("2001:db8:{0:x}:{1:x}{2:02x}::1", {9}),
    ("::ffff:198.51.{0}.{2}", {9}),  # IPv4 addresses in another form
])  # fmt: skip
def test_network_of_64_bits_is_one_client_for_the_limits(address, answered, ask):
    chosen = random.randrange(256), random.randrange(1, 256)  # none that a test before used up
    lines = ["GET /worker HTTP/1.0", "Host: limited.test"]
    found = ask.several(
        [("", [*lines, f"X-Forwarded-For: {address.format(*chosen, number)}"]) for number in range(1, 10)]
    )
    statuses = [status for status, *_rest in found]
    assert statuses.count(200) in answered, statuses
    assert set(statuses) <= {200, 429}
