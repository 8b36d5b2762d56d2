"""From what is found to what is said: every problem with evidence and cure, no consequence beside its cause."""

from typing import Any

import pytest
from ansible_collections.flaskops.emperor.plugins.modules import checkup
from ansible_collections.flaskops.emperor.plugins.plugin_utils.checkup import app as app_checks
from ansible_collections.flaskops.emperor.plugins.plugin_utils.checkup import drift, fleet, status
from ansible_collections.flaskops.emperor.plugins.plugin_utils.checkup import host as host_checks
from ansible_collections.flaskops.emperor.plugins.plugin_utils.checkup.case import Case
from ansible_collections.flaskops.emperor.plugins.plugin_utils.checkup.problem import Commands

NOW, MIB = 1_800_000_000.0, 1 << 20
CURES = Commands("web1", ("hosts.yml",), "playbooks")
SITE = "ansible-playbook -i hosts.yml playbooks/site.yml --limit web1 --tags "
RUN = "/run/emperor/shop"


def unit(**more):
    return {"load": "loaded", "active": True, "state": "active (running)", "file": "enabled", "result": "success",
            "drop_ins": [], "log": [], **more}  # fmt: skip


def host(units=None, **more):
    names = ("nginx.service", "emperor.service", "emperor-memory-guard.service", "emperor@shop.socket")
    return {"now": NOW, "units": {**{name: unit() for name in names}, **(units or {})}, "listeners": [], "barred": [],
            "nginx_fault": "", "nginx_unread": "", "nginx_read": NOW - 50, "nginx_errors": [], "sharing": [],
            "disks": [], **more}  # fmt: skip


def planned(**more):
    return {"current": "1", "home": "/srv/shop", "domains": ["shop.test"], "max_request_seconds": 30,
            "path": "", "others": [], "max_body_size": "1m", "said": {}, "health": "", "certificate_problem": "",
            "certificate_days": 60, "reload": "zerg",
            "workers": {"processes": 2, "threads": 2, "share": 512, "why": "because."},
            "vassal": {"digest": "d", "text": "threads = 2\n"},
            "files": [{"path": RUN, "owner": "shop", "group": "www-data", "mode": "2710"}], **more}  # fmt: skip


def facts(workers=None, release=None, log=None, **more):
    """An app that runs well, except for what is given."""
    return {
        "missing": "", "file": "/v/shop.blue.ini", "vassal": "threads = 2\n", "digest": "d", "running": 3,
        "workers": {"answers": True, "accept": 2, "threads": 4, "busy": 0, "replaced": 0, "requests": [],
                **(workers or {})},
        "waiting": 0, "memory": 50 * MIB, "group": {"limit": 0, "killed": 0, "unit": True},
        "release": {"serving": "1", "complete": True, "label": "v1", "activated": NOW, "current": "1", "previous": "0",
                    "previous_label": "v0", "python": "/p", "python_leads_to": "/q", "python_runs": True, "changed": [],
                    **(release or {})},
        "unfinished": False, "barrier": None, "data": {"path": "/srv/shop/shared", "closed": None, "out_of_reach": []},
        "since": NOW - 100, "throttled": 0, "locked": [], "failed_checks": [],
        "log": {"starts": [], "killed": [], "crashed": [], "late": [], "exception": None, **(log or {})}, **more,
    }  # fmt: skip


def app(found=None, plan=None, on=None, known=(), emperor=True):
    return app_checks.diagnose(Case("shop", found or facts(), plan or planned(), on or host(), CURES, emperor), known)


def one(problems):
    assert len(problems) == 1, problems
    return problems[0]


def raised(line, variable="", loading=True):
    return {"at": NOW - 5, "line": line, "where": "/src/shop.py, line 1", "variable": variable, "loading": loading}


DOWN = {"accept": 0, "threads": 0}


def closed(path, mode="0700"):
    return {"path": path, "owner": "root", "group": "root", "mode": mode, "why": "closed"}


