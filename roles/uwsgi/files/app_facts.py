"""What the apps of a host are and do now: instances, workers, memory, release, certificate, side processes."""

import contextlib
import os
import re
import socket
import ssl
import subprocess
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import side_facts
from ansible_collections.flaskops.emperor.plugins.module_utils import host
from ansible_collections.flaskops.emperor.plugins.module_utils.releases.registry import Releases

TIMEOUT = 2  # seconds for the statistics of an instance, and for a handshake
HOUR = 3600
WAITS = "02"  # the state of a connection that is not accepted yet, in /proc/net/unix
GROUP = "/sys/fs/cgroup/emperor.slice/{}/emperor-app@{}.service"
FIELDS = ("Uid", "PPid", "RssAnon", "VmSwap")


def status(pid: int) -> dict[str, int]:
    """Some of what /proc says of a process; sizes in bytes.

    :raises OSError: when there is none.
    """
    with open(f"/proc/{int(pid)}/status", encoding="utf-8", errors="replace") as file:
        found = re.findall(r"^(\w+):\s+(\d+)( kB)?", file.read(), re.MULTILINE)
    return {name: int(number) * (1024 if unit else 1) for name, number, unit in found if name in FIELDS}


def number(path: str) -> int | None:
    """The number in a file; None when there is none."""
    try:
        with open(path, encoding="ascii") as file:
            text = file.read().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def waiting() -> Counter[str]:
    """How many connections wait to be accepted, by the path of the socket."""
    found: Counter[str] = Counter()
    with open("/proc/net/unix", encoding="utf-8", errors="replace") as file:
        for line in file:
            words = line.split(maxsplit=7)
            if len(words) == 8 and words[5] == WAITS:
                found[words[7].rstrip("\n")] += 1
    return found


