"""The vassal file of an app: what the settings and the plan make of it."""

import itertools
import os
import re
import runpy
import signal

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.config import Config
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.uwsgi_options import MANAGED_OPTIONS
from rendering import (
    FULL,
    MACHINE,
    MODES,
    OTHER,
    PLANNED,
    RELEASE,
    ROLES,
    SHOP,
    SIZE,
    hooks,
    ini,
    options,
    placeholders,
    render,
    unit,
    value,
)


def test_vassal_has_its_sections_in_order_and_its_generation_last():
    sections = re.findall(r"^\[(.*)\]$", render("vassal.ini", FULL), re.MULTILINE)
    assert sections == ["launch", "uwsgi"]
    config = Config.of(value("__release_instance.config", FULL))
    assert options(config.render())[-1] == ("uwsgi", "add-header", f"X-Vassal: {config.generation}")


def test_the_apps_own_options_come_after_the_roles_and_repeat():
    names = [name for section, name, _value in options(render("vassal.ini", FULL)) if section == "uwsgi"][:-1]
    assert names[-3:] == ["mime-file", "mime-file", "offload-threads"]
    without = [name for section, name, _value in options(render("vassal.ini")) if section == "uwsgi"][:-1]
    assert names[:-3] == without


def test_vassal_runs_the_planned_release():
    found = ini(render("vassal.ini"), "uwsgi")
    release = "/srv/flask_apps/shop/releases/3f2a9c01d4e5"
    assert found["chdir"] == f"{release}/src"
    assert found["py-sys-executable"] == f"{release}/venv/bin/python"
    assert found["module"] == "emperor_loader:load()"
    assert (found["processes"], found["threads"]) == ("4", "8")
    assert ini(render("vassal.ini"), "launch")["binary"] == f"{release}/venv/bin/uwsgi"
    assert ini(render("vassal.ini"), "launch")["app"] == "shop:create_app()"


# With a path that stays the same a reload would keep the old code: the vassal has to name the release.
@pytest.mark.parametrize("mode", ["zerg", "graceful", "upstream"])
def test_except_in_a_chain_every_path_names_the_release_itself(mode):
    text = render("vassal.ini", {"reload": mode})
    assert text.count(f"/releases/{RELEASE}/") == 5
    assert "/current" not in text
    assert "/serving" not in text
    assert "lazy-apps" not in ini(text, "uwsgi")


def test_vassal_of_a_chain_is_the_same_for_every_release():
    text = render("vassal.ini", {"reload": "chain"})
    assert RELEASE not in text
    assert text == render(
        "vassal.ini",
        {"reload": "chain"},
        __flask_apps_plan={"apps": {"shop": {**PLANNED, "release": "0" * 12}}, "machine": MACHINE},
    )
    own, serving = ini(text, "uwsgi"), "/srv/flask_apps/shop/serving"
    assert own["module"] == "emperor_loader:load()"
    assert own["pythonpath"] == value("__uwsgi_modules")
    assert own["lazy-apps"] == "true"
    assert "chdir" not in own
    assert own["py-sys-executable"] == f"{serving}/venv/bin/python"
    assert ini(text, "launch")["binary"] == f"{serving}/venv/bin/uwsgi"
    assert ini(text, "launch")["app"] == "shop:create_app()"


def test_the_loader_is_installed_where_the_vassal_looks_for_it():
    module = ini(render("vassal.ini"), "uwsgi")["module"].partition(":")[0]
    places = {one["src"]: one["path"] for one in value("__uwsgi_files") if "src" in one}
    assert places[f"{module}.py"] == value("__uwsgi_modules") + f"/{module}.py"


@pytest.mark.parametrize("mode", ["zerg", "chain", "graceful"])
def test_clients_use_the_socket_that_systemd_holds(mode):
    text = render("vassal.ini", {"reload": mode})
    held = unit(render("emperor@.socket.j2"))["[Socket]", "ListenStream"].replace("%i", "shop").split("\n")
    assert {ini(text, "launch")["socket"], ini(text, "launch")["holder"]} < set(held)
    assert ini(text, "launch")["socket"] == "/run/emperor-sockets/shop/app.sock"


