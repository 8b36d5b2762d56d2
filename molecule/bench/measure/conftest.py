"""The host with all that is compared on it: starting a server, asking it, and looking at its memory."""

import contextlib
import json
import shlex
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from servers import EVERYWHERE, PROFILES, SETTINGS, Server, Setting, Silent, competitors, number, ours

HERE = Path(__file__).resolve().parent
FOLDER, RUN, SOURCE = "/opt/bench", "/run/bench", "/srv/flask_apps/{user}/current/src"

# Asks again and again until the server answers, and so also waits until it has done what clients left behind.
READY = """
import http.client, sys, time
host, port = sys.argv[1], int(sys.argv[2])
end = time.time() + 60
while True:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/healthz", headers={"Host": host})
        status = connection.getresponse().status
    except OSError as error:
        status = error
    if status == 200:
        break
    if time.time() > end:
        sys.exit("no answer: %s" % status)
    time.sleep(0.1)
"""

# The memory of a unit's processes, now and then and at most, in MiB. Reads as the unit's user: the kernel shows it to
# nobody else who may not trace the process, as root in a container.
WATCH = """
import json, os, pwd, re, select, sys
user = pwd.getpwnam(sys.argv[1])
os.setgroups([]); os.setgid(user.pw_gid); os.setuid(user.pw_uid)
most = 0
while True:
    ended = select.select([sys.stdin], [], [], 0.2)[0]
    total = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/cgroup" % pid) as file:
                if "/bench-%s.service" % sys.argv[2] not in file.read():
                    continue
            with open("/proc/%s/smaps_rollup" % pid) as file:
                total += int(re.search(r"^Pss: +(\\d+)", file.read(), re.M)[1])
        except (OSError, TypeError):
            pass
    most = max(most, total)
    if ended:
        break
print(json.dumps({"most": most // 1024, "last": total // 1024}))
"""


