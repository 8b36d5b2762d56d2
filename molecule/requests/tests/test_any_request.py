"""Random requests: valid ones reach the app as they reach it on gunicorn, invalid ones harm no other."""

import contextlib
import json
import os
import random
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ansible.plugins.loader import init_plugin_loader
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_requests import exchange

init_plugin_loader([str(Path(__file__).resolve().parents[3] / ".config/collections")])
from ansible_collections.flaskops.emperor.plugins.module_utils.uwsgi_client import encode_request  # noqa: E402

APP = Path(__file__).parents[1] / "app"
EXAMPLES = 1000
UNRESERVED = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_~!$&'()*+,;=:@"
ESCAPES = st.integers(1, 255).map(lambda byte: f"%{byte:02X}")  # nginx refuses %00
# No "." or "..", which nginx resolves before it chooses the location; no escaped "%", which fails the health check.
SEGMENTS = st.text(st.sampled_from(UNRESERVED)) | st.lists(ESCAPES, max_size=9).map("".join).filter(
    lambda text: "%2E" not in text and "%25" not in text
)
PATHS = st.lists(SEGMENTS.filter(lambda text: text not in (".", "..")), max_size=5).map(
    lambda parts: "/any/" + "/".join(parts)
)
TOKENS = st.text(
    st.sampled_from("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-"), min_size=1, max_size=20
)
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=60).map(
    str.strip
)
HEADERS = st.dictionaries(TOKENS.map(lambda name: f"X-Any-{name}".upper()), VALUES, max_size=6)
BODIES = st.none() | st.tuples(
    st.binary(max_size=300) | st.integers(0, 90_000).map(lambda size: random.Random(size).randbytes(size)),
    st.booleans(),
)
# What is about the connection, or differs by the name and the place of the servers.
OWN = ("HTTP_HOST", "HTTP_X_", "HTTP_CONNECTION", "HTTP_TRANSFER_ENCODING", "REMOTE_", "SERVER_", "uwsgi.", "gunicorn.",
       "DOCUMENT_ROOT", "REQUEST_SCHEME", "UWSGI_SCHEME", "wsgi.", "SCRIPT_FILENAME")  # fmt: skip


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The port of the same app on gunicorn."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["gunicorn", f"--bind=127.0.0.1:{port}", "--threads=2", "--log-level=error", "echo:application"]
    environment = os.environ | {"HOME": str(tmp_path_factory.mktemp("data"))}
    with subprocess.Popen(command, cwd=APP, env=environment) as process:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.1)
        yield port
        process.terminate()


def spell(method, target, headers, body):
    """A request as bytes."""
    lines = [f"{method} {target} HTTP/1.1", "Host: echo.test", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    content = b""
    if body is not None:
        content, chunked = body
        if chunked:
            lines.append("Transfer-Encoding: chunked")
            parts = [content[start : start + 5000] for start in range(0, len(content), 5000)]
            content = b"".join(f"{len(part):x}\r\n".encode() + part + b"\r\n" for part in parts) + b"0\r\n\r\n"
        else:
            lines.append(f"Content-Length: {len(content)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + content


def told(answer):
    """What the app says of the request, without what the servers say of themselves."""
    assert answer.status == 200, answer.body
    kept = {name: value for name, value in answer.told.items()
            if name.startswith("HTTP_X_ANY") or not name.startswith(OWN)}  # fmt: skip
    kept.setdefault("REQUEST_URI", kept.pop("RAW_URI", None))  # gunicorn's name for it
    # nginx has read a body in chunks to its end, and knows its size; an empty one is none.
    for name in ("CONTENT_LENGTH", "CONTENT_TYPE"):
        kept.pop(name, None)
    return kept


def test_any_valid_request_reaches_the_app_as_on_another_server(host, addresses, reference):
    ours, other = (addresses[host.backend.name], 80), ("127.0.0.1", reference)

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        method=st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "X-OWN"]),
        path=PATHS,
        query=st.none() | st.text(st.sampled_from(UNRESERVED + '/?%[]|^`{}\\"<>')),
        headers=HEADERS,
        body=BODIES,
    )
    def compare(method, path, query, headers, body):
        raw = spell(method, path if query is None else f"{path}?{query}", headers, body)
        assert told(exchange(ours, raw, timeout=30)) == told(exchange(other, raw, timeout=30))

    compare()


# Reads lines of a request for nginx and a packet for the app's own socket, and prints what the app says to both.
BOTH = """
import json, socket, sys
def ask(family, address, raw):
    with socket.socket(family) as connection:
        connection.connect(address)
        connection.sendall(raw)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return json.loads(answer.partition(b"\\r\\n\\r\\n")[2].decode())
for line in sys.stdin:
    http, packet = map(bytes.fromhex, line.split())
    print(json.dumps([ask(socket.AF_INET, ("127.0.0.1", 80), http), ask(socket.AF_UNIX, sys.argv[1], packet)]))
"""
QUERIES = st.just("") | st.text(st.sampled_from(UNRESERVED + "/?%")).map(lambda text: f"?{text}")