def test_systemd_holds_every_socket_that_the_holder_hands_out():
    held = unit(render("emperor@.socket.j2"))["[Socket]", "ListenStream"].replace("%i", "shop").split("\n")
    handed_out = runpy.run_path(str(ROLES / "uwsgi/files/socket_holder.py"))["HANDED_OUT"]
    assert {os.path.basename(one) for one in held} == {*handed_out, *itertools.chain(*handed_out.values())}
    assert {os.path.dirname(one) for one in held} == {"/run/emperor-sockets/shop"}


def test_clients_use_the_socket_of_the_slot_in_mode_upstream():
    text = render("vassal.ini", {"reload": "upstream"})
    assert ini(text, "launch") == ini(render("vassal.ini"), "launch") | {"clients": "slot"}
    own, other = ini(text, "uwsgi"), ini(render("vassal.ini"), "uwsgi")
    assert own.pop("add-header") != other.pop("add-header")
    assert own == other


@pytest.mark.parametrize("mode", MODES)
def test_two_instances_side_by_side_have_different_sockets(mode):
    # %n is the name of the file, with the place in it.
    found = options(render("vassal.ini", {"reload": mode}))
    assert [value for section, name, value in found if (section, name) == ("uwsgi", "socket")] == [
        "/run/emperor/shop/%n.sock"
    ]
    assert ini(render("vassal.ini", {"reload": mode}), "uwsgi")["stats"] == "/run/emperor/shop/%n.stats"


def test_change_of_mode_with_the_same_sockets_changes_no_file():
    assert render("vassal.ini", {"reload": "graceful"}) == render("vassal.ini", {"reload": "zerg"})


@pytest.mark.parametrize("mode", MODES)
def test_lazy_apps_reaches_uwsgi_in_every_mode(mode):
    text = render("vassal.ini", {"reload": mode, "workers": {"lazy_apps": True}})
    assert ini(text, "uwsgi")["lazy-apps"] == "true"


def test_objects_loaded_before_the_fork_are_frozen_unless_apps_are_lazy():
    assert placeholders(render("vassal.ini"))["freeze"] == "true"
    for app in ({"reload": "chain"}, {"workers": {"lazy_apps": True}}):
        assert "freeze" not in placeholders(render("vassal.ini", app))


def test_import_threads_reaches_the_loader_only_when_it_is_set():
    assert "import-threads" not in placeholders(render("vassal.ini"))
    assert placeholders(render("vassal.ini", {"workers": {"import_threads": True}}))["import-threads"] == "true"


def test_workers_are_not_scheduled_as_batch_where_that_is_not_wanted():
    assert "batch" not in placeholders(render("vassal.ini", {"workers": {"batch": False}}))


def test_loader_knows_of_an_app_with_one_process_by_its_settings():
    assert "alone" not in placeholders(render("vassal.ini"))
    assert placeholders(render("vassal.ini", {"workers": {"processes": 1}}))["alone"] == "true"


def test_the_vassal_follows_the_plan():
    workers = {"processes": 6, "threads": 3, "minimum": 2, "max_requests": 1200, "max_lifetime_seconds": 600}
    found = ini(render("vassal.ini", {"workers": workers, "memory": {"worker_recycle": "200M"}}), "uwsgi")
    expected = {
        "processes": 6, "threads": 3, "cheaper": 2, "cheaper-algo": "busyness", "cheaper-overload": 1,
        "cheaper-step": 2, "cheaper-busyness-multiplier": 30, "max-requests": 700, "max-requests-delta": 100,
        "max-worker-lifetime": 350, "max-worker-lifetime-delta": 50, "min-worker-lifetime": 10,
    }  # fmt: skip
    assert {name: found.get(name) for name in expected} == {name: str(value) for name, value in expected.items()}


