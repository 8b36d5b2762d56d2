"""The plan: what differs is named, app by app, and what does not differ gets no task."""

import re

import pytest
from ansible_collections.flaskops.emperor.plugins.plugin_utils import certificate_plan, plan
from ansible_collections.flaskops.emperor.plugins.plugin_utils.plan import Wanted
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.balancer import backend
from planned import APP, DIGEST, OLD, RELEASE, SHOP, as_on_disk, changed, healthy, host, wanted


@pytest.mark.parametrize("mode", ["zerg", "chain", "graceful", "upstream", "exclusive"])
def test_app_as_configured_has_no_difference(mode):
    on = host({**SHOP, "reload": mode})
    one = wanted(on)
    assert plan.compare(one, on, healthy(on, one)) == {}


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
    ((*APP, "vassal", "confined"), False, "unit", "its unit is not confined as it should be"),
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


def test_first_release_whose_static_files_a_killed_run_did_not_publish_gets_them():
    on = host()
    state = healthy(on, wanted(on))
    state["apps"]["shop"]["releases"] |= {"current": "", "static_right": False}
    found = plan.compare(wanted(on), on, state)
    assert found == {"release": f"new app, release {RELEASE}", "static": ""}


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
    one = wanted(host({**SHOP, "domains": domains}))
    assert plan.reached(one)["health_host"] == backend(one.app, "web1", {})["health_host"] == name


# --- what is refused


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


def test_host_whose_certificates_are_right_has_nothing_to_do():
    certificates = certificate_plan.Certificates([], [], {"purpose": "deploy"}, str)
    found = certificates.compare([], host(), {"certificates": {}, "files": {}})
    assert not plan.anything({"certificates": found})


@pytest.mark.parametrize(
    ("more", "kept", "now", "then"),
    [
        ({"tls": {"mode": "selfsigned"}}, [], True, True),
        ({"tls": {"mode": "selfsigned"}}, ["shop"], True, True),
        ({}, ["shop"], True, False),
        ({"state": "absent"}, ["shop"], True, False),
        ({}, ["shop", "unlisted"], True, True),
        ({}, [], False, False),
    ],
)
def test_host_listens_for_https_until_the_last_site_that_has_it_is_gone(more, kept, now, then):
    on = host({**SHOP, **more})
    days = {"there": True, "days": 60, "self_signed": True, "lineage": False}
    state = {"certificates": dict.fromkeys(kept, days), "files": {}}
    certificates = certificate_plan.Certificates(on.apps, on.apps, {"purpose": "look"}, str)
    certificates.compare([Wanted(app) for app in on.apps], on, state)
    assert (state["https"], state["https_stays"]) == (now, then)
