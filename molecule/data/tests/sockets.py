"""Clients of WebSockets on a host, until a file is there; what they saw as JSON. Run by the Python of a release."""

import json
import socket
import sys
import threading
import time
from pathlib import Path

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

stop, domain, path = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
found = {"asked": 0, "releases": [], "failures": [], "kept": 0, "closed": [], "heard": []}


def dial():
    return connect(f"ws://{domain}{path}", sock=socket.create_connection(("127.0.0.1", 80)), open_timeout=10)


def ask(client):
    client.send("hello")
    release, text = client.recv(timeout=10).split(" ")
    assert text == "hello", text
    if release not in found["releases"]:
        found["releases"].append(release)


def listen():
    """Only listen, and connect again when the release ends: nothing that this client sends can reset its connection."""
    while not stop.exists():
        with connect(
            f"ws://{domain}{path}", sock=socket.create_connection(("127.0.0.1", 80)), ping_interval=None
        ) as client:
            while not stop.exists():
                try:
                    client.recv(timeout=0.2)
                except TimeoutError:
                    continue
                except ConnectionClosed as closed:
                    found["heard"].append(closed.rcvd.code if closed.rcvd else 0)
                    break


listener = threading.Thread(target=listen)
listener.start()
kept = dial()
while not stop.exists():
    try:
        ask(kept)
        found["kept"] += 1
    except ConnectionClosed as closed:  # the old release ends: a client connects again
        found["closed"].append(closed.rcvd.code if closed.rcvd else 0)
        kept = dial()
    try:
        with dial() as client:
            ask(client)
        found["asked"] += 1
    except Exception as error:
        found["failures"].append(f"{time.time()} {error!r}")
    time.sleep(0.02)
listener.join()
print(json.dumps(found))