class Bench:
    """The host.

    :ivar servers: those that are compared under load; ours are the apps that the Emperor runs.
    :ivar settings: our app in units of its own, each with one setting changed.
    :ivar alone: the servers once more, ours in units of their own as well, so that they can be started anew.
    """

    def __init__(self, host):
        self.host = host
        vassals = {app: host.check_output(f"cat /etc/emperor/vassals/{app}.*ini") for app in PROFILES}
        size = [number(vassals["web"], option) for option in ("processes", "threads")]
        others = competitors(*size, int(host.check_output("nproc")))
        deployed, copies = [], []
        for app, domain in PROFILES.items():
            server = self._own(f"ours, profile {app}", vassals[app], Setting())
            copies.append(server)
            deployed.append(server._replace(command="", reach=domain))
        self.servers, self.alone = others + deployed, others + copies
        self.settings = [self._own(title, vassals["web"], setting) for title, setting in SETTINGS.items()]
        self.put("wrk.lua", HERE.joinpath("wrk.lua").read_text())
        self.put("raw.py", RAW)
        self.put("app.cgi", CGI)
        host.check_output(f"chmod 755 {FOLDER}/app.cgi")
        sites = "\n".join(site(server) for server in self.alone + self.settings if isinstance(server.reach, str))
        self.put("/etc/nginx/conf.d/bench.conf", sites)
        host.check_output("nginx -t -q && systemctl reload nginx")

    def _own(self, title, vassal, setting):
        server, text = ours(title, vassal, setting, RUN, FOLDER)
        self.put(f"{server.name}.ini", text)
        return server

    def put(self, path, text):
        self.host.check_output("printf %%s %s > %s", text, str(Path(FOLDER, path)))

    @contextlib.contextmanager
    def running(self, server: Server, **environment):
        """A server that answers, in a `with` block."""
        if server.command:
            source = SOURCE.format(user=server.user)
            variables = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": source} | dict(server.environment) | environment
            command = server.command.format(socket=f"{RUN}/{server.name}.sock")
            if command.startswith("bin/"):
                command = f"{FOLDER}/{command}"
            unit = f"bench-{server.name}"
            self.host.check_output(" ".join([
                "systemd-run --quiet --collect --property=Type=exec --property=UMask=0007 --property=TimeoutStopSec=5",
                f"--property=LimitNOFILE=16384 --property=User={server.user} --property=WorkingDirectory={source}",
                f"--unit={unit}",
                *(f"--setenv={shlex.quote(f'{name}={value}')}" for name, value in variables.items()),
                *map(shlex.quote, shlex.split(command)),
            ]))  # fmt: skip
        try:
            self.ready(server)
            yield
        finally:
            if server.command:
                self.host.run(f"systemctl stop {unit}; systemctl reset-failed {unit}; rm -f {RUN}/{server.name}.sock")

    def ready(self, server):
        port = server.reach if isinstance(server.reach, int) else 80
        answered = self.host.run("python3 -c %s %s %s", READY, server.host, str(port))
        if answered.rc != 0:
            journal = self.host.run(f"journalctl --no-pager --lines=30 --unit=bench-{server.name}").stdout
            raise Silent(f"{server.title}: {answered.stderr}{journal}")

    def load(self, server, workload):
        """Ask a server that has nothing else to do; what was found."""
        self.ready(server)
        return self.ask(server, workload)

    @contextlib.contextmanager
    def busy(self, server, workload):
        """A server that is asked something else meanwhile, in a `with` block."""
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(self.ask, server, workload)
            time.sleep(1)
            yield
            asked.result()

    def ask(self, server, workload):
        """Ask a server; what was found."""
        port = server.reach if isinstance(server.reach, int) else 80
        settings = {"BODY": workload.body, "PAUSE": workload.pause}
        found = self.host.check_output(" ".join([
            *(f"{name}={value}" for name, value in settings.items() if value),
            f"wrk --threads 1 --connections {workload.connections} --duration {workload.seconds}s --timeout 60s",
            f"--script {FOLDER}/wrk.lua --header 'Host: {server.host}'",
            *([] if server.keep_alive else ["--header 'Connection: close'"]),
            f"'http://127.0.0.1:{port}{workload.path}'",
        ]))  # fmt: skip
        found = json.loads(found.splitlines()[-1])
        good = found["requests"] - found["status"]
        found["rate"] = round(good / found["seconds"] * (workload.body / 1024 / 1024 or 1), 1)
        return {name: value for name, value in found.items() if value or name in ("rate", "requests")}

    def memory(self, server, workload=EVERYWHERE):
        """The memory of a unit under a load, and what the load found."""
        watcher = subprocess.Popen(
            ["docker", "exec", "-i", self.host.backend.name, "python3", "-c", WATCH, server.user, server.name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        found = self.load(server, workload)
        return json.loads(watcher.communicate("\n")[0]), found


RAW = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", "15")])
    return [b'{"hello":"you"}']
"""
CGI = f"""#!{FOLDER}/bin/python
from wsgiref.handlers import CGIHandler

from shop import create_app

CGIHandler().run(create_app())
"""

# As the sites of our apps, without what has to do with new releases. Buffering is nginx' default everywhere.
SITE = """
upstream {name} {{
    server unix:{run}/{name}.sock max_fails=0;
    {keep}
}}
server {{
    listen 80;
    server_name {name}.bench;
    client_max_body_size 16m;
    location / {{
        {speak}
        {location}
    }}
}}
"""
SPEAK = {
    "uwsgi": "include uwsgi_params; uwsgi_pass {name};",
    "http": """
        proxy_pass http://{name};
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $host;
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_set_header X-Forwarded-Proto $scheme;""",
    # Not Debian's fastcgi_params, which would name a script per address.
    "fastcgi": """
        fastcgi_pass {name};
        fastcgi_param SCRIPT_FILENAME {folder}/app.cgi;
        fastcgi_param SCRIPT_NAME "";
        fastcgi_param PATH_INFO $uri;
        fastcgi_param QUERY_STRING $query_string;
        fastcgi_param REQUEST_METHOD $request_method;
        fastcgi_param CONTENT_TYPE $content_type;
        fastcgi_param CONTENT_LENGTH $content_length;
        fastcgi_param REMOTE_ADDR $remote_addr;
        fastcgi_param SERVER_PROTOCOL $server_protocol;
        fastcgi_param SERVER_NAME $host;
        fastcgi_param SERVER_PORT 80;""",
}


def site(server):
    """nginx' site of a server."""
    return SITE.format(
        name=server.name,
        run=RUN,
        keep="keepalive 64;" if server.reach == "http" else "",
        speak=SPEAK[server.reach].format(name=server.name, folder=FOLDER),
        location=server.location,
    )


@pytest.fixture(scope="session")
def bench(fleet, playbook):
    run = playbook(HERE / "install.yml")
    assert not run.failed, run.error
    return Bench(fleet[0])
