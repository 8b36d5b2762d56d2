"""How much memory an app uses at most, watched on the hosts themselves."""

import contextlib
import json
import subprocess

import pytest

# Reads as the app's user: the kernel shows it to nobody else who may not trace the process, as root in a container.
WATCH = """
import json, os, pwd, re, select, sys
user = pwd.getpwnam(sys.argv[1])
os.setgroups([]); os.setgid(user.pw_gid); os.setuid(user.pw_uid)
most = first = 0
while True:
    total = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.stat("/proc/" + pid).st_uid == user.pw_uid:
                with open("/proc/%s/smaps_rollup" % pid) as file:
                    total += int(re.search(r"^Pss: +(\\d+)", file.read(), re.M)[1])
        except (OSError, TypeError):
            pass
    first, most = first or total, max(most, total)
    if select.select([sys.stdin], [], [], 0.2)[0]:
        break
print(json.dumps([first, most]))
"""


@pytest.fixture
def most_memory(fleet):
    """Watch an app on all hosts in a `with` block; the list it gives is filled at its end: most memory, as a ratio."""

    @contextlib.contextmanager
    def watch(name):
        found = []
        watchers = [
            subprocess.Popen(
                ["docker", "exec", "-i", host.backend.name, "python3", "-c", WATCH, name],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )
            for host in fleet
        ]  # fmt: skip
        yield found
        for watcher in watchers:
            first, most = json.loads(watcher.communicate("\n")[0])
            found.append(most / first)

    return watch
