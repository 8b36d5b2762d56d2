"""The plan: what differs is named, app by app, and what does not differ gets no task."""

import copy
import re

import pytest
from ansible_collections.flaskops.emperor.plugins.action.host_state import check_system
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.config import Config
from ansible_collections.flaskops.emperor.plugins.plugin_utils import app_files, host_fit, plan
from ansible_collections.flaskops.emperor.plugins.plugin_utils.plan import Host, Wanted
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.apps import complete_apps
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.relations import (
    check_only,
    check_root,
    check_stop_timeout,
    check_tasks,
    check_uwsgi,
)
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused
from ansible_collections.flaskops.emperor.plugins.plugin_utils.vassal_options import vassal_config

SHOP = {"name": "shop", "app": "shop:app", "source": {"path": "."}}
RELEASE, OLD = "3f2a9c01d4e5", "0123456789ab"
SITE = "server {}\n"
DIGEST = "0" * 64
MACHINE = {"distribution": "Debian", "version": "13"}


def host(*apps, **more):
    """A host with these apps."""
    settings = {"cpus": 2, "memory": 8000, "reserve": 64, "uwsgi": "pyuwsgi", "uwsgi_version": "2.0.30.post1"}
    settings |= {"backlog": 1024, "web_group": "www-data", "keep": 5, "sites": "/etc/nginx/sites-enabled"}
    return Host(apps=complete_apps(apps or (SHOP,)), **{**settings, **more})


def wanted(on, **more):
    return Wanted(on.apps[0], **{"release": RELEASE, "site": SITE, **more})


def as_on_disk(entry):
    digest = app_files.digest(entry["content"]) if "content" in entry else ""
    kind = "file" if "content" in entry else "directory"
    owned = {key: entry[key] for key in ("owner", "group", "mode")}
    return {"kind": kind, "digest": digest, "target": "", "executable": False, **owned}


def healthy(on, one):
    """What is found of an app that runs as it should."""
    app = one.app
    config = Config.of(vassal_config(app, on.workers(one.name, None), one.release, uwsgi=on.uwsgi, backlog=on.backlog))
    slot = {"slot": "blue", "digest": app_files.digest(config.render()), "generation": config.generation, "problem": ""}
    limit = on.workers(one.name, None)["share"] * plan.MIB
    files = {entry["path"]: as_on_disk(entry) for entry in app_files.files(app, on.web_group)}
    site = {"content": one.site, "owner": "root", "group": "root", "mode": "0644"}
    files[plan.site_path(one.name, on)] = as_on_disk(site)
    files[app["python"]["interpreter"]] = {**as_on_disk(site), "executable": True}
    files[app["paths"]["socket"]] = as_on_disk(site)
    return {
        "apps": {
            one.name: {
                "account": {"home": app["paths"]["shared"], "shell": "/usr/sbin/nologin", "group": one.name},
                "releases": {
                    "releases": [
                        {"id": one.release, "size": {}, "tried": "", "label": "", "activated": 1.0},
                        {"id": OLD, "size": {}, "tried": "", "label": "v1"},
                    ],
                    "current": one.release,
                    "previous": OLD,
                    "superfluous": [],
                    "broken": [],
                    "static_right": True,
                    "persistent_right": True,
                    "files_right": True,
                },
                "vassal": {
                    "slots": [slot],
                    "unfinished": False,
                    "serving": f"{app['paths']['releases']}/{one.release}",
                    "upstream_right": True,
                    "limit": limit,
                    "limit_held": True,
                },
                "sides": {"parts": {}, "unfinished": False},
                "calendars": {},
                "health": "",
            }
        },
        "files": files,
        "units": {one.socket_unit: {"there": True, "active": True, "enabled": True, "stale": False}},
        "found": [one.name],
        "machine": MACHINE,
    }


def changed(state, path, value):
    """A copy of what is found with one thing changed; `path` leads there."""
    state = copy.deepcopy(state)
    place = state
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return state


