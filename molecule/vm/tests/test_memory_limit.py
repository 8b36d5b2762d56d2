"""An app that runs away: the kernel stops it at its limit, and no other app notices."""

import re
import time

GROUP = "/sys/fs/cgroup/emperor.slice/emperor-{0}.slice/emperor-app@{0}.service"
MIB = 1024 * 1024
LIMIT = 320  # MiB, see molecule.yml
ASK = """
import http.client, sys
connection = http.client.HTTPConnection("127.0.0.1", timeout=120)
connection.request("GET", sys.argv[2], headers={"Host": sys.argv[1]})
print(connection.getresponse().status)
"""


def ask(host, path, app="hog.test"):
    return host.check_output("python3 -c %s %s %s", ASK, app, path)


def ends_at_limit(host):
    events = host.file(f"{GROUP.format('hog')}/memory.events").content_string
    return int(re.search(r"^oom_kill (\d+)$", events, re.MULTILINE)[1])


def test_every_process_of_an_app_is_in_its_group(host):
    for app in ("shop", "hog"):
        running = set(host.check_output(f"pgrep --euid {app} --full 'uwsgi --ini'").split())
        assert len(running) > 1
        assert set(host.check_output(f"cat '{GROUP.format(app)}/cgroup.procs'").split()) == running


def test_limits_are_those_of_the_settings(host):
    assert host.check_output(f"cat '{GROUP.format('hog')}/memory.max'") == str(LIMIT * MIB)
    assert 0 < int(host.check_output(f"cat '{GROUP.format('shop')}/memory.max'")) < 1024 * MIB


def test_what_an_app_loads_counts_in_its_group(host):
    assert int(host.check_output(f"cat '{GROUP.format('hog')}/memory.current'")) > 20 * MIB


def test_app_beyond_its_memory_limit_is_killed_and_other_apps_keep_serving(host, clients):
    emperor = host.check_output("systemctl show --property MainPID --property NRestarts emperor-app@hog")
    before = ends_at_limit(host)
    time.sleep(10)
    for _time in range(3):
        assert ask(host, f"/hog?mb={2 * LIMIT}") == "502"
        deadline = time.monotonic() + 60
        while ask(host, "/healthz") != "200":
            assert time.monotonic() < deadline, "it does not come back"
    time.sleep(5)
    seen = clients()
    print(seen)
    assert set(seen) == {"200"}, seen
    assert ends_at_limit(host) - before >= 3, "nginx asks up to five workers"
    assert host.check_output("systemctl show --property MainPID --property NRestarts emperor-app@hog") == emperor


def test_apps_are_limited_again_when_the_emperor_was_killed(host):
    host.check_output("systemctl kill --kill-whom=main --signal=KILL emperor-app@shop emperor-app@hog")
    deadline = time.monotonic() + 120
    while [ask(host, "/healthz", f"{app}.test") for app in ("shop", "hog")] != ["200", "200"]:
        assert time.monotonic() < deadline, host.run("systemctl status emperor-app@shop emperor-app@hog").stdout
        time.sleep(1)
    test_every_process_of_an_app_is_in_its_group(host)
    test_limits_are_those_of_the_settings(host)
