#!/usr/bin/python3 -IS
"""Start one vassal: the Emperor runs this instead of uWSGI (option `emperor-wrapper`).

The vassal file says in its section [launch], which uWSGI does not read, which uWSGI to run and in which environment.
So every release brings the uWSGI (and the Python) of its own virtualenv, and the environment reaches the app byte for
byte: uWSGI's own `env` option would expand `%` and `$( )` in it.

uWSGI gets this script as its binary path as well: when a changed vassal file makes it reload, it executes this script
again, which reads the new file. A reload therefore is a start: new virtualenv, new environment, same sockets.
"""

import configparser
import json
import os
import resource
import sys
from pathlib import Path

# Where to find the Emperor and how often this instance was reloaded: uWSGI's own, handed through.
HANDED_THROUGH = "UWSGI_"


def encoded(value: str) -> bytes:
    """A value as the app shall find it; bytes that are no UTF-8 were escaped when they were read."""
    return value.encode("utf-8", "surrogateescape")


def main() -> None:
    """Replace this process by the vassal."""
    vassal = sys.argv[sys.argv.index("--ini") + 1]
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=(";",))
    with open(vassal, encoding="utf-8") as file:
        parser.read_file(file)
    launch = parser["launch"]
    environment = {name: value for name, value in os.environ.items() if name.startswith(HANDED_THROUGH)}
    environment.update(json.loads(launch["environment"]))
    if launch.get("tasks", "").isdigit():
        # The kernel counts those of the user, which is one app's: an app that forks endlessly harms only itself.
        most = resource.getrlimit(resource.RLIMIT_NPROC)[1]
        limit = int(launch["tasks"]) if most == resource.RLIM_INFINITY else min(int(launch["tasks"]), most)
        resource.setrlimit(resource.RLIMIT_NPROC, (limit, limit))
    command = [launch["binary"], "--ini", vassal, "--binary-path", os.path.abspath(sys.argv[0])]
    if launch.get("holder"):
        held, holder = [launch["socket"]], launch["holder"]
        if launch.get("clients") == "slot":
            # NAME.SLOT.ini: besides the socket of the app there is one for each slot.
            place = Path(holder).with_name(Path(vassal).stem.rpartition(".")[2])
            held, holder = [*held, f"{place}.sock"], f"{place}.holder"
        # uWSGI asks the holder at its first start only; at a reload it finds the sockets, which it holds open, by name.
        reload = "UWSGI_RELOADS" in os.environ
        command += [word for one in held for word in ("--socket", one)] if reload else ["--zerg", holder]
    if launch.get("identifier"):
        # systemd-cat replaces itself by the command: the journal then knows the app by its name.
        command = ["/usr/bin/systemd-cat", "--identifier=" + launch["identifier"], *command]
    # As bytes: what the host's language is must not matter.
    os.execve(command[0], command, {os.fsencode(name): encoded(value) for name, value in environment.items()})


if __name__ == "__main__":
    main()