SLOW: dict[str, Any] = {"busy": 4, "requests": [{"seconds": 9, "method": "GET", "path": "/slow", "worker": 1}] * 4}
CASES: dict[str, tuple[Any, dict[str, Any], str, str]] = {
    "import error in changed code": (
        facts(DOWN, {"changed": ["/src/shop.py"]},
                {"exception": raised("ModuleNotFoundError: No module named 'x'")}), {},
        "No module named 'x'", "release.json"),
    "import error with a release before": (facts(DOWN, log={"exception": raised("E: x")}), {}, "E: x", "rollback.yml"),
    "import error without one": (
        facts(DOWN, {"previous": ""}, {"exception": raised("E: x")}), {}, "E: x", "deploy.yml -e app=shop"),
    "variable gone from the file": (
        facts(DOWN, log={"exception": raised("KeyError: 'K'", "K")}, digest="other"), {}, "variable K", SITE + "apps"),
    "variable not in the inventory": (
        facts(DOWN, log={"exception": raised("KeyError: 'K'", "K")}), {}, "variable K", "deploy.yml"),
    "variable of a request": (
        facts(log={"exception": raised("KeyError: 'K'", "K", loading=False)}), {}, "clients get 500", "deploy.yml"),
    "python gone while it is down": (facts(DOWN, {"python_runs": False}), {}, "Python of its virtualenv is gone",
                                     "release.json"),
    "python gone while it runs": (facts(release={"python_runs": False}), {}, "will not start again", "release.json"),
    "down for no known reason": (facts(DOWN), {}, "shop does not run", "systemctl restart emperor-app@shop.service"),
    "edited vassal": (facts(digest="other"), {}, "/v/shop.blue.ini differs", SITE + "apps"),
    "busy": (facts(SLOW), {}, "All 4 threads of shop are busy", "deploy.yml"),
    "database locked": (
        facts(SLOW, locked=[{"path": "/srv/shop/shared/db", "pid": 7, "program": "sqlite3", "unit": ""}],
              log={"late": [NOW - 5]}), {"health": "get no answer"}, "/shared/db of shop is locked", "kill 7 "),
    "killed at its share": (
        facts(log={"killed": [NOW]}, group={"limit": 512 * MIB, "killed": 1, "unit": False}), {}, "limit of 512 MiB",
        SITE + "apps"),
    "crashes": (facts(log={"crashed": [NOW]}), {}, "crash", "rollback.yml"),
    "late": (facts(log={"late": [NOW - 5]}), {}, "longer than max_request_seconds (30 s)", "deploy.yml"),
    "socket closed": (facts(barrier=closed(RUN)), {}, "nginx may not use the socket", f"chmod 2710 {RUN}"),
    "directory above closed": (facts(barrier=closed("/srv")), {}, "nginx may not use", "chmod o+x /srv"),
    "socket missing": (facts(barrier={**closed(RUN), "why": "missing"}), {}, "is missing", SITE + "apps"),
    "data closed": (facts(data={"path": "/d", "closed": closed("/d"), "out_of_reach": []}), {},
            "data directory", "chmod"),
    "data of root": (facts(data={"path": "/d", "closed": None, "out_of_reach": [closed("/d/x")]}), {},
            "some of its data",
                     "chown -R shop:shop /d"),
    "other current": (facts(release={"current": "2"}, digest="other"), {}, "names another release",
            "ln -sfn releases/1"),
    "interrupted run": (facts(release={"current": "2"}, unfinished=True), {}, "names another release", "deploy.yml"),
    "plan differs": (facts(), {"said": {"limit": "memory limit changed"}}, "memory limit changed", SITE + "apps"),
    "health for an unknown reason": (facts(), {"health": "get the status 500"}, "get the status 500",
            "systemctl reload"),
    "not deployed": (facts(), {"current": ""}, "not deployed", SITE + "apps"),
    "no vassal": (facts(file=""), {}, "does not run", SITE + "apps"),
}  # fmt: skip


def test_healthy_app_has_no_problem():
    assert app() == []


@pytest.mark.parametrize("case", CASES)
def test_problem_is_named_alone_with_its_cure(case):
    found, plan, what, cure = CASES[case]
    problem = one(app(found, planned(**plan)))
    assert what in problem.what
    assert cure in problem.cure
    assert problem.app == "shop"


def test_briefly_busy_threads_are_no_problem():
    assert app(facts({"busy": 4, "requests": [{**SLOW["requests"][0], "seconds": 0}]})) == []


def test_busy_app_explains_its_health_and_says_which_requests():
    problem = one(app(facts(SLOW), planned(health="get no answer (timed out)")))
    assert "GET /slow: 4 running, the oldest for 9 s" in problem.evidence
    assert "workers: {processes: 2, threads: 4}" in problem.before


def test_workers_that_recycle_themselves_are_not_killed_by_the_kernel():
    assert app(facts(log={"killed": [NOW]})) == []