def test_health_check_before_a_switch_asks_what_nginx_asks(host):
    targets: list[str] = []

    @settings(max_examples=300, deadline=None)
    @given(PATHS, QUERIES)
    def collect(path, query):
        targets.append(path + query)

    collect()
    lines = [
        f"{f'GET {target} HTTP/1.0'.encode().hex()}0d0a{b'Host: echo.test'.hex()}0d0a0d0a "
        f"{encode_request(target, 'echo.test').hex()}"
        for target in targets
    ]
    sock = host.check_output("readlink -f /srv/flask_apps/echo/upstream.sock")
    answers = []
    for start in range(0, len(lines), 30):  # as many as fit into a command
        batch = "\n".join(lines[start : start + 30])
        answers += host.check_output("echo %s | python3 -c %s %s", batch, BOTH, sock).splitlines()
    assert len(answers) == len(targets)
    for answer in answers:
        through_nginx, directly = json.loads(answer)
        for found in (through_nginx, directly):
            assert found.pop("HTTP_X_REQUEST_ID")
            assert found.pop("HTTP_X_REQUEST_START").startswith("t=")
            assert found.pop("REMOTE_PORT")
            found.pop("SERVER_PROTOCOL")  # this client asks with 1.0, so as to get no chunks
        assert through_nginx == directly


def mutated(raw, chance):
    """A request with a few bytes changed, lost or added."""
    found = bytearray(raw)
    for _time in range(chance.randint(1, 6)):
        at = chance.randrange(len(found))
        what = chance.randrange(3)
        if what == 0:
            found[at] = chance.randrange(256)
        elif what == 1:
            del found[at : at + chance.randint(1, 9)]
        else:
            found[at:at] = chance.randbytes(chance.randint(1, 9))
    return bytes(found)


def attack(address, raw):
    """Send what is no request, and hang up."""
    try:
        with socket.create_connection((address, 80), timeout=5) as connection:
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
    except OSError:
        pass


class Clients(threading.Thread):
    """A client that sends good requests until it is told to stop.

    :ivar failures: what it got instead of a response.
    :ivar waits: seconds that each response took.
    """

    def __init__(self, address):
        super().__init__()
        self.address, self.failures, self.waits, self.going = address, [], [], True

    def run(self):
        while self.going:
            began = time.monotonic()
            try:
                answer = exchange((self.address, 80), spell("POST", "/echo", {}, (b"x" * 100, False)), timeout=30)
                if answer.status != 200 or json.loads(answer.body)["length"] != 100:
                    self.failures.append(answer.body)
            except (OSError, ValueError, IndexError) as error:
                self.failures.append(error)
            self.waits.append(time.monotonic() - began)


def is_open(connection):
    """Whether the other side has neither answered nor closed a connection."""
    try:
        connection.setblocking(False)
        connection.recv(1)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def overtake(slow, clients):
    """Let good requests be answered that began when all slow ones were there, and see that these still wait then."""
    before = [len(client.waits) for client in clients]
    while any(len(client.waits) < count + 26 for client, count in zip(clients, before, strict=True)):
        # nginx closes those that are too slow: by then it would be no wonder that others are served.
        assert all(is_open(connection) for connection in slow), "slow clients made others wait until they were closed"
        time.sleep(0.05)


def test_invalid_requests_and_slow_clients_harm_no_other(host, addresses):
    address, chance = addresses[host.backend.name], random.Random(18)
    before = host.check_output("pgrep -u echo uwsgi")
    clients = [Clients(address) for _number in range(4)]
    for client in clients:
        client.start()
    slow = []
    try:
        for _number in range(2000):
            connection = socket.create_connection((address, 80), timeout=30)
            connection.sendall(
                b"POST /echo HTTP/1.1\r\nHost: echo.test\r\nContent-Length: 50\r\n\r\nx"[: chance.randint(1, 70)]
            )
            slow.append(connection)
        overtake(slow[-500:], clients)  # 25 answers each; one more request may have begun before
        good = spell("POST", "/any/path?q=1", {"X-ANY-A": "b", "COOKIE": "c=d"}, (b"x" * 200, True))
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda raw: attack(address, raw), [mutated(good, chance) for _number in range(2000)]))
    finally:
        for connection in slow:
            connection.close()
        for client in clients:
            client.going = False
            client.join()
    assert [failure for client in clients for failure in client.failures] == []
    assert sum(len(client.waits) for client in clients) > 100
    assert host.check_output("pgrep -u echo uwsgi") == before
