"""On the host, in turns without observation, with Debian's own access log, and with all of ours.

Arguments: the app's host name, and how many rounds. A round is as long as Prometheus waits between two answers of the
exporters. nginx, workers and client are the same throughout; nginx has three sites for the same app, which differ in
their log alone, so nothing is reloaded in between.
"""

import glob
import http.client
import json
import re
import subprocess
import sys
import time
from pathlib import Path

NAME, ROUNDS = sys.argv[1], int(sys.argv[2])
APP = NAME.partition(".")[0]
SITES = Path("/etc/nginx/sites-enabled")
EXTRA = SITES / "zz-measure.conf"
OWN = (SITES / f"flask_apps-{APP}.conf").read_text()
SERVER = OWN[OWN.index("\nserver {") :]
DEBIAN = Path("/var/log/nginx/measure.log")
LOGS = {"none": "access_log off;", "debian": f"access_log {DEBIAN} combined;"}  # `all` is the site as it is
EXPORTERS = {"emperor-exporter": 9745, "prometheus-node-exporter": 9100, "prometheus-nginx-exporter": 9113}
EVERY, CLIENTS = 15, 16  # slices of a second


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def serving():
    """Processes of nginx and of the app."""
    return run("pgrep", "-x", "nginx").split() + run("pgrep", "-u", APP).split()


def spent(pids):
    """Seconds of processor time that processes have used, to the nanosecond."""
    files = [file for pid in pids for file in glob.glob(f"/proc/{pid}/task/*/schedstat")]
    return sum(int(Path(file).read_text().split()[0]) for file in files) / 1e9


def asked():
    """Ask the exporters as Prometheus does. Returns the processor time it took them, with the programs they ran."""
    pids = [run("systemctl", "show", "--property=MainPID", "--value", unit).strip() for unit in EXPORTERS]

    def used():
        told = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
        return sum(int(one) for fields in told for one in fields[11:15]) / 100

    before = used()
    for port in EXPORTERS.values():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/metrics")
        connection.getresponse().read()
    return used() - before


def load(name, pids, ask):
    """A second of requests: how many, how long, and the processor time of the server and of the exporters."""
    before = spent(pids)
    how = ["--threads", "1", "--connections", str(CLIENTS), "--duration", "1s", "--header", f"Host: {name}"]
    wrk = subprocess.Popen(["wrk", *how, "http://127.0.0.1:80/healthz"], stdout=subprocess.PIPE, text=True)
    exporters = asked() if ask else 0
    told = wrk.communicate()[0]
    served = spent(pids) - before
    if "Non-2xx" in told or "Socket errors" in told:
        sys.exit(told)
    count, took, unit = re.search(r"(\d+) requests in ([\d.]+)(m?s)", told).groups()
    return {"count": int(count), "seconds": float(took) / (1 if unit == "s" else 1000), "served": served,
            "exporters": exporters}  # fmt: skip


def site(kind, log):
    """The app's site under another name, with another log."""
    text = re.sub(r"server_name [^;]+;", f"server_name {kind}.measure;", re.sub(r"access_log [^;]+;", log, SERVER))
    return re.sub(r"\n *include flask_apps/[^;]+;", "", text)


names = {kind: f"{kind}.measure" for kind in LOGS} | {"all": NAME}
found = {kind: [] for kind in names}
try:
    EXTRA.write_text("".join(site(*one) for one in LOGS.items()))
    run("nginx", "-t", "-q")
    run("systemctl", "reload", "nginx")
    time.sleep(2)
    processes = serving()
    load(NAME, processes, True)
    for number in range(ROUNDS * EVERY):
        for kind in sorted(names, key=lambda one: hash((one, number))):
            found[kind].append(load(names[kind], processes, kind == "all" and number % EVERY == EVERY // 2))
finally:
    EXTRA.unlink()
    run("systemctl", "reload", "nginx")
    DEBIAN.unlink(missing_ok=True)
print(json.dumps(found))