ENDS = {"minimum": {"minimum": 1}, "lifetime": {"max_lifetime_seconds": 600}}


@pytest.mark.parametrize("workers", ENDS.values(), ids=ENDS)
def test_worker_that_uwsgi_ends_gets_a_handler_for_all_its_threads(workers):
    text = render("vassal.ini", {"workers": workers})
    hook = f"unix_signal:{signal.SIGWINCH:d} gracefully_kill"
    assert hook in hooks(text)
    assert "RTLD_GLOBAL" in ini(text, "uwsgi")["hook-asap"]
    # The distribution's program shows its functions to everybody.
    distro = render("vassal.ini", {"workers": workers}, flask_apps_uwsgi_install="distro")
    assert "hook-asap" not in ini(distro, "uwsgi")
    assert hook in hooks(distro)


@pytest.mark.parametrize("workers", ["auto", {"max_requests": 9000}, {"threads": 1, "max_lifetime_seconds": 600}])
def test_no_signal_handler_is_changed_when_uwsgi_ends_no_workers(workers):
    text = render("vassal.ini", {"workers": workers})
    assert "hook-asap" not in ini(text, "uwsgi")
    assert not [hook for hook in hooks(text) if hook.startswith("unix_signal")]


# A fresh worker has 35 MiB: (200 - 35) / 6 is 27, the power of two below it 16.
@pytest.mark.parametrize(("processes", "delta"), [(1, "0"), (3, "16")])
def test_memory_limits_of_workers_are_staggered(processes, delta):
    app = {"workers": {"processes": processes}, "memory": {"worker_recycle": 200}, "max_request_seconds": 50}
    found = placeholders(render("vassal.ini", app))
    assert {name: found[f"recycle-{name}"] for name in ("megabytes", "delta", "seconds")} == {
        "megabytes": "200", "delta": delta, "seconds": "50"}  # fmt: skip


def test_trial_start_has_the_same_loader_without_the_watch():
    text = render("vassal.ini")
    kept = {name: value for name, value in placeholders(text).items() if not name.startswith("recycle-")}
    assert placeholders(Config.parse(text).trial("/run/emperor/shop").render()) == kept
    assert kept == {"batch": "true", "switch-interval": "0.002", "freeze": "true"}


def test_settings_that_are_not_set_give_no_option():
    found = ini(render("vassal.ini"), "uwsgi")
    assert not [name for name in found if name.startswith(("cheaper", "max-re", "max-worker"))]
    # Fixed in number when the least is all there are.
    assert "cheaper" not in ini(render("vassal.ini", {"workers": {"processes": 3, "minimum": 3}}), "uwsgi")


def test_every_worker_option_of_the_role_is_a_managed_option():
    workers = {"minimum": 2, "max_requests": 1200, "max_lifetime_seconds": 600}
    names = ini(render("vassal.ini", {"workers": workers}), "uwsgi")
    owned = [name for name in names if name.startswith(("cheaper", "max-re", "max-worker", "min-", "reload-on"))]
    assert set(owned) <= set(MANAGED_OPTIONS)


def test_shortest_worker_lifetime_is_longer_than_its_minimum():
    app = {"workers": {"processes": 30, "max_lifetime_seconds": 60}, "max_request_seconds": 1}
    found = ini(render("vassal.ini", app), "uwsgi")
    # Else uWSGI refuses to start.
    assert int(found["min-worker-lifetime"]) < int(found["max-worker-lifetime"])


def test_number_of_workers_follows_the_measured_size_of_the_release():
    large = {name: 20 * size for name, size in SIZE.items()}
    some, few = (ini(render("vassal.ini", __release_size=size), "uwsgi")["processes"] for size in (SIZE, large))
    assert int(some) > int(few)