@pytest.mark.parametrize("mode", ["zerg", "chain", "graceful", "upstream"])
def test_app_as_configured_has_no_difference(mode):
    on = host({**SHOP, "reload": mode})
    one = wanted(on)
    assert plan.compare(one, on, healthy(on, one)) == {}


APP = ("apps", "shop")
DIFFERENCES = [
    ((*APP, "releases", "current"), OLD, "release", "back to release 3f2a9c01d4e5 (v2)"),
    ((*APP, "releases", "releases"), [], "release", "release 3f2a9c01d4e5 (v2) is incomplete"),
    ((*APP, "releases", "superfluous"), [OLD], "superfluous", "old releases to remove"),
    ((*APP, "releases", "broken"), [RELEASE], "python", "the Python of release 3f2a9c01d4e5 is gone: it is built anew"),
    ((*APP, "releases", "static_right"), False, "static", "static files"),
    ((*APP, "releases", "persistent_right"), False, "persistent", "persistent directories"),
    ((*APP, "releases", "files_right"), False, "configuration", "configuration files"),
    ((*APP, "account"), None, "account", "account"),
    ((*APP, "account", "shell"), "/bin/bash", "account", "account"),
    ((*APP, "vassal", "slots"), [], "instance", "not running"),
    ((*APP, "vassal", "slots", 0, "digest"), DIGEST, "settings", "settings changed"),
    ((*APP, "vassal", "slots", 0, "problem"), "it hangs", "instance", "health check fails: it hangs"),
    ((*APP, "vassal", "unfinished"), True, "unfinished", "interrupted run"),
    ((*APP, "vassal", "upstream_right"), False, "upstream", "requests go to a wrong socket"),
    ((*APP, "vassal", "limit"), 7, "limit", "memory limit changed"),
    ((*APP, "vassal", "limit_held"), False, "limit", "memory limit changed"),
    ((*APP, "health"), "get the status 502", "health", "clients get the status 502"),
    (("files", "/etc/nginx/sites-enabled/flask_apps-shop.conf"), None, "site", "site changed"),
    (("files", "/etc/nginx/sites-enabled/flask_apps-shop.conf", "digest"), DIGEST, "site", "site changed"),
    (("files", "/etc/nginx/sites-enabled/flask_apps-shop.conf", "mode"), "0600", "site", "site changed"),
    (("files", "/srv/flask_apps/shop/shared"), None, "files", "directories"),
    (("files", "/srv/flask_apps/shop/shared", "mode"), "0755", "files", "directories"),
    (("files", "/srv/flask_apps/shop/shared", "owner"), "root", "files", "directories"),
    (("files", "/run/emperor/shop", "kind"), "link", "files", "directories"),
    (("files", "/run/emperor-sockets/shop", "owner"), "shop", "files", "directories"),
    (("files", "/run/emperor-sockets/shop/app.sock"), None, "socket", "listening socket not held"),
    (("files", "/etc/tmpfiles.d/emperor-shop.conf", "digest"), DIGEST, "files", "directories"),
    (("units", "emperor@shop.socket", "active"), False, "socket", "listening socket not held"),
    (("units", "emperor@shop.socket", "enabled"), False, "socket", "listening socket not held"),
]


@pytest.mark.parametrize(("path", "value", "key", "phrase"), DIFFERENCES)
def test_every_difference_is_found_and_named(path, value, key, phrase):
    on = host()
    one = wanted(on, label="v2")
    assert plan.compare(one, on, changed(healthy(on, one), path, value)) == {key: phrase}


def test_workers_of_a_chain_that_load_another_release_are_found():
    on = host({**SHOP, "reload": "chain"})
    one = wanted(on)
    state = changed(healthy(on, one), (*APP, "vassal", "serving"), "/elsewhere")
    assert plan.compare(one, on, state) == {"serving": "workers load a wrong release"}


def test_new_release_is_named_with_its_label():
    on = host()
    state = healthy(on, wanted(on))
    found = plan.compare(wanted(on, release="f" * 12, label="v1.4.2"), on, state)
    assert found["release"] == "new release ffffffffffff (v1.4.2)"
    assert "settings" not in found  # of course its file is another one


