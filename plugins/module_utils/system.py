"""What Debian and systemd say of packages and units."""

from __future__ import annotations

import subprocess
from collections.abc import Collection

PROPERTIES = "Id,LoadState,ActiveState,UnitFileState,NeedDaemonReload"


def show(names: Collection[str]) -> dict[str, dict[str, str]]:
    """The properties of units by name, see systemctl(1).

    :param names: of units; a pattern stands for all loaded units that it matches.
    """
    if not names:
        return {}
    command = ["systemctl", "show", f"--property={PROPERTIES}", "--", *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    blocks = [
        dict(line.split("=", 1) for line in text.splitlines() if "=" in line) for text in done.stdout.split("\n\n")
    ]
    return {block["Id"]: block for block in blocks if "Id" in block}


def units(names: Collection[str]) -> dict[str, dict[str, bool]]:
    """Whether each unit is ``there``, ``active`` and ``enabled``, and ``stale``: changed on disk since then."""
    found = show(names)
    wanted = [name for name in names if not set(name) & set("*?[")]
    return {
        name: {
            "there": found.get(name, {}).get("LoadState") in ("loaded", "masked"),
            "active": found.get(name, {}).get("ActiveState") in ("active", "reloading"),
            "enabled": found.get(name, {}).get("UnitFileState") == "enabled",
            "stale": found.get(name, {}).get("NeedDaemonReload") == "yes",
        }
        for name in [*wanted, *(one for one in found if one not in wanted)]
    }


def missing(packages: Collection[str]) -> list[str]:
    """Those of these packages that are not installed, see dpkg-query(1)."""
    if not packages:
        return []
    command = ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\\n", "--", *packages]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    installed = {line.split()[0] for line in done.stdout.splitlines() if line.endswith(" installed")}
    return [name for name in packages if name not in installed]
