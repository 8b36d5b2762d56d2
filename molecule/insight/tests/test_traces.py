"""OpenTelemetry in an app, as docs/monitoring.md shows it: the spans of all workers arrive."""

import re
import time

from conftest import GET

# Keeps what is sent to it, as a collector would.
RECEIVER = """
import http.server, itertools, pathlib
count, folder = itertools.count(), pathlib.Path("/tmp/spans")
folder.mkdir(exist_ok=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        folder.joinpath(str(next(count))).write_bytes(self.path.encode() + body)
        self.send_response(200)
        self.end_headers()
http.server.ThreadingHTTPServer(("127.0.0.1", 4318), Handler).serve_forever()
"""
WAIT = 30  # seconds


def values(text, key):
    """All values of an attribute: in protobuf, its name, two lengths and the text follow one another."""
    return set(re.findall(rf"{re.escape(key)}\x12.\n.([\w.-]+)", text, re.DOTALL))


def test_spans_of_two_workers_arrive_with_service_and_release(host, ask):
    host.check_output("systemd-run --quiet --collect --unit=spans python3 -c %s", RECEIVER)
    try:
        end, text = time.monotonic() + WAIT, ""
        while time.monotonic() < end and len(values(text, "service.instance.id")) < 2:
            for _number in range(3):  # more than a worker has threads
                host.run("python3 -c %s 443 desk.test '/slow?seconds=0.3' >/dev/null 2>&1 &", GET)
            ask(host, "/slow?seconds=0.3")
            time.sleep(1.5)
            text = host.run("cat /tmp/spans/*").stdout_bytes.decode("latin-1")
    finally:
        host.run("systemctl stop spans; rm -r /tmp/spans")
    workers = host.check_output("pgrep -u desk -f desk.*ini").split()
    assert len(values(text, "service.instance.id")) == 2
    assert values(text, "service.instance.id") <= set(workers)
    assert values(text, "service.name") == {"desk"}
    assert values(text, "service.version") == {host.check_output("basename $(readlink /srv/flask_apps/desk/current)")}
    assert text.startswith("/v1/traces")
    assert "/slow" in text