def test_wrong_memory_limit_is_set_again_and_a_right_one_is_for_a_person_to_raise():
    def killed(limit):
        return one(app(facts(log={"killed": [NOW]}, group={"limit": limit * MIB, "killed": 2}), planned(said=said)))

    said = {"limit": "memory limit changed"}
    assert (killed(300).cure, killed(300).before) == (CURES.site("apps"), "")
    said = {}
    assert killed(512).before.startswith("raise memory.limit of shop")


def test_drop_in_of_a_template_is_named_once_and_all_its_units_are_restarted():
    units = {f"emperor-app@{name}.service": unit(drop_ins=["/run/emperor-app@.service.d/x"]) for name in ("a", "b")}
    found = one(host_checks.diagnose(host(units), ["a", "b"], CURES, {}, 80, "/srv"))
    assert (
        found.cure == "rm /run/emperor-app@.service.d/x && systemctl daemon-reload && systemctl restart emperor.service"
    )


def test_drop_ins_of_a_unit_are_its_own_and_those_of_its_template():
    own = ["/etc/systemd/system/emperor-app@.service.d/a", "/run/systemd/system/emperor-app@shop.service.d/b"]
    limit = ["/run/systemd/system.control/emperor-app@shop.service.d/50-MemoryMax.conf",
             "/etc/systemd/system/emperor-app@shop.service.d/app.conf"]  # fmt: skip
    other = ["/run/systemd/system/service.d/c", "/usr/lib/systemd/system/emperor-app@.service.d/d"]
    assert checkup.drop_ins("emperor-app@shop.service", [*own, *limit, *other]) == own


def test_too_large_bodies_and_timeouts_belong_to_their_app():
    def error(kind, server="shop.test", at=NOW - 1):
        return {"at": at, "kind": kind, "bytes": 9000, "server": server, "request": "POST /up"}

    assert "413" in one(app(on=host(nginx_errors=[error("too_large")]))).what
    assert app(on=host(nginx_errors=[error("too_large", "other.test"), error("too_large", at=NOW - 60)])) == []
    assert "POST /up" in one(app(on=host(nginx_errors=[error("timeout")]))).evidence
    assert "queue" in one(app(on=host(nginx_errors=[error("full")]))).what


def test_faults_of_a_shared_domain_belong_to_the_app_with_the_longest_path():
    def named(path, others, request):
        error = {"at": NOW - 1, "kind": "full", "bytes": 0, "server": "shop.test", "request": request}
        return [found.what for found in app(plan=planned(path=path, others=others), on=host(nginx_errors=[error]))]

    for request, wanted in (
        ("GET /shop/x", "/shop"), ("GET /shop", "/shop"), ("GET /shop/desk/1", "/shop/desk"), ("GET /shopping", ""),
        ("GET /", ""), ("", ""),
    ):  # fmt: skip
        paths = {"": ["/shop", "/shop/desk"], "/shop": ["/shop/desk"], "/shop/desk": []}
        assert [path for path, others in paths.items() if named(path, others, request)] == [wanted], request


def test_with_a_stopped_emperor_only_wrong_rights_of_an_app_are_named():
    stopped = host_checks.diagnose(host({"emperor.service": unit(active=False)}), ["shop"], CURES, {}, 80, "/srv")
    assert "emperor does not run" in one(stopped).what
    missing = facts(DOWN, barrier={**closed("/x"), "why": "missing"})
    assert app(missing, planned(health="get no answer"), known=stopped, emperor=False) == []
    assert "/run" in one(app(facts(DOWN, barrier=closed(RUN)), known=stopped, emperor=False)).cure


def diagnose(on, managed=None):
    return host_checks.diagnose(on, ["shop"], CURES, managed or {}, 80, "/srv")


