"""Requests that a host sends to its own apps, to make them leak or wait."""

import json

# PATH TURNS PAUSE THREADS APP...: asks the apps in turn; says how many requests ended in which way.
ASK = """
import collections, http.client, json, sys, threading, time
path, turns, pause, threads, apps = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]), sys.argv[5:]
seen = collections.Counter()
def ask():
    for _turn in range(turns):
        for app in apps:
            connection = http.client.HTTPConnection("127.0.0.1", timeout=40)
            connection.request("GET", path, headers={"Host": app + ".test"})
            seen[connection.getresponse().status] += 1
            connection.close()
            time.sleep(pause)
several = [threading.Thread(target=ask) for _ in range(threads)]
for one in several: one.start()
for one in several: one.join()
print(json.dumps(seen))
"""


def ask(host, path, turns, pause=0.0, threads=1, *, apps):
    """Ask apps in turn, several at a time; returns how many requests ended in which way."""
    command = f"python3 -c %s '{path}' {turns} {pause} {threads} {' '.join(apps)}"
    return json.loads(host.check_output(command, ASK))
