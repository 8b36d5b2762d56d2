"""What the releases of a converged host are made of, and what a vulnerability source knows of it."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

# In the form of https://google.github.io/osv.dev/post-v1-query/.
KNOWN = {
    ("werkzeug", "3.1.9"): {
        "id": "TEST-2026-1",
        "aliases": ["CVE-2026-0001"],
        "summary": "Planted",
        "affected": [{
            "package": {"ecosystem": "PyPI", "name": "werkzeug"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "3.1.10"}]}],
        }],
    }
}  # fmt: skip


CODE = "/srv/flask_apps/wiki/current/venv/lib/python3*/site-packages/flask/app.py"


class Source(BaseHTTPRequestHandler):
    """Answers as OSV does, and notes what it was asked."""

    asked: ClassVar[set[tuple[str, str]]] = set()

    def do_POST(self):
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        package = query["package"]["name"], query["version"]
        self.asked.add(package)
        answer = json.dumps({"vulns": [KNOWN[package]]} if package in KNOWN else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_what):
        pass


@pytest.fixture(scope="module")
def source():
    """The address of a vulnerability source."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Source)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1/query"
    server.shutdown()


def described(host, app):
    return json.loads(host.check_output(f"cat /srv/flask_apps/{app}/current/release.json"))


@pytest.mark.parametrize("app", ["shop", "blog", "wiki", "info"])
def test_release_lists_what_pip_finds_in_it_with_digests(app, host):
    listed = described(host, app)["distributions"]
    python = f"/srv/flask_apps/{app}/current/venv/bin/python"
    ask = "import importlib.metadata as m; print(*(f'{d.name}=={d.version}' for d in m.distributions()), sep='\\n')"
    assert sorted(f"{one['name']}=={one['version']}" for one in listed) == sorted(
        host.check_output("%s -c %s", python, ask).splitlines()
    )
    assert len(listed) > 2
    assert all(len(one["sha256"]) == 64 for one in listed)


def test_audit_tells_known_vulnerabilities_and_changed_files_and_writes_sboms(fleet, playbook, source, tmp_path):
    for host in fleet:
        # As after somebody became root.
        host.check_output(f"sed -i '$a# more' {CODE}")
    run = playbook("audit", "-e", f"source={source}", "-e", f"to={tmp_path}")
    for host in fleet:
        host.check_output(f"sed -i '$d' {CODE}")
    assert run.failed
    planted = "Werkzeug 3.1.9 has CVE-2026-0001 (TEST-2026-1): Planted. Update it to 3.1.10."
    named = described(fleet[0], "info")
    told = run.output.partition("info on ")[2].partition("shop on ")[0]
    assert f"release {named['id']} (werkzeug==3.1.9): {len(named['distributions'])} packages" in told
    assert planted in told
    changed = run.output.partition("wiki on ")[2].partition("SBOM of ")[0]
    assert "is not as it was installed: its files changed since the release was built." in changed
    assert {(one["name"].lower(), one["version"]) for one in named["distributions"]} <= Source.asked
    boms = {path.name.partition("-")[0]: json.loads(path.read_text()) for path in tmp_path.glob("*.cdx.json")}
    assert sorted(boms) == ["blog", "info", "shop", "wiki"]
    for app, bom in boms.items():
        assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.6")
        release = described(fleet[0], app)
        root = bom["metadata"]["component"]
        assert (root["name"], root["version"]) == (app, release["id"])
        listed = {one["name"]: one["sha256"] for one in release["distributions"]}
        found = {one["name"]: one["properties"][-1]["value"] for one in bom["components"]}
        assert {name for name in listed if found[name] != listed[name]} == ({"Flask"} if app == "wiki" else set())
        assert all(one["purl"].startswith(f"pkg:pypi/{one['name'].lower()}@") for one in bom["components"])