@pytest.mark.parametrize(
    ("tried", "release", "expected"),
    [
        (False, RELEASE, {"release": RELEASE, "tried": "0123", "size": SIZE}),
        (False, "another", {"tried": "", "size": {"total": 1}}),  # of an earlier run, whose facts Ansible kept
        (True, RELEASE, {"tried": "", "size": {"total": 1}}),
    ],
)
def test_size_is_that_of_the_trial_start_of_this_release(tried, release, expected):
    plan = {"apps": {"shop": {**PLANNED, "tried": tried, "size": {"total": 1}}}, "machine": MACHINE}
    facts = {"flask_apps_trials": {"shop": {"release": release, "tried": "0123", "size": SIZE}}}
    assert value("__release_start", __flask_apps_plan=plan, ansible_facts=facts) == expected
    assert value("__release_start", __flask_apps_plan=plan)["size"] == {"total": 1}


def test_instance_is_asked_more_often_than_it_answers_at_a_time_but_not_too_often():
    def asked(**workers):
        return value("__release_instance.through", {"workers": workers})["at_once"]

    assert asked(processes=2, threads=3) == 7
    assert asked(processes=8, threads=8) == 16


def test_instance_is_told_how_each_worker_would_load_the_app_unless_that_is_set():
    found = value("__release_instance")
    assert ["lazy-apps", "true"] in [list(one) for one in found["lazily"]]
    assert ["lazy-apps", "true"] not in [list(one) for one in found["config"]["options"]]
    assert "lazily" not in value("__release_instance", {"workers": {"lazy_apps": False}})


def test_trial_start_is_the_same_for_every_plan():
    planned = [
        Config.of(value("__release_instance.config", {"workers": workers})).trial_digest()
        for workers in (
            "auto",
            {"processes": 3, "max_requests": 1000},
        )
    ]
    assert planned[0] == planned[1]


def test_vassal_is_strict_and_needs_its_app_and_its_master():
    found = ini(render("vassal.ini"), "uwsgi")
    for name in ("strict", "master", "need-app", "no-orphans", "die-on-term"):
        assert found[name] == "true"


def test_the_uwsgi_of_the_distribution_gets_its_plugin_and_the_virtualenv():
    text = render("vassal.ini", flask_apps_uwsgi_install="distro")
    assert ini(text, "launch")["binary"] == "/usr/bin/uwsgi-core"
    found = options(text)
    names = [name for section, name, _value in found if section == "uwsgi"]
    # Options of the plugin exist once it is loaded.
    assert names.index("need-plugin") < min(names.index(name) for name in ("virtualenv", "module", "py-sys-executable"))
    assert ini(text, "uwsgi")["virtualenv"] == "/srv/flask_apps/shop/releases/3f2a9c01d4e5/venv"
    assert "virtualenv" not in ini(render("vassal.ini"), "uwsgi")
    assert "need-plugin" not in ini(render("vassal.ini"), "uwsgi")


@pytest.mark.parametrize("mode", MODES)
def test_the_trial_start_of_a_vassal_touches_no_socket_of_the_real_one(mode):
    config = Config.of(value("__release_instance.config", {**FULL, "reload": mode}))
    text = config.trial("/run/emperor/shop").render()
    for name in ("app.sock", "holder.sock", "%n"):
        assert name not in re.sub("^;.*", "", text, flags=re.MULTILINE)
    found = ini(text, "uwsgi")
    assert (found["socket"], found["processes"]) == ("/run/emperor/shop/trial.sock", "1")
    assert "identifier" not in ini(text, "launch")


def test_settings_for_nginx_alone_leave_the_vassal_unchanged():
    # Any change of the vassal file restarts its processes.
    more = {"domains": ["a.example.com"], "max_body_size": "1g", "static": {"/s": "s"}, "health": {"path": "/h"}}
    assert render("vassal.ini", more, flask_apps_http_port=8080) == render("vassal.ini")


def test_another_app_leaves_the_vassal_unchanged():
    # On a host with plenty of memory; on another one it takes some of the memory into which this one may grow.
    assert render("vassal.ini", flask_apps=[SHOP]) == render("vassal.ini")
    assert render("vassal.ini", flask_apps=[SHOP, {**OTHER, "environment": {"A": "x"}}]) == render("vassal.ini")
