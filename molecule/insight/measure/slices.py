"""On the host, in turns with all observation and without: responses per second, and processor time per response.

Arguments: the app's host name, and how often each is measured. nginx, workers and client are the same throughout.
"""

import http.client
import json
import re
import subprocess
import sys
import time
from pathlib import Path

NAME, TIMES = sys.argv[1], int(sys.argv[2])
SITE = f"/etc/nginx/sites-enabled/flask_apps-{NAME.partition('.')[0]}.conf"
EXPORTERS = ("emperor-exporter", "prometheus-node-exporter", "prometheus-nginx-exporter")
PORTS = (9745, 9100, 9113)
SECONDS, CLIENTS = 6, 16
TICK = 100  # per second, of the times in /proc/PID/stat
OBSERVED = Path(SITE).read_text()
SILENT = re.sub(r"access_log [^;]+;", "access_log off;", OBSERVED)


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def processes():
    """The server and what observes it: nginx and the app, then the exporters."""
    served = run("pgrep", "-x", "nginx").split() + run("pgrep", "-u", NAME.partition(".")[0]).split()
    units = [run("systemctl", "show", "--property=MainPID", "--value", unit).strip() for unit in EXPORTERS]
    return served, [pid for pid in units if pid != "0"]


def spent():
    """Seconds of processor time that they have used, exporters with the programs that they ran."""
    total = 0
    for pids, last in zip(processes(), (13, 15), strict=True):
        for pid in pids:
            told = Path(f"/proc/{pid}/stat").read_text()
            total += sum(map(int, told.rpartition(")")[2].split()[11:last]))
    return total / TICK


def observe(on):
    """With all observation, or without."""
    Path(SITE).write_text(OBSERVED if on else SILENT)
    run("systemctl", "start" if on else "stop", *EXPORTERS)
    run("systemctl", "reload", "nginx")
    time.sleep(1.5)
    if on:
        scrape()


def scrape():
    """As Prometheus does."""
    for port in PORTS:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/metrics")
        connection.getresponse().read()


def load(seconds, on):
    """Ask; responses per second, and processor time of each in microseconds."""
    before = spent()
    how = ["--threads", "1", "--connections", str(CLIENTS), "--duration", f"{seconds}s", "--header", f"Host: {NAME}"]
    wrk = subprocess.Popen(["wrk", *how, "http://127.0.0.1:80/healthz"], stdout=subprocess.PIPE, text=True)
    time.sleep(seconds - 1)
    if on:
        scrape()  # far more often than Prometheus does
    told = wrk.communicate()[0]
    if on:
        scrape()  # what came since is read now, on the account of this load
    if "Non-2xx" in told or "Socket errors" in told:
        sys.exit(told)
    count = int(re.search(r"(\d+) requests in", told)[1])
    return {"rate": count / seconds, "cost": (spent() - before) / count * 1e6}


found = {"on": [], "off": []}
try:
    load(3, False)
    for turn in range(TIMES):
        for on in (True, False) if turn % 2 else (False, True):
            observe(on)
            found["on" if on else "off"].append(load(SECONDS, on))
finally:
    observe(True)
print(json.dumps(found))