FAULT = "nginx: [emerg] unknown directive in /etc/nginx/sites-enabled/x.conf:3"
HOSTS = {
    "nginx stopped": (host({"nginx.service": unit(active=False)}), "nginx does not run", "enable --now nginx.service"),
    "nginx masked": (host({"nginx.service": unit(load="masked", active=False)}), "nginx is masked", "unmask"),
    "gave up": (host({"nginx.service": unit(active=False, result="start-limit-hit")}), "does not run", "reset-failed"),
    "nginx missing": (host({"nginx.service": unit(load="not-found")}), "not installed", SITE + "nginx"),
    "emperor masked": (host({"emperor.service": unit(load="masked", active=False)}), "emperor is masked",
            SITE + "uwsgi"),
    "guard stopped": (host({"emperor-memory-guard.service": unit(active=False)}), "memory-guard does not run",
            "enable"),
    "not at boot": (host({"emperor.service": unit(file="disabled")}), "at boot", "systemctl enable emperor.service"),
    "port taken": (host({"nginx.service": unit(active=False)},
                        listeners=[{"pid": 7, "program": "x", "unit": "x.service"}]), "port 80",
                                "disable --now x.service"),
    "firewall": (host(barred=[80, 443]), "ufw lets nobody in to port 80 and 443",
                 "ufw allow 80/tcp && ufw allow 443/tcp"),
    "port taken by no unit": (host(listeners=[{"pid": 7, "program": "x", "unit": "session-1.scope"}]),
            "port 80", "kill 7"),
    "broken file": (host(nginx_fault=FAULT), "refuses its configuration", "mv /etc/nginx/sites-enabled/x.conf"),
    "unread": (host(nginx_unread="/etc/nginx/x"), "has not read", "systemctl reload nginx"),
    "socket": (host({"emperor@shop.socket": unit(active=False)}), "listening socket of shop",
            "stop emperor@shop.service"),
    "drop-in": (host({"emperor.service": unit(drop_ins=["/etc/x"])}), "changed by files", "rm /etc/x"),
    "shared directories": (host(sharing=["shop"]), "the /tmp", "systemctl restart emperor.service"),
}  # fmt: skip


def test_healthy_host_has_no_problem():
    assert diagnose(host(listeners=[{"pid": 1, "program": "nginx", "unit": "nginx.service"}])) == []


@pytest.mark.parametrize("case", HOSTS)
def test_problem_of_a_host_is_named_alone_with_its_cure(case):
    on, what, cure = HOSTS[case]
    problem = one(diagnose(on))
    assert what in problem.what
    assert cure in problem.cure


def test_broken_file_of_the_inventory_is_cured_by_writing_it_again():
    problem = one(diagnose(host(nginx_fault=FAULT), {"/etc/nginx/sites-enabled/x.conf": "apps"}))
    assert "state=absent" in problem.cure
    assert problem.cure.endswith(SITE + "apps")


def disk(**more):
    return {"mount": "/srv", "paths": ["/srv"], "size": 1000 * MIB, "free": 500 * MIB, "inodes": 100, "inodes_free": 50,
            "read_only": False,
            "largest": [], **more}  # fmt: skip


@pytest.mark.parametrize(
    ("found", "what", "cure"),
    [
        (disk(read_only=True), "cannot be written", "remount,rw"),
        (
            disk(free=0, largest=[{"path": "/srv/shop/cache/x", "size": MIB}]),
            "is full",
            "find /srv/shop/cache -mindepth 1",
        ),
        (disk(free=0, largest=[{"path": "/srv/shop/shared/x", "size": MIB}]), "is full", "df -h /srv"),
        (
            disk(free=0, mount="/srv/shop/shared", paths=["/srv/shop/shared"]),
            "shop cannot store data",
            "df -h /srv/shop",
        ),
        (disk(free=0, paths=["/srv/shop/shared", "/srv/shop/releases"]), "no deploy is possible", "df -h /srv"),
        (disk(inodes_free=0), "more files", "df -i"),
    ],
)
def test_disk_problem_is_named(found, what, cure):
    problem = one(diagnose(host(disks=[found])))
    assert what in problem.what
    assert cure in problem.cure


def test_disk_without_a_limit_of_inodes_is_fine():
    assert diagnose(host(disks=[disk(inodes=0, inodes_free=0)])) == []


@pytest.mark.parametrize(("name", "known"), [("shop.test", True), ("a.shop.test", False), ("x.wild.test", True)])
def test_host_name_of_no_app_is_named(name, known):
    apps = {"shop": {"domains": ["shop.test"]}, "wild": {"domains": ["*.wild.test"]}}
    assert (list(host_checks.name_unknown(name, apps, CURES)) == []) is known


def diff(path, before, after):
    return {"before_header": path, "after_header": path, "before": before, "after": after}


