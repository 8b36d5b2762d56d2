"""The unit of an app's Emperor, which holds all instances of the app and limits their memory and their network."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils import host, system

UNITS = Path("/etc/systemd/system")
FILE = "app.conf"  # what the settings of an app say of its unit
KEPT_FROM = 3  # exit status of what may send nothing
SEND = f"""
import socket, sys
try:
    socket.socket(type=socket.SOCK_DGRAM).sendto(b"", ("127.0.0.1", 9))
except PermissionError:
    sys.exit({KEPT_FROM})
"""
TREE = Path("/sys/fs/cgroup")
FILES = (("memory.max", "memory.events"), ("memory.limit_in_bytes", "memory.oom_control"))  # of version 2, of version 1


def unit(app: str) -> str:
    """Its name."""
    return f"emperor-app@{app}.service"


def start(app: str) -> None:
    """Start it, if it does not run: it starts the instances."""
    _systemctl("start", unit(app))


def stop(app: str) -> None:
    """Stop it, with all that is left in it and in the slice of the app, and forget the limits."""
    _systemctl("stop", unit(app), host.slice_of(app))
    _systemctl("revert", unit(app), host.slice_of(app))
    host.remove(str(_file(app).parent))
    _systemctl("daemon-reload")
    _systemctl("reset-failed", unit(app))


def limit(app: str, most: str) -> None:
    """Limit the memory, in bytes: now, and whenever it starts.

    Memory of one app that moves to the disk slows the whole host, so none does.
    """
    _systemctl("set-property", unit(app), f"MemoryMax={most}", "MemorySwapMax=0")


def limited(app: str) -> str:
    """The limit of the memory in bytes, as systemd has it; ``infinity`` for none."""
    return _shown(app, "MemoryMax")


def limits_memory() -> bool:
    """Whether the kernel can limit the memory of a unit: with control groups of version 2, or of version 1."""
    controllers = TREE / "cgroup.controllers"
    return "memory" in controllers.read_text().split() if controllers.exists() else TREE.joinpath("memory").is_dir()


def confine(app: str, network: str) -> bool:
    """Let it have connections with these addresses alone, now and whenever it starts; then also in the app's slice.

    :param network: see `host.network`.
    :returns: whether that changed anything.
    """
    if confined(app, network):
        return False
    file = _file(app)
    file.parent.mkdir(mode=0o755, exist_ok=True)
    host.write(str(file), _text(app, network), 0, 0, 0o644)
    _systemctl("daemon-reload")
    # systemd tells the kernel the addresses when something else of the unit is set, and not when it reads them.
    _systemctl("set-property", unit(app), "MemorySwapMax=0")
    return True


def confined(app: str, network: str) -> bool:
    """Whether its file says so."""
    return host.read(str(_file(app))) == _text(app, network)


def may_filter_addresses() -> bool:
    """Whether the kernel may keep a unit from addresses: only with control groups of version 2."""
    return (TREE / "cgroup.controllers").exists()


def filters_addresses() -> bool:
    """Whether a unit is kept from addresses: systemd goes on where it may not give the kernel a filter."""
    command = ["systemd-run", "--quiet", "--collect", "--wait", "--property=IPAddressDeny=any",
               "--description=A look whether units are kept from addresses"]  # fmt: skip
    done = subprocess.run([*command, "/usr/bin/python3", "-ISc", SEND], capture_output=True, check=False)
    return done.returncode == KEPT_FROM


def _file(app: str) -> Path:
    return UNITS / f"{unit(app)}.d" / FILE


def _text(app: str, network: str) -> str:
    return "\n".join(["# Ansible managed", "[Service]", *host.confinement(app, network), ""])


def killed(app: str) -> dict[str, int]:
    """The kernel's memory ``limit`` in bytes (0 for none), and how many processes it ``killed`` there."""
    group = _shown(app, "ControlGroup").lstrip("/")
    found = [one for top in (TREE, TREE / "memory") if group and (one := _told(top / group))]
    return found[0] if found else {"limit": 0, "killed": 0}


def _told(group: Path) -> dict[str, Any] | None:
    for most, events in FILES:
        try:
            told, dead = group.joinpath(most).read_text().strip(), group.joinpath(events).read_text()
        except OSError:
            continue
        if told.isdigit() and int(told) < 1 << 60:  # version 1 says "none" by a huge number
            kills = re.search(r"^oom_kill (\d+)$", dead, re.MULTILINE)
            return {"limit": int(told), "killed": int(kills[1]) if kills else 0}
    return None


def _shown(app: str, name: str) -> str:
    return system.show([unit(app)], f"Id,{name}").get(unit(app), {}).get(name, "")


def _systemctl(*words: str) -> str:
    return subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False).stdout.strip()