def certificate(port: int, name: str) -> float:
    """When the certificate ends that nginx shows for a name; 0 when it shows none."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection(("127.0.0.1", port), TIMEOUT) as connection,
            context.wrap_socket(connection, server_hostname=name) as secure,
        ):
            shown = secure.getpeercert(binary_form=True)
    except OSError:
        return 0.0
    command = ["openssl", "x509", "-inform", "DER", "-noout", "-enddate"]
    done = subprocess.run(command, input=shown or b"", capture_output=True, check=False)
    told = re.match(rb"notAfter=(.+)", done.stdout)
    return ssl.cert_time_to_seconds(told[1].decode()) if told else 0.0


class Starts:
    """How many workers an app started, over all its instances: the sum that each of them tells may only grow."""

    def __init__(self) -> None:
        self.total = 0
        self.seen: dict[tuple[int, int], int] = {}

    def add(self, stats: Mapping[str, Any], first: bool) -> None:
        """Count what an instance has started since the last time.

        :param first: whether this is the first look at all: what was before does not count.
        """
        for worker in stats["workers"]:
            key, count = (int(stats["pid"]), int(worker["id"])), int(worker["respawn_count"])
            self.total += max(count - self.seen.get(key, count if first else 0), 0)
            self.seen[key] = count

    def forget(self, masters: set[int]) -> None:
        """Forget instances that are gone."""
        self.seen = {key: count for key, count in self.seen.items() if key[0] in masters}


class Apps:
    """The apps of this host.

    :param vassals: directory of the vassal files.
    :param run: directory of the apps' sockets.
    :param root: directory of the apps.
    :param sites: directory of nginx's sites.
    """

    def __init__(self, vassals: str, run: str, root: str, sites: str) -> None:
        self.vassals, self.run, self.root, self.sites = vassals, run, root, sites
        self.starts: dict[str, Starts] = {}
        self.certificates: dict[str, tuple[float, float]] = {}
        self.sides = side_facts.Sides()
        self.begun = False

    def names(self) -> list[str]:
        """The apps that have been deployed."""
        there = sorted(os.listdir(self.root)) if os.path.isdir(self.root) else []
        return [name for name in there if os.path.islink(f"{self.root}/{name}/current")]

    def look(self) -> dict[str, dict[str, Any]]:
        """All that is known, by app."""
        names, queues, files = self.names(), waiting(), os.listdir(self.vassals)
        self.starts = {name: self.starts.get(name) or Starts() for name in names}
        found = {name: self.of(name, queues, files) for name in names}
        self.begun = True
        return found

    def of(self, name: str, queues: Mapping[str, int], files: list[str]) -> dict[str, Any]:
        """All that is known of an app."""
        home, facts = f"{self.root}/{name}", self.instances(name, files)
        clients = os.path.join(home, os.readlink(f"{home}/upstream.sock")) if os.path.islink(
            f"{home}/upstream.sock") else ""  # fmt: skip
        releases = Releases(home)
        current = releases.current()
        known = releases.describe(current) or {}
        return {
            **facts,
            "queue": queues.get(clients, 0),
            "switching": int(f"{name}.before" in files),
            "memory_limit_bytes": number(f"{GROUP.format(host.slice_of(name), name)}/memory.max")
            or number(f"{self.vassals}/{name}.limit"),
            "release": current,
            "label": str(known.get("label", ""))[:40],
            "activated": known.get("activated") or 0,
            "certificate": self.certificate(name),
            "starts": self.starts[name].total,
        }

    def instances(self, name: str, files: list[str]) -> dict[str, Any]:
        """What the instances of an app say of themselves. An app may say anything, and can harm only itself."""
        found: dict[str, Any] = dict.fromkeys(
            ("up", "instances", "workers", "threads", "threads_busy", "oldest_request_seconds", "memory_bytes"), 0
        )
        masters: set[int] = set()
        for file in files:
            slot = file.removesuffix(".ini")
            if file == slot or slot.rpartition(".")[0] != name:
                continue
            with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
                stats = host.statistics(f"{self.run}/{name}/{slot}.stats", TIMEOUT)
                self.add(found, stats)
                self.starts[name].add(stats, not self.begun)
                masters.add(int(stats["pid"]))
        self.starts[name].forget(masters)
        found["up"] = int(found["workers"] > 0)
        return found

    def add(self, found: dict[str, Any], stats: Mapping[str, Any]) -> None:
        """Add an instance to the others of its app."""
        now, master = time.time(), int(stats["pid"])
        found["instances"] += 1
        base = status(master)
        shared = base["RssAnon"] + base["VmSwap"]
        found["memory_bytes"] += shared
        for worker in stats["workers"]:
            if worker["status"] == "cheap":
                continue
            found["workers"] += bool(worker["accepting"])
            found["threads"] += len(worker["cores"]) * bool(worker["accepting"])
            for core in worker["cores"]:
                if core["in_request"]:
                    found["threads_busy"] += 1
                    began = core["req_info"].get("request_start") or now
                    found["oldest_request_seconds"] = max(found["oldest_request_seconds"], now - began, 0)
            with contextlib.suppress(OSError, KeyError):
                own = status(worker["pid"])
                if own["PPid"] == master:
                    found["memory_bytes"] += max(own["RssAnon"] + own["VmSwap"] - shared, 0)

    def certificate(self, name: str) -> float:
        """When the certificate of an app ends, as nginx shows it now; looked at once an hour. 0 without one."""
        at, ends = self.certificates.get(name, (0.0, 0.0))
        if time.monotonic() - at < HOUR and at:
            return ends
        text = host.read(f"{self.sites}/flask_apps-{name}.conf") or ""
        port = re.search(r"^\s*listen (\d+) ssl", text, re.MULTILINE)
        domain = re.search(r"^\s*server_name ([^ ;]+)", text, re.MULTILINE)
        ends = certificate(int(port[1]), domain[1].replace("*", "health")) if port and domain else 0.0
        if ends or not port:
            self.certificates[name] = (time.monotonic(), ends)
        return ends
