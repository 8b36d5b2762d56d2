"""Runs that are killed at any moment, runs that meet each other, and a disk that is full."""

import os
import random
import signal
import time


def release_of(host, domain="shop.test"):
    script = "import urllib.request as u, sys, json; print(json.load(u.urlopen(u.Request("
    script += "'http://127.0.0.1/version', headers={'Host': sys.argv[1]}), timeout=40))['release'])"
    return host.check_output("python3 -c %s %s", script, domain)


def other(app, variant, mark):
    with open(f"{app['source']['path']}/shop/pages.py", encoding="utf-8") as file:
        return variant(app, {"shop/pages.py": f"{file.read()}\nMARK = {mark!r}\n"})


def test_killed_runs_leave_a_host_that_serves_and_heals(
    apps, variant, start_playbook, playbook, clients, fleet, in_order
):
    """SIGKILL of the whole run at ten random moments of a deploy; every other time of its module on the hosts, too."""
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    dice = random.Random(seed)
    first = release_of(fleet[0])
    with clients() as load:
        begin = time.monotonic()
        run = playbook("deploy", "-e", "app=shop", variables={"flask_apps": [other(apps["shop"], variant, seed)]})
        assert not run.failed, run.error
        whole = time.monotonic() - begin
        killed = 0
        for number in range(20):
            if killed == 10:
                break
            new = other(apps["shop"], variant, seed + 1 + number)
            process = start_playbook("deploy", "-e", "app=shop", variables={"flask_apps": [new]})
            time.sleep(dice.uniform(0.15, 1) * whole)  # it begins with what only reads
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                killed += 1
            process.communicate()
            for host in fleet:
                if number % 2:
                    host.run("pkill -KILL --euid root '^python3'")  # the Emperor's process is named uwsgi
    assert killed == 10, "runs were over before"
    print(load.report)
    assert not load.report.failures, load.report
    run = playbook("site")
    assert not run.failed, run.error
    assert playbook("site").changed == 0
    for host in fleet:
        assert release_of(host) == first
        left = host.check_output("find /srv/flask_apps/shop /run/emperor /etc/emperor -name scratch -o -name '*.new'"
                                 " -o -name '*.before' -o -name 'trial*'")  # fmt: skip
        assert left == ""
        in_order(host)


def test_two_runs_at_once_do_not_mix(apps, variant, playbooks, fleet, in_order):
    """The second waits for the first; both succeed, and the release of the later run serves."""
    new = [other(apps["shop"], variant, mark) for mark in ("one", "other")]
    runs = playbooks(*((("deploy", "-e", "app=shop"), {"flask_apps": [app]}) for app in new))
    assert not any(run.failed for run in runs), [run.error for run in runs]
    assert len({release_of(host) for host in fleet}) == 1
    for host in fleet:
        in_order(host)


def test_full_disk_touches_nothing_and_goes_away(apps, variant, playbook, fleet):
    before = [release_of(host, "full.test") for host in fleet]
    files = [host.check_output("find /srv/flask_apps/full -maxdepth 3 | sort") for host in fleet]
    for host in fleet:
        used = int(host.check_output("df --output=used --block-size=1M /srv/flask_apps/full | tail -1"))
        host.check_output(f"mount -o remount,size={used + 2}m /srv/flask_apps/full")
    # Other requirements: those of the release before would be taken over, which needs next to no room.
    app = variant(apps["full"], {"requirements.txt": "flask==3.1.3\nwerkzeug==3.1.9\n"})
    run = playbook("deploy", "-e", "app=full", variables={"flask_apps": [app]})
    assert run.failed
    assert "No space left on device" in run.error, run.error
    assert [release_of(host, "full.test") for host in fleet] == before
    for host, had in zip(fleet, files, strict=True):
        left = host.check_output("find /srv/flask_apps/full -maxdepth 3 | sort")
        assert left == had, "what did not fit is still there"
        host.check_output("mount -o remount,size=400m /srv/flask_apps/full")
    run = playbook("deploy", "-e", "app=full", variables={"flask_apps": [app]})
    assert not run.failed, run.error
    assert not set(before) & {release_of(host, "full.test") for host in fleet}
    for host in fleet:
        left = host.check_output("find /srv/flask_apps/full -maxdepth 3 -name scratch -o -name '*.new'")
        assert left == "", "something unfinished is there after a good run"