def test_size_that_was_measured_is_part_of_the_comparison():
    on = host()
    one = wanted(on)
    state = healthy(on, one)
    size = {"total": 90 << 20, "private": 70 << 20, "rss": 80 << 20}
    state["apps"]["shop"]["releases"]["releases"][0]["size"] = size
    assert plan.compare(one, on, state) == {"settings": "settings changed"}  # its workers are recycled elsewhere


def test_release_that_was_built_and_never_served_is_a_new_one():
    on = host()
    state = healthy(on, wanted(on))
    state["apps"]["shop"]["releases"] |= {"current": OLD}
    del state["apps"]["shop"]["releases"]["releases"][0]["activated"]
    assert plan.compare(wanted(on), on, state) == {"release": f"new release {RELEASE}"}


@pytest.mark.parametrize(("found", "differs"), [({}, []), ({"static_right": False}, ["static"])])
def test_release_to_go_back_to_is_completed_only_where_it_needs_that(found, differs):
    on = host()
    state = healthy(on, wanted(on))
    state["apps"]["shop"]["releases"] |= found
    assert list(plan.compare(wanted(on, release=OLD), on, state)) == ["release", *differs]


@pytest.mark.parametrize("mode", ["zerg", "chain"])
def test_trial_start_counts_for_the_settings_and_the_release_it_was_made_with(mode):
    on = host({**SHOP, "reload": mode})
    state = healthy(on, wanted(on))["apps"]["shop"]
    release = f"/srv/flask_apps/shop/releases/{OLD}" if mode == "chain" else ""
    earlier = plan.vassal_of(wanted(on, release=OLD), on, state)[1].trial_digest(release)
    state["releases"]["releases"][1]["tried"] = earlier
    other = host({**SHOP, "reload": mode, "environment": {"DEBUG": "1"}})
    assert plan.tried(wanted(on, release=OLD), on, state)
    assert not plan.tried(wanted(other, release=OLD), other, state)
    state["releases"]["releases"][0]["tried"] = earlier
    assert not plan.tried(wanted(on), on, state)


def test_new_app_has_only_one_phrase():
    on = host()
    one = wanted(on)
    state = healthy(on, one)
    state["apps"]["shop"]["releases"] |= {"current": "", "releases": []}
    state["apps"]["shop"]["vassal"]["slots"] = []
    state["files"] = dict.fromkeys(state["files"])
    found = plan.compare(one, on, state)
    assert {"account", "files", "site"} - set(found) == {"account"}
    assert plan.table([wanted(on, differs=found)], []) == ["shop  new app, release 3f2a9c01d4e5"]


@pytest.mark.parametrize("path", [(*APP, "account"), ("files", "/srv/flask_apps/shop")])
def test_absent_app_with_anything_left_differs(path):
    on = host({"name": "shop", "state": "absent"})
    one = Wanted(on.apps[0])
    nothing = {
        "apps": {"shop": {"account": None, "vassal": {"slots": []}}},
        "files": dict.fromkeys(plan.paths_of([one], on)),
    }
    assert plan.compare(one, on, nothing) == {}
    assert plan.compare(one, on, changed(nothing, path, {"home": "x"})) == {"absent": "will be removed with its data"}


def test_table_has_a_line_for_every_app_and_for_those_that_are_not_listed():
    on = host(SHOP, {**SHOP, "name": "blog", "domains": ["b.test"]})
    first, second = (Wanted(app) for app in on.apps)
    first.differs = {"release": "new release 1", "site": "site changed", "limit": ""}
    assert plan.table([first, second], ["old"]) == [
        "shop  new release 1, site changed",
        "blog  unchanged",
        "on this host but not in flask_apps: old (playbooks/remove.yml -e app=NAME removes one)",
    ]


# --- the release