def test_files_that_differ_are_named_once_with_what_differs():
    diffs = {"nginx": [diff("/a", "x\ny\n", "x\nz\n"), diff("/b", "", "new"), diff("/c", "old", "")]}
    changed, missing, extra = drift.problems(diffs, CURES)
    assert (changed.what, changed.evidence) == ("/a differs from the inventory.", ("-y", "+z"))
    assert "is missing" in missing.what
    assert "is not in the inventory" in extra.what
    known = app(facts(barrier=closed(RUN)))
    assert list(drift.problems({"apps": [diff(RUN, "0700", "2710")]}, CURES, known)) == []


def test_long_differences_are_cut():
    shown = drift.shown("", "\n".join(map(str, range(99))))
    assert (len(shown), shown[-1]) == (drift.LINES + 1, "... 87 more lines")


def test_hosts_on_different_releases_are_a_problem():
    hosts = {
        name: {"shop": {"release": {"serving": release}}} for name, release in (("a", "1"), ("b", "2"), ("c", "1"))
    }
    problem = one(list(fleet.mixed(hosts, CURES)))
    assert problem.evidence == ("1: a, c", "2: b")
    del hosts["b"]
    assert list(fleet.mixed(hosts, CURES)) == []


def test_problem_is_shown_with_evidence_first_step_and_cure():
    lines = one(app(facts(SLOW))).lines()
    assert lines[1].startswith("   GET /slow")
    assert lines[-2].startswith("   first: ")
    assert lines[-1].startswith("   cure: ansible-playbook")
    assert set(one(app(facts(SLOW))).data()) == {"what", "cure", "evidence", "where", "app", "before"}


def test_table_marks_apps_that_are_down_and_says_what_a_rollback_returns_to():
    rows = {"web1": {"shop": status.row(planned(), facts(SLOW)), "blog": status.row(planned(), facts(DOWN))}}
    head, shop, blog = status.table(rows, [("web1", "blog")])
    assert head.startswith("  host")
    assert "1 (v1)" in shop
    assert "4 of 4 (2 workers)" in shop
    assert "9 s GET /slow" in shop
    assert shop.endswith("0 (v0)")
    assert blog.startswith("! web1")
    assert "DOWN" in blog
    gone = {"web1": {"shop": status.row(planned(), {"missing": "there is no user 'shop'"})}}
    assert "not there" in status.table(gone, [])[1]


def test_restarts_are_listed_with_their_reasons():
    assert status.restarts(facts({"replaced": 3}, log={"killed": [1], "late": [1, 2]})) == "3 (1 killed, 2 late)"


def test_reasons_name_hosts_only_where_they_differ():
    same = status.row(planned(), facts())
    assert status.reasons({"a": {"shop": same}, "b": {"shop": same}}) == ["shop: because."]
    assert status.reasons({"a": {"shop": same}, "b": {"shop": {**same, "why": "x"}}})[1] == "shop: x (b)"


def test_commit_is_shortened():
    assert status.named("1", "a" * 40) == f"1 ({'a' * 12})"
    assert status.named("", "") == "none"


def test_failed_check_is_a_problem_and_explains_a_health_check_that_fails():
    failed = [{"command": "flask ping-db", "why": "connection refused"}]
    found = one(app(facts(failed_checks=failed), planned(health="get 500 instead of 200")))
    assert "shop lacks what it needs: its check `flask ping-db` fails." in found.what
    assert found.evidence == ("connection refused",)
    assert found.cure == "emperor-run shop flask ping-db"


@pytest.mark.parametrize(("off", "count"), [(0, 0), (4.9, 0), (61, 1)])
def test_clock_that_differs_is_a_problem(off, count):
    found = list(host_checks.clock(host(clock_off=off)))
    assert len(found) == count
    assert all("differs by 61 s" in problem.what and "UTC" in problem.evidence[0] for problem in found)


@pytest.mark.parametrize(("text", "what", "before"), [
    ("The certificate of shop expired: run playbooks/site.yml.", "The certificate of shop expired. Browsers", ""),
    ("The certificate of shop ends in 3 days: set flask_apps[shop].tls.certificate and key to a new one, and run "
     "playbooks/site.yml.", "The certificate of shop ends in 3 days.", "set flask_apps[shop].tls.certificate and key"),
])  # fmt: skip
def test_certificate_that_ends_is_a_problem(text, what, before):
    found = one(app(plan=planned(certificate_problem=text)))
    assert found.what.startswith(what)
    assert found.cure == "ansible-playbook -i hosts.yml playbooks/site.yml --limit web1"
    assert found.before.startswith(before)
    assert bool(found.before) == bool(before)