def test_release_id_depends_only_on_its_content():
    def named(changes=None, digest=DIGEST, **more):
        on = host({**SHOP, **(changes or {})}, **more)
        return plan.release_id(on.apps[0], digest, on)

    same = named()
    assert re.fullmatch("[0-9a-f]{12}", same)
    assert named({"environment": {"A": "b"}, "domains": ["a.b"], "workers": {"threads": 2}}) == same
    others = [
        named(digest="1" * 64),
        named({"python": {"interpreter": "/opt/python3"}}),
        named({"python": {"requirements": "requirements.txt"}}),
        named({"static": {"/static": "static"}}),
        named(uwsgi_version="2.0.31"),
        named(uwsgi="distro"),
        named(pip_arguments=["--pre"]),
    ]
    assert len({same, *others}) == 1 + len(others)


@pytest.mark.parametrize(
    ("app", "packages"),
    [
        ({}, ["pyuwsgi==2.0.30.post1"]),
        ({"source": {"package": "shop==2.1"}}, ["shop==2.1", "pyuwsgi==2.0.30.post1"]),
    ],
)
def test_packages_include_uwsgi_unless_it_is_the_distributions(app, packages):
    on = host({**SHOP, **app})
    assert plan.packages(on.apps[0], on) == packages
    assert plan.packages(on.apps[0], host(uwsgi="distro")) == packages[:-1]


@pytest.mark.parametrize(
    ("domains", "name"),
    [
        ([], "localhost"),
        (["a.example.com", "b.example.com"], "a.example.com"),
        (["*.example.com"], "health.example.com"),
    ],
)
def test_health_check_goes_to_a_name_the_site_answers_for(domains, name):
    assert wanted(host({**SHOP, "domains": domains})).health_host == name


# --- what is refused


def test_workers_that_do_not_fit_into_the_memory_are_refused():
    on = host({**SHOP, "memory": {"limit": "9G"}})
    with pytest.raises(Refused, match=r"flask_apps\[shop\].memory.limit: 9216 MiB in all, but of the host's 8000 MiB"):
        host_fit.check_host(on, [], {"machine": MACHINE})


def test_account_of_something_else_is_refused():
    on = host()
    one = wanted(on)
    state = changed(healthy(on, one), (*APP, "account", "home"), "/home/shop")
    host_fit.check_host(on, [one], healthy(on, one))
    with pytest.raises(Refused, match=r"flask_apps\[shop\].name is an account of this host that belongs to something"):
        host_fit.check_host(on, [one], state)


@pytest.mark.parametrize("value", [None, {"executable": False}])
def test_interpreter_that_is_not_there_is_refused(value):
    on = host()
    one = wanted(on)
    state = changed(healthy(on, one), ("files", "/usr/bin/python3"), value)
    with pytest.raises(Refused, match=r"python.interpreter is /usr/bin/python3, which is no program on this host"):
        host_fit.check_host(on, [one], state)


def test_interpreter_that_a_debian_package_of_the_app_brings_is_taken():
    on = host({**SHOP, "python": {"interpreter": "/usr/bin/python3.14"}, "packages": ["python3.14"]})
    one = wanted(on)
    host_fit.check_host(on, [one], changed(healthy(on, one), ("files", "/usr/bin/python3.14"), None))


def test_unknown_name_in_only_is_refused():
    check_only(["shop"], host().apps)
    with pytest.raises(Refused, match="flask_apps_only names blog, which is not in flask_apps: choose from shop"):
        check_only(["blog"], host().apps)


def test_root_outside_the_writable_paths_is_refused():
    check_root("/srv/flask_apps", ["/srv/flask_apps"])
    with pytest.raises(Refused, match=r"flask_apps_root is /opt/apps, in which .* add it to uwsgi_writable_paths"):
        check_root("/opt/apps", ["/srv/flask_apps"])


@pytest.mark.parametrize(
    ("changes", "arguments", "sentence"),
    [
        ({"reload": "chain"}, ("distro", 13), "reload is chain, which is not tested with the"),
        ({"workers": {"threads": 2}}, ("distro", 12), "threads is 2, but the uWSGI of Debian 12 loses requests"),
    ],
)
def test_app_that_does_not_fit_its_uwsgi_is_refused(changes, arguments, sentence):
    with pytest.raises(Refused, match=sentence):
        check_uwsgi(host({**SHOP, **changes}).apps[0], *arguments)


@pytest.mark.parametrize(
    ("changes", "arguments"),
    [
        ({"reload": "chain"}, ("pyuwsgi", 12)),
        ({"workers": {"threads": 1}}, ("distro", 12)),
        ({"workers": {"threads": 2}}, ("distro", 13)),
    ],
)
def test_app_that_fits_its_uwsgi_passes(changes, arguments):
    check_uwsgi(host({**SHOP, **changes}).apps[0], *arguments)


def test_uwsgi_is_checked_against_the_system_of_the_host():
    on = host({**SHOP, "workers": {"threads": 2}}, uwsgi="distro")
    state = healthy(on, wanted(on))
    host_fit.check_host(on, [], state)
    with pytest.raises(Refused, match="the uWSGI of Debian 12 loses requests"):
        host_fit.check_host(on, [], changed(state, ("machine",), {"distribution": "Debian", "version": "12"}))


def test_request_that_outlives_the_service_is_refused():
    app = host({**SHOP, "max_request_seconds": 90}).apps[0]
    for timeout in (None, 120):
        check_stop_timeout(app, timeout)
    with pytest.raises(Refused, match=r"max_request_seconds is 90, .* to at least 120, or leave it out"):
        check_stop_timeout(app, 119)


TESTED = {"Debian": ["12", "13"]}


@pytest.mark.parametrize(
    ("name", "version"), [("Ubuntu", "24.04"), ("Debian", "11"), ("Debian", ""), ("", ""), ("Fedora", "13")]
)
def test_system_that_is_not_tested_is_refused_and_can_be_tried(name, version):
    machine = {"distribution": name, "version": version}
    check_system("flask_apps", machine, TESTED, allow=True)
    with pytest.raises(Refused, match=rf"not tested on {name} {version}. Use Debian 12 or 13, or set flask_apps_allow"):
        check_system("flask_apps", machine, TESTED, allow=False)


@pytest.mark.parametrize("version", ["12", "13", "13.2"])
def test_system_that_is_tested_passes(version):
    check_system("flask_apps", {"distribution": "Debian", "version": version}, TESTED, allow=False)


def test_shared_files_differ_when_one_of_them_does():
    owned = {"owner": "root", "group": "root"}
    files = {"/srv": as_on_disk({"mode": "0755", **owned}), "/c": as_on_disk({"content": "x", "mode": "0644", **owned})}
    assert not plan.host_differs({"files": files}, "/srv", "/c", "x")
    assert plan.host_differs({"files": files}, "/srv", "/c", "y")
    assert plan.host_differs({"files": {**files, "/c": None}}, "/srv", "/c", "x")
    assert plan.host_differs({"files": {**files, "/srv": None}}, "/srv", "/c", "x")


TO_DO = ("todo", "absent", "packages", "untooled", "nginx_outdated", "host_differs")


@pytest.mark.parametrize("key", TO_DO)
def test_any_difference_is_something_to_do(key):
    certificates = {"todo": [], "files_differ": False, "unused": []}
    nothing: dict[str, object] = {**dict.fromkeys(TO_DO), "certificates": certificates}
    assert not plan.anything(nothing)
    assert plan.anything({**nothing, key: ["shop"]})
    assert plan.anything({**nothing, "certificates": {**certificates, "unused": ["shop"]}})


def test_more_threads_than_max_tasks_are_refused():
    app = {"name": "shop", "max_tasks": 64, "background": {}, "schedule": {}}
    workers = {"processes": 4, "threads": 8}
    with pytest.raises(Refused, match=r"^flask_apps\[shop\].max_tasks is 64, but its workers need 104 during a switch"):
        check_tasks(app, workers)
    check_tasks({**app, "max_tasks": 104}, workers)
    check_tasks({**app, "max_tasks": 0}, workers)
    app |= {"max_tasks": 104, "background": {"worker": {"instances": 2}}, "schedule": {"tick": {}}}
    with pytest.raises(
        Refused, match=r"is 104, but its workers need 104 and its side processes 5 during a switch: raise"
    ):
        check_tasks(app, workers)
    check_tasks({**app, "max_tasks": 109}, workers)
