"""What the templates mean, rendered by Ansible's own Templar from the roles' own variables, without a host."""

import itertools
import json
import os
import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultLib, VaultSecret, VaultSecretsContext
from ansible.template import Templar, trust_as_template
from ansible_collections.flaskops.emperor.plugins.module_utils import exclusive
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.config import Config
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.relations import MARGIN
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.uwsgi_options import MANAGED_OPTIONS
from hypothesis import example, given, settings
from hypothesis import strategies as st

ROLES = Path(__file__).parents[2] / "roles"
SHOP = {"name": "shop", "app": "shop:create_app()", "source": {"path": "shop"}}
OTHER = {"name": "other", "app": "other:app", "source": {"path": "other"}, "domains": ["other.example.com"]}
RELEASE = "3f2a9c01d4e5"
MACHINE = {"cpus": 2, "memory": 8000, "ipv6": True, "limits": True, "nginx": [1, 26]}
PLAN = {"apps": {"shop": {"release": RELEASE}}, "redirected": [], "https": False}
SIZE = {"total": 40 << 20, "private": 10 << 20, "rss": 35 << 20}  # bytes


def variables(app, changes, loader):
    """Defaults and vars of all three roles, as a play with the three of them has them, for one app at work."""
    found = {}
    for kind in ("defaults", "vars"):
        for role in ("nginx", "uwsgi", "flask_apps"):
            found.update(loader.load_from_file(str(ROLES / role / kind / "main.yml"), trusted_as_template=True))
    found.update(
        ansible_search_path=[str(ROLES / role) for role in ("nginx", "uwsgi", "flask_apps")],
        flask_apps=[OTHER, {**SHOP, **app}],
        role_path=str(ROLES / "uwsgi"),
        __flask_apps_name="shop",
        __flask_apps_plan={**PLAN, "machine": MACHINE},
        __flask_apps_size=SIZE,
    )
    found.update(changes)
    return found


def value(expression, app=None, **changes):
    """What a variable or expression of the roles stands for."""
    loader = DataLoader()
    templar = Templar(loader=loader, variables=variables(app or {}, changes, loader))
    return templar.template(trust_as_template("{{ " + expression + " }}"))


def render(template, app=None, **changes):
    """A template as the roles render it; `vassal.ini` is no template, but rendered on the host from data."""
    if template == "vassal.ini":
        return Config.of(value("__flask_apps_config", app, **changes)).render()
    return str(value(f"lookup('ansible.builtin.template', '{template}')", app, **changes))


def options(text):
    """The lines of an ini file as (section, name, value), as strictly as uWSGI reads them."""
    found, section = [], ""
    for line in text.split("\n"):
        if line.startswith("["):
            section = line[1:-1]
        elif line and not line.startswith(";"):
            name, sign, value = line.partition(" = ")
            assert sign, f"not an option: {line!r}"
            found.append((section, name, value))
    return found


def ini(text, section):
    return {name: value for where, name, value in options(text) if where == section}


def hooks(text):
    """What a worker does when it was forked."""
    return [value for _section, name, value in options(text) if name == "hook-post-fork"]


def unit(text):
    """The settings of a unit, by section and name; most of those given twice would be two settings."""
    found: dict[tuple[str, str], str] = {}
    section = ""
    for line in text.split("\n"):
        if line.startswith("["):
            section = line
        elif line and not line.startswith("#"):
            name, sign, setting = line.partition("=")
            assert sign
            if name in ("ListenStream", "SystemCallFilter") and (section, name) in found:
                setting = found.pop((section, name)) + "\n" + setting
            assert (section, name) not in found
            found[section, name] = setting
    return found


def nginx(text):
    """nginx's configuration as nested lists: [words of a directive, ...] and, for a block, its content last."""
    tokens = re.findall(r'"[^"]*"|\'[^\']*\'|[^\s;{}"]+|[;{}]', re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE))
    stack: list[list[Any]] = [[]]
    words: list[Any] = []
    for token in tokens:
        if token == ";":
            stack[-1].append(words)
            words = []
        elif token == "{":
            block = [*words, []]
            stack[-1].append(block)
            stack.append(block[-1])
            words = []
        elif token == "}":
            assert not words, f"no semicolon after {words}"
            stack.pop()
        else:
            words.append(token)
    assert len(stack) == 1
    assert not words
    return stack[0]


def directives(block, *path):
    """The arguments of each directive of this name, below blocks of these names."""
    *outer, name = path
    for one in outer:
        block = next(found[-1] for found in block if " ".join(found[:-1]) == one)
    return [found[1:] for found in block if found[0] == name]


ALL = ["nginx.conf.j2", "site.conf.j2", "flask_apps.conf.j2", "emperor.ini.j2", "emperor.service.j2",
       "emperor@.service.j2", "emperor@.socket.j2", "emperor-memory-guard.service.j2", "sandbox.conf.j2"]  # fmt: skip
# The others: test_haproxy_template.py, and the programs themselves in the scenario insight.
ELSEWHERE = ["emperor-exporter.service.j2", "haproxy.cfg.j2", "prometheus.yml.j2"]
MODES = ["zerg", "chain", "graceful", "upstream"]
FULL = {
    "environment": {"A": "b"},
    "domains": ["shop.example.com"],
    "static": {"/static": "shop/static", "/media/v1": "media"},
    "uwsgi": {"offload-threads": 2, "mime-file": ["/a", "/b"]},
}


# --- all of them


def test_every_template_is_looked_at():
    assert sorted(path.name for path in ROLES.glob("*/templates/*")) == sorted([*ALL, *ELSEWHERE])


@pytest.mark.parametrize("template", ALL)
@pytest.mark.parametrize("app", [{}, FULL, *({"reload": mode} for mode in MODES)])
def test_nothing_of_jinja_is_left_and_nothing_undefined(template, app):
    text = render(template, app)
    assert not re.search(r"\{\{|\}\}|\{%|%\}|\{#|None|True|False|Undefined", text)
    assert text.endswith("\n")
    assert not re.search(r"[ \t]$", text.split("anaged", 1)[1].split("\n", 2)[2], re.MULTILINE)


@pytest.mark.parametrize("template", ALL)
def test_a_person_is_told_who_writes_the_file_but_not_when(template):
    text = render(template)
    assert "Ansible managed" in "\n".join(text.split("\n")[:3])
    assert text == render(template)
    assert not re.search(r"20\d\d-\d\d|\d\d:\d\d:\d\d", text)


@pytest.mark.parametrize("template", ["vassal.ini", "emperor.ini.j2"])
def test_every_comment_of_an_ini_file_is_one_to_uwsgi_and_to_the_wrapper(template):
    assert not [line for line in render(template).split("\n") if line.startswith("#")]


# --- time limits


@settings(max_examples=10)  # each renders four templates
@given(seconds=st.integers(1, 3600), other=st.integers(1, 3600))
@example(seconds=1, other=1)
@example(seconds=60, other=1)
@example(seconds=61, other=1)
@example(seconds=3600, other=3600)
def test_each_time_limit_ends_what_the_one_before_it_could_not(seconds, other):
    # By the defaults: the roles uwsgi and flask_apps read the same list of apps.
    app = {"max_request_seconds": seconds}
    apps = {"flask_apps": [{**OTHER, "max_request_seconds": other}, {**SHOP, **app}]}
    own = ini(render("vassal.ini", app, **apps), "uwsgi")
    site = nginx(render("site.conf.j2", app, **apps))
    emperor = ini(render("emperor.ini.j2", app, **apps), "uwsgi")
    service = unit(render("emperor.service.j2", app, **apps))

    harakiri, mercy = int(own["harakiri"]), int(own["worker-reload-mercy"])
    tolerance, stop = int(emperor["emperor-curse-tolerance"]), int(service["[Service]", "TimeoutStopSec"])
    assert seconds < harakiri <= seconds + 1
    assert harakiri < mercy < tolerance < stop
    for name in ("uwsgi_read_timeout", "uwsgi_send_timeout"):
        assert directives(site, "server", name) == [[f"{mercy}s"]]
    assert mercy < int(emperor["reload-mercy"]) < stop


def test_a_limit_set_by_hand_that_passes_the_roles_check_keeps_the_order_too():
    stop = 60 + MARGIN  # the least
    emperor = ini(render("emperor.ini.j2", uwsgi_stop_timeout_seconds=stop), "uwsgi")
    assert int(ini(render("vassal.ini"), "uwsgi")["worker-reload-mercy"]) < int(emperor["emperor-curse-tolerance"])
    assert unit(render("emperor.service.j2", uwsgi_stop_timeout_seconds=stop))["[Service]", "TimeoutStopSec"] == str(
        stop
    )


def test_without_apps_the_emperor_has_time_limits_too():
    assert value("uwsgi_stop_timeout_seconds", flask_apps=[]) == 90
    assert value("uwsgi_stop_timeout_seconds", flask_apps=[{"name": "old", "state": "absent"}]) == 90


def test_the_defaults_pass_the_roles_own_check():
    assert value("__flask_apps_app.max_request_seconds") + MARGIN <= value("uwsgi_stop_timeout_seconds")


# --- the vassal


def test_the_vassal_has_its_sections_in_the_order_in_which_they_are_added_to():
    sections = re.findall(r"^\[(.*)\]$", render("vassal.ini", FULL), re.MULTILINE)
    assert sections == ["launch", "uwsgi"]
    config = Config.of(value("__flask_apps_config", FULL))
    assert options(config.render())[-1] == ("uwsgi", "add-header", f"X-Vassal: {config.generation}")


def test_the_apps_own_options_come_after_the_roles_and_repeat():
    names = [name for section, name, _value in options(render("vassal.ini", FULL)) if section == "uwsgi"][:-1]
    assert names[-3:] == ["mime-file", "mime-file", "offload-threads"]
    without = [name for section, name, _value in options(render("vassal.ini")) if section == "uwsgi"][:-1]
    assert names[:-3] == without


def test_the_vassal_runs_the_release_at_work():
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


def test_in_a_chain_nothing_names_the_release_so_that_the_file_stays_the_same():
    text = render("vassal.ini", {"reload": "chain"})
    assert RELEASE not in text
    assert text == render(
        "vassal.ini",
        {"reload": "chain"},
        __flask_apps_plan={"apps": {"shop": {"release": "0" * 12}}, "machine": MACHINE},
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


def test_every_release_of_a_run_is_tried_before_the_first_app_is_switched():
    def tasks(file):
        text = (ROLES / "flask_apps/tasks" / file).read_text()
        return re.findall(r"include_tasks:\s+(?:file: \"{{ ')?([\w.]+)", text)

    assert tasks("change.yml") == [
        "target.yml",
        "tools.yml",
        "certificates.yml",
        "build.yml",
        "absent.yml",
        "batch.yml",
    ]
    assert tasks("batch.yml") == ["switch.yml"]
    assert "trial.yml" in (ROLES / "flask_apps/tasks/build.yml").read_text()
    assert "switch.yml" not in (ROLES / "flask_apps/tasks/build.yml").read_text()
    assert "apply.yml" in (ROLES / "flask_apps/tasks/rollback.yml").read_text()


@pytest.mark.parametrize("mode", ["zerg", "chain", "graceful"])
def test_clients_come_to_the_socket_that_systemd_holds(mode):
    text = render("vassal.ini", {"reload": mode})
    held = unit(render("emperor@.socket.j2"))["[Socket]", "ListenStream"].replace("%i", "shop").split("\n")
    assert {ini(text, "launch")["socket"], ini(text, "launch")["holder"]} < set(held)
    assert ini(text, "launch")["socket"] == "/run/emperor-sockets/shop/app.sock"


def test_systemd_holds_all_that_the_holder_hands_out():
    held = unit(render("emperor@.socket.j2"))["[Socket]", "ListenStream"].replace("%i", "shop").split("\n")
    handed_out = runpy.run_path(str(ROLES / "uwsgi/files/socket_holder.py"))["HANDED_OUT"]
    assert {os.path.basename(one) for one in held} == {*handed_out, *itertools.chain(*handed_out.values())}
    assert {os.path.dirname(one) for one in held} == {"/run/emperor-sockets/shop"}


def test_in_the_mode_upstream_clients_come_to_the_socket_of_the_slot():
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


def test_going_over_to_another_mode_with_the_same_sockets_changes_no_file():
    assert render("vassal.ini", {"reload": "graceful"}) == render("vassal.ini", {"reload": "zerg"})


@pytest.mark.parametrize("mode", MODES)
def test_workers_load_the_app_themselves_where_it_is_wanted(mode):
    text = render("vassal.ini", {"reload": mode, "workers": {"lazy_apps": True}})
    assert ini(text, "uwsgi")["lazy-apps"] == "true"


def test_what_was_loaded_before_the_fork_stays_shared_and_only_that():
    assert placeholders(render("vassal.ini"))["freeze"] == "true"
    for app in ({"reload": "chain"}, {"workers": {"lazy_apps": True}}):
        assert "freeze" not in placeholders(render("vassal.ini", app))


def test_threads_of_the_import_are_accepted_when_the_app_says_so():
    assert "import-threads" not in placeholders(render("vassal.ini"))
    assert placeholders(render("vassal.ini", {"workers": {"import_threads": True}}))["import-threads"] == "true"


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
def test_a_worker_that_is_to_end_ends_all_its_threads(workers):
    text = render("vassal.ini", {"workers": workers})
    hook = f"unix_signal:{signal.SIGWINCH:d} gracefully_kill"
    assert hook in hooks(text)
    assert "RTLD_GLOBAL" in ini(text, "uwsgi")["hook-asap"]
    # The distribution's program shows its functions to everybody.
    distro = render("vassal.ini", {"workers": workers}, flask_apps_uwsgi_install="distro")
    assert "hook-asap" not in ini(distro, "uwsgi")
    assert hook in hooks(distro)


@pytest.mark.parametrize("workers", ["auto", {"max_requests": 9000}, {"threads": 1, "max_lifetime_seconds": 600}])
def test_where_no_thread_has_to_be_woken_no_handler_is_changed(workers):
    text = render("vassal.ini", {"workers": workers})
    assert "hook-asap" not in ini(text, "uwsgi")
    assert not [hook for hook in hooks(text) if hook.startswith("unix_signal")]


def placeholders(text):
    """What the loader of the app finds in the vassal file."""
    found = [value.partition("=") for _section, name, value in options(text) if name == "set-placeholder"]
    return {name.removeprefix("emperor-"): value for name, _sign, value in found}


# A fresh worker has 35 MiB: (200 - 35) / 6 is 27, the power of two below it 16.
@pytest.mark.parametrize(("processes", "delta"), [(1, "0"), (3, "16")])
def test_each_worker_watches_its_memory_with_a_limit_of_its_own(processes, delta):
    app = {"workers": {"processes": processes}, "memory": {"worker_recycle": 200}, "max_request_seconds": 50}
    found = placeholders(render("vassal.ini", app))
    assert {name: found[f"recycle-{name}"] for name in ("megabytes", "delta", "seconds")} == {
        "megabytes": "200", "delta": delta, "seconds": "50"}  # fmt: skip


def test_trial_start_has_the_same_loader_without_the_watch():
    text = render("vassal.ini")
    kept = {name: value for name, value in placeholders(text).items() if not name.startswith("recycle-")}
    assert placeholders(Config.parse(text).trial("/run/emperor/shop").render()) == kept
    assert kept == {"switch-interval": "0.002", "freeze": "true"}


def test_what_is_not_wanted_is_no_option():
    found = ini(render("vassal.ini"), "uwsgi")
    assert not [name for name in found if name.startswith(("cheaper", "max-"))]
    # Fixed in number when the least is all there are.
    assert "cheaper" not in ini(render("vassal.ini", {"workers": {"processes": 3, "minimum": 3}}), "uwsgi")


def test_whatever_the_role_sets_about_workers_is_an_option_of_its_own():
    workers = {"minimum": 2, "max_requests": 1200, "max_lifetime_seconds": 600}
    names = ini(render("vassal.ini", {"workers": workers}), "uwsgi")
    owned = [name for name in names if name.startswith(("cheaper", "max-", "min-", "reload-on"))]
    assert set(owned) <= set(MANAGED_OPTIONS)


def test_the_shortest_lifetime_is_longer_than_the_least():
    app = {"workers": {"processes": 30, "max_lifetime_seconds": 60}, "max_request_seconds": 1}
    found = ini(render("vassal.ini", app), "uwsgi")
    # Else uWSGI refuses to start.
    assert int(found["min-worker-lifetime"]) < int(found["max-worker-lifetime"])


def test_the_plan_follows_the_size_of_the_release_at_work():
    assert "a fresh worker of 35 MiB" in value("__flask_apps_workers.why")
    assert "until it is measured" in value("__flask_apps_workers.why", __flask_apps_size={})


def test_the_trial_start_of_any_plan_is_the_same():
    planned = [
        Config.of(value("__flask_apps_config", {"workers": workers})).trial_digest()
        for workers in (
            "auto",
            {"processes": 3, "max_requests": 1000},
        )
    ]
    assert planned[0] == planned[1]


def test_a_broken_app_an_unknown_option_and_an_orphan_are_no_running_vassal():
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
    config = Config.of(value("__flask_apps_config", {**FULL, "reload": mode}))
    text = config.trial("/run/emperor/shop").render()
    for name in ("app.sock", "holder.sock", "%n"):
        assert name not in re.sub("^;.*", "", text, flags=re.MULTILINE)
    found = ini(text, "uwsgi")
    assert (found["socket"], found["processes"]) == ("/run/emperor/shop/trial.sock", "1")
    assert "identifier" not in ini(text, "launch")


def test_what_only_nginx_needs_does_not_reload_the_app():
    # Any change of the vassal file restarts its processes.
    more = {"domains": ["a.example.com"], "max_body_size": "1g", "static": {"/s": "s"}, "health": {"path": "/h"}}
    assert render("vassal.ini", more, flask_apps_http_port=8080) == render("vassal.ini")


def test_another_app_does_not_reload_this_one():
    # On a host with plenty of memory; on another one it takes some of the memory into which this one may grow.
    assert render("vassal.ini", flask_apps=[SHOP]) == render("vassal.ini")
    assert render("vassal.ini", flask_apps=[SHOP, {**OTHER, "environment": {"A": "x"}}]) == render("vassal.ini")


# --- the environment


def test_the_roles_own_variables_win_and_the_apps_win_over_the_rest():
    environment = json.loads(
        ini(render("vassal.ini", {"environment": {"LANG": "de_DE.UTF-8", "N": 1}}), "launch")["environment"]
    )
    release = "/srv/flask_apps/shop/releases/3f2a9c01d4e5"
    assert environment == {
        "N": "1",
        "LANG": "de_DE.UTF-8",
        "PATH": f"{release}/venv/bin:/usr/local/bin:/usr/bin:/bin",
        "HOME": "/srv/flask_apps/shop/shared",
        "USER": "shop",
        "LOGNAME": "shop",
        "VIRTUAL_ENV": f"{release}/venv",
        "RELEASE_ID": "3f2a9c01d4e5",
        "EMPEROR_APP": "shop:create_app()",
    }


def test_in_a_chain_the_environment_leads_through_the_link_and_tells_the_loader_what_to_load():
    text = render("vassal.ini", {"reload": "chain", "environment": {"PATH": "/opt", "A": "b"}})
    environment = json.loads(ini(text, "launch")["environment"])
    serving = "/srv/flask_apps/shop/serving"
    assert environment == {
        "A": "b",
        "LANG": "C.UTF-8",
        "PATH": "/opt",
        "HOME": "/srv/flask_apps/shop/shared",
        "USER": "shop",
        "LOGNAME": "shop",
        "VIRTUAL_ENV": f"{serving}/venv",
        "EMPEROR_SERVING": serving,
        "EMPEROR_APP": "shop:create_app()",
    }
    own = json.loads(ini(render("vassal.ini", {"reload": "chain"}), "launch")["environment"])
    assert own["PATH"] == f"{serving}/venv/bin:/usr/local/bin:/usr/bin:/bin"


@pytest.mark.parametrize("mode", ["zerg", "graceful", "upstream"])
def test_except_in_a_chain_there_is_no_link(mode):
    environment = json.loads(ini(render("vassal.ini", {"reload": mode}), "launch")["environment"])
    assert environment["RELEASE_ID"] == RELEASE
    assert [name for name in environment if name.startswith("EMPEROR")] == ["EMPEROR_APP"]


VALUES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])) | st.binary().map(
    lambda raw: raw.replace(b"\0", b"").decode("utf-8", "surrogateescape")
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A root of apps where the release has a uWSGI that only writes down its environment."""
    root = tmp_path_factory.mktemp("root")
    binary = root / "shop/releases/3f2a9c01d4e5/venv/bin/uwsgi"
    binary.parent.mkdir(parents=True)
    binary.write_text(f'#!/bin/sh\ncat "/proc/$$/environ" > "{root}/environment"\n')
    binary.chmod(0o755)
    return root


def through_the_chain(root, environment):
    """From the list of the user through filter, template, module and wrapper to the bytes a process has."""
    data = value("__flask_apps_config", {"environment": environment}, flask_apps_root=str(root))
    content = Config.of(data).trial(str(root)).render()
    (root / "shop.ini").write_text(content, encoding="utf-8", errors="surrogateescape")
    wrapper = ROLES / "uwsgi/files/emperor_wrapper.py"
    subprocess.run([sys.executable, "-IS", str(wrapper), "--ini", str(root / "shop.ini")], env={}, check=True)
    pairs = (root / "environment").read_bytes().split(b"\0")[:-1]
    return dict(pair.split(b"=", 1) for pair in pairs)


@settings(max_examples=20)  # each with many values, two processes and all of the Templar
@given(values=st.lists(VALUES, min_size=1, max_size=30))
def test_every_value_goes_from_the_list_into_the_process_byte_for_byte(root, values):
    wanted = {f"V{number}": value for number, value in enumerate(values)}
    found = through_the_chain(root, wanted)
    assert {name: found[os.fsencode(name)] for name in wanted} == {
        name: os.fsencode(one) for name, one in wanted.items()
    }


def test_values_that_look_like_templates_are_left_alone(root):
    wanted = {"A": "{{ 7 * 7 }}", "B": "{% raw %}", "C": "%(a)s $(id) @(f)", "D": "line\nline", "E": "'\"\\"}
    found = through_the_chain(root, wanted)
    assert {name: found[name.encode()].decode() for name in wanted} == wanted


@pytest.fixture
def password():
    """A vault password, as ansible-playbook has it after asking for it."""
    secrets = [("default", VaultSecret(b"password"))]
    VaultSecretsContext.initialize(VaultSecretsContext(secrets))
    yield secrets[0][1]
    VaultSecretsContext._current = None


def test_values_from_a_vault_arrive_in_the_clear(tmp_path, password):
    encrypted = VaultLib().encrypt("s3cret %(x)s", password).decode()
    lines = ["vault_key: !vault |", *(f"  {line}" for line in encrypted.splitlines())]
    lines += [
        "there:",
        '  NAMED: "{{ vault_key }}"',
        "  INLINE: !vault |",
        *(f"    {line}" for line in encrypted.splitlines()),
    ]
    (tmp_path / "vars.yml").write_text("\n".join(lines) + "\n")
    changes = DataLoader().load_from_file(str(tmp_path / "vars.yml"), trusted_as_template=True)
    text = render("vassal.ini", {"environment": changes["there"]}, **changes)
    environment = json.loads(ini(text, "launch")["environment"])
    assert environment["NAMED"] == environment["INLINE"] == "s3cret %(x)s"


# --- the site


def test_the_default_server_is_exactly_the_app_without_domains():
    listens = directives(nginx(render("site.conf.j2")), "server", "listen")
    assert listens == [["80", "default_server"], ["[::]:80", "default_server"]]
    assert directives(nginx(render("site.conf.j2")), "server", "server_name") == [["_"]]
    app = {"domains": ["a.example.com", "*.b.example.com"]}
    assert directives(nginx(render("site.conf.j2", app)), "server", "listen") == [["80"], ["[::]:80"]]
    assert directives(nginx(render("site.conf.j2", app)), "server", "server_name") == [app["domains"]]


def test_a_host_without_ipv6_listens_without_it():
    # nginx would not start there with such an address.
    text = render(
        "site.conf.j2", __flask_apps_plan={**PLAN, "machine": {**MACHINE, "ipv6": False}}, flask_apps_http_port=8080
    )
    assert directives(nginx(text), "server", "listen") == [["8080", "default_server"]]


@pytest.mark.parametrize("mode", MODES)
def test_nginx_asks_whatever_the_link_leads_to_and_once_more_the_held_socket(mode):
    site = nginx(render("site.conf.j2", {"reload": mode}))
    # With the default of max_fails one failure would turn the clients of ten seconds away.
    held = ini(render("vassal.ini", {"reload": mode}), "launch")["socket"]
    wanted = [["unix:/srv/flask_apps/shop/upstream.sock", "max_fails=0"], [f"unix:{held}", "max_fails=0", "backup"]]
    assert directives(site, "upstream flask_apps_shop", "server") == wanted
    assert len(site[0][-1]) == 2
    assert directives(site, "server", "location /", "uwsgi_pass") == [["flask_apps_shop"]]
    # Given twice, one would win by chance: the parameters are all here, and none from the distribution's file.
    names = [name for name, *_rest in directives(site, "server", "uwsgi_param")]
    assert len(names) == len(set(names)) > 20
    assert directives(site, "server", "location /", "include") == []


def test_no_change_of_the_mode_changes_the_site():
    assert len({render("site.conf.j2", {"reload": mode}) for mode in MODES}) == 1


def test_a_request_is_asked_again_only_when_no_answer_came():
    # Not after a timeout, which the worker may still be busy with, and nothing that may have had an effect.
    site = nginx(render("site.conf.j2"))
    assert directives(site, "server", "uwsgi_next_upstream") == [["error"]]
    assert directives(site, "server", "uwsgi_next_upstream_tries") == []


def test_request_that_no_instance_took_gets_retry_after():
    site = nginx(render("site.conf.j2"))
    assert ["502", "=", "@unanswered"] in directives(site, "server", "error_page")
    (unanswered,) = [found[-1] for found in site[1][-1] if found[:2] == ["location", "@unanswered"]]
    assert ["add_header", "Retry-After", "$flask_apps_retry_after", "always"] in unanswered
    assert unanswered[-2:] == [
        ["if", "($flask_apps_taken)", [["return", "502", "$flask_apps_error_502"]]],
        ["return", "503", "$flask_apps_error_503"],
    ]
    shared = nginx(render("flask_apps.conf.j2"))
    taken, again = [found for found in shared if len(found) > 2 and ("retry" in found[2] or "taken" in found[2])]
    assert taken[:3] == ["map", "$upstream_connect_time", "$flask_apps_taken"]
    assert taken[3] == [["default", '""'], ['"~[0-9]"', "yes"]]
    assert again[:3] == ["map", "$flask_apps_taken", "$flask_apps_retry_after"]
    assert again[3] == [["default", '""'], ['""', "2"]]


def test_a_host_name_that_no_app_has_is_misdirected_by_the_first_server():
    shared = nginx(render("flask_apps.conf.j2"))
    assert directives(shared, "server", "location /", "return") == [["421"]]
    assert directives(shared, "server", "listen") == [["80"], ["[::]:80"]]  # not default_server: another one may be it
    # nginx reads a request by these settings of its default server.
    site = nginx(render("site.conf.j2"))
    for name in ("merge_slashes", "client_header_buffer_size", "large_client_header_buffers", "lingering_close"):
        assert directives(shared, "server", name) == directives(site, "server", name) != []


TLS = {"domains": ["shop.example.com"], "tls": {"mode": "acme", "hsts_seconds": 300}}


def planned(nginx_version=(1, 26), redirected=("shop",), **machine):
    """What the templates know of a host that serves the shop by HTTPS."""
    machine = {**MACHINE, "nginx": list(nginx_version), **machine}
    return {**PLAN, "machine": machine, "redirected": list(redirected), "https": True}


def servers(text):
    return [block[-1] for block in nginx(text) if block[0] == "server"]


@pytest.mark.parametrize(
    ("version", "parameters", "directive"),
    [((1, 22), ["ssl", "http2"], []), ((1, 26), ["ssl"], [["on"]]), ((), ["ssl"], [["on"]])],
)
def test_http_2_is_written_as_each_nginx_reads_it(version, parameters, directive):
    for template in ("site.conf.j2", "flask_apps.conf.j2"):
        (server, *_redirect) = servers(render(template, TLS, __flask_apps_plan=planned(version)))
        listen = [one for one in directives(server, "listen") if "ssl" in one]
        assert listen == [["443", *parameters], ["[::]:443", *parameters]]
        assert directives(server, "http2") == directive


def test_site_with_a_certificate_is_served_by_https_and_http_is_redirected_except_for_the_ca():
    server, redirect = servers(render("site.conf.j2", TLS, __flask_apps_plan=planned()))
    assert directives(server, "listen") == [["443", "ssl"], ["[::]:443", "ssl"]]
    assert directives(server, "ssl_certificate") == directives(server, "ssl_certificate_key") != []
    assert directives(redirect, "listen") == [["80"], ["[::]:80"]]
    assert directives(redirect, "server_name") == directives(server, "server_name") == [["shop.example.com"]]
    assert directives(redirect, "include") == [["certificates/*.location"]]
    assert directives(redirect, "location /", "return") == [["308", "https://$host$request_uri"]]
    # A request that is too large for the app is not told so before, but by the app's own server.
    for name in ("client_max_body_size", "large_client_header_buffers"):
        assert directives(redirect, name) == directives(server, name) != []


def test_redirect_names_a_port_that_is_not_the_usual_one():
    _server, redirect = servers(render("site.conf.j2", TLS, __flask_apps_plan=planned(), flask_apps_https_port=8443))
    assert directives(redirect, "location /", "return") == [["308", "https://$host:8443$request_uri"]]


def test_site_without_a_certificate_of_the_ca_yet_is_served_both_ways_and_promises_nothing():
    (server,) = servers(render("site.conf.j2", TLS, __flask_apps_plan=planned(redirected=())))
    assert [one[0] for one in directives(server, "listen")] == ["80", "[::]:80", "443", "[::]:443"]
    assert directives(server, "include") == [["certificates/*.location"]]
    assert "Strict-Transport-Security" not in str(server)


def test_site_by_http_has_no_word_of_tls():
    (server,) = servers(render("site.conf.j2"))
    assert [one[0] for one in directives(server, "listen")] == ["80", "[::]:80"]
    assert not re.search("ssl|443|Strict-Transport", render("site.conf.j2"))
    assert not re.search("ssl|443", render("flask_apps.conf.j2"))


def test_hsts_is_sent_wherever_a_location_has_headers_of_its_own_and_not_by_the_app():
    app = {**TLS, "static": {"/s": {"directory": "s", "max_age": 9}}, "media": {"/m": "m"}}
    server, redirect = servers(render("site.conf.j2", app, __flask_apps_plan=planned()))
    places = [server, *(one[-1] for one in server if one[0] == "location" and directives(one[-1], "add_header"))]
    assert len(places) == 8
    for place in places:
        assert ["Strict-Transport-Security", '"max-age=300"', "always"] in directives(place, "add_header")
    assert ["Strict-Transport-Security"] in directives(server, "uwsgi_hide_header")
    assert "Strict-Transport-Security" not in str(redirect)


def test_handshake_for_a_name_that_no_app_has_is_refused_by_the_first_server():
    (server,) = servers(render("flask_apps.conf.j2", TLS, __flask_apps_plan=planned()))
    assert directives(server, "ssl_reject_handshake") == [["on"]]


def test_tls_is_mozillas_intermediate():
    (http,) = [block[-1] for block in nginx(render("nginx.conf.j2")) if block[0] == "http"]
    assert directives(http, "ssl_protocols") == [["TLSv1.2", "TLSv1.3"]]
    assert directives(http, "ssl_session_tickets") == directives(http, "ssl_prefer_server_ciphers") == [["off"]]
    ((ciphers,),) = directives(http, "ssl_ciphers")
    assert all(re.fullmatch("ECDHE-(ECDSA|RSA)-(AES(128|256)-GCM|CHACHA20).*", one) for one in ciphers.split(":"))
    assert directives(http, "ssl_stapling") == []


@pytest.mark.parametrize("trusted", [[], ["192.0.2.1", "10.0.0.0/8"]])
def test_only_trusted_proxies_are_believed(trusted):
    shared = nginx(render("flask_apps.conf.j2", flask_apps_trusted_proxies=trusted))
    (known,) = [found[-1] for found in shared if found[:2] == ["geo", "$realip_remote_addr"]]
    assert known == [["default", "0"], *([address, "1"] for address in trusted)]
    assert directives(shared, "set_real_ip_from") == [[address] for address in trusted]
    assert bool(directives(shared, "real_ip_header")) is bool(trusted)


def test_the_size_of_a_body_is_the_apps():
    assert directives(nginx(render("site.conf.j2", {"max_body_size": "1g"})), "server", "client_max_body_size") == [
        ["1g"]
    ]


@pytest.mark.parametrize("keep", [1, 5])
def test_a_static_file_is_looked_for_in_every_release_that_may_be_there(keep):
    # Two more than are kept: the new release is there before an old one goes, and one link to move the others by.
    site = nginx(render("site.conf.j2", FULL, flask_apps_keep_releases=keep))
    for prefix in ("/static/", "/media/v1/"):
        assert directives(site, "server", f"location {prefix}", "root") == [["/srv/flask_apps/shop/static"]]
        (tried,) = directives(site, "server", f"location {prefix}", "try_files")
        assert tried == [*(f"/{slot}$uri" for slot in range(keep + 2)), "=404"]


def test_clients_are_not_told_which_instance_answers():
    site = nginx(render("site.conf.j2"))
    assert ["X-Vassal"] in directives(site, "server", "uwsgi_hide_header")
    ((_name, told, always),) = [found for found in directives(site, "server", "add_header") if found[0] == "X-Vassal"]
    assert always == "always"
    shared = nginx(render("flask_apps.conf.j2"))
    assert directives(shared, f"map $remote_addr {told}", "default") == [['""']]
    known = [found[0] for found in shared[0][-1]]
    assert known == ["default", "127.0.0.1", "::1"]
    assert directives(shared, f"map $remote_addr {told}", "127.0.0.1") == [["$upstream_http_x_vassal"]]


def test_what_the_site_refers_to_is_there():
    features = {
        "limits": {"requests_per_second": 5, "connections": 3},
        "domains": ["a.test"],
        "redirect_domains": ["b.test"],
    }
    text, shared = render("site.conf.j2", features), render("flask_apps.conf.j2")
    pages = set(re.findall(r"error_page \d+ (?:=\d* )?(@\w+)", text))
    assert pages == set(re.findall(r"location (@\w+)", text))
    for name in set(re.findall(r"\$flask_apps_\w+", text)):
        assert re.search(rf"^map \S+ \{name} |^geo \S+ \{name} ", shared, re.MULTILINE), name
    for zone in set(re.findall(r"limit_(?:conn|req) (?:zone=)?(\w+)", text)):
        assert f"zone={zone}:" in text + shared


def test_limits_that_are_not_set_are_not_there():
    site, shared = render("site.conf.j2"), render("flask_apps.conf.j2", flask_apps_requests_per_client=0)
    assert "limit_" not in site
    assert not re.search("^limit_conn ", shared, re.MULTILINE)
    assert "limit_conn flask_apps_clients 1024;" in render("flask_apps.conf.j2")
    # A limit of the app's own replaces that of the host, which must be said again.
    assert render("site.conf.j2", {"limits": {"connections": 3}}).count("limit_conn ") == 2


def test_only_streams_are_sent_piece_by_piece():
    site = nginx(render("site.conf.j2", {"streaming": ["/events"]}))
    for path, buffering in (("/", []), ("= /events", [["off"]]), ("/events/", [["off"]])):
        assert directives(site, "server", f"location {path}", "uwsgi_buffering") == buffering
        assert directives(site, "server", f"location {path}", "uwsgi_pass") == [["flask_apps_shop"]]


# --- nginx


def test_nginx_includes_by_relative_paths_so_that_a_copy_can_be_tested():
    main = nginx(render("nginx.conf.j2"))
    includes = [*directives(main, "include"), *directives(main, "http", "include")]
    assert includes == [["modules-enabled/*.conf"], ["mime.types"], ["conf.d/*.conf"], ["sites-enabled/*"]]


def test_nginx_loads_modules_before_it_uses_them():
    names = [found[0] for found in nginx(render("nginx.conf.j2"))]
    assert names.index("include") < names.index("events") < names.index("http")


@pytest.mark.parametrize(
    ("changes", "name", "arguments"),
    [
        ({"nginx_server_tokens": True}, "server_tokens", [["on"]]),
        ({}, "server_tokens", [["off"]]),
        ({}, "gzip", [["on"]]),
        ({"nginx_gzip": False}, "gzip", []),
        ({"nginx_gzip": False}, "gzip_types", []),
        ({"nginx_access_log": "off"}, "access_log", [["off"]]),
        ({"nginx_keepalive_seconds": 7}, "keepalive_timeout", [["7"]]),
    ],
)
def test_settings_of_the_role_reach_nginx(changes, name, arguments):
    assert directives(nginx(render("nginx.conf.j2", **changes)), "http", name) == arguments


def test_nginx_has_two_files_for_every_connection():
    main = nginx(render("nginx.conf.j2"))
    ((files,),) = directives(main, "worker_rlimit_nofile")
    ((connections,),) = directives(main, "events", "worker_connections")
    assert int(files) >= 2 * int(connections)


# --- the Emperor


def test_the_emperor_finds_vassals_by_a_pattern_and_runs_each_as_its_owner():
    found = ini(render("emperor.ini.j2"), "uwsgi")
    assert found["emperor"] == "/etc/emperor/vassals/*.ini"
    assert found["emperor-wrapper"] == "/usr/local/libexec/emperor-wrapper"
    for name in ("strict", "emperor-tyrant", "emperor-graceful-shutdown", "die-on-term"):
        assert found[name] == "true"


def test_the_emperor_looks_where_the_apps_are_written():
    assert value("__flask_apps_vassals ~ '/*.ini'") == ini(render("emperor.ini.j2"), "uwsgi")["emperor"]
    assert value("__flask_apps_run == __uwsgi_run") is True


# --- the held sockets


@pytest.mark.parametrize("backlog", [128, 1024, 8192])
def test_the_queue_is_as_long_as_the_kernel_lets_it_be(backlog):
    unit_ = unit(render("emperor@.socket.j2", uwsgi_listen_backlog=backlog))
    own = ini(render("vassal.ini", uwsgi_listen_backlog=backlog), "uwsgi")
    assert int(unit_["[Socket]", "Backlog"]) == int(own["listen"]) == backlog
    files = {one["path"]: one for one in value("__uwsgi_files", uwsgi_listen_backlog=backlog)}
    # Else the kernel would cut the queue without a word, and uWSGI would not start. The host's own default is 4096.
    text = files[value("__uwsgi_sysctl")]["content"]
    assert text.splitlines()[1:] == [f"net.core.somaxconn = {max(backlog, 4096)}"]


def test_the_held_sockets_are_the_apps_and_open_to_nginx():
    held = unit(render("emperor@.socket.j2", uwsgi_web_group="web"))
    assert held["[Socket]", "SocketUser"] == "%i"
    assert held["[Socket]", "SocketGroup"] == "web"
    assert held["[Socket]", "SocketMode"] == "0660"
    assert held["[Socket]", "TriggerLimitIntervalSec"] == "0"
    assert held["[Install]", "WantedBy"] == "sockets.target"
    # Without Accept=yes one holder gets both; it would not find its sockets else.
    assert ("[Socket]", "Accept") not in held


def test_the_memory_guard_gets_its_settings_and_may_do_next_to_nothing():
    service = unit(render("emperor-memory-guard.service.j2", uwsgi_web_group="web"))
    # systemd reads %% as %.
    assert service["[Service]", "ExecStart"] == (
        "/usr/local/libexec/emperor-memory-guard --floor=5%% --interval=2 --vassals=/etc/emperor/vassals "
        f"--run=/run/emperor --lock={exclusive.PATH}"
    )
    wanted = {
        "Restart": "always",
        "DynamicUser": "yes",
        "SupplementaryGroups": "web",
        "CapabilityBoundingSet": "CAP_KILL",
        "AmbientCapabilities": "CAP_KILL",
        "RestrictAddressFamilies": "AF_UNIX",
        "SystemCallFilter": "@system-service\n~@privileged @resources",
    }
    assert {name: service["[Service]", name] for name in wanted} == wanted


def test_the_holder_is_started_again_for_ever_and_may_do_next_to_nothing():
    service = unit(render("emperor@.service.j2"))
    assert service["[Service]", "ExecStart"] == value("__uwsgi_holder")
    assert service["[Service]", "Restart"] == "always"
    assert service["[Unit]", "StartLimitIntervalSec"] == "0"
    wanted = {
        "DynamicUser": "yes",
        "CapabilityBoundingSet": "",
        "PrivateNetwork": "yes",
        "PrivateDevices": "yes",
        "ProtectProc": "invisible",
        "RestrictAddressFamilies": "AF_UNIX",
        "RestrictNamespaces": "yes",
        "MemoryDenyWriteExecute": "yes",
        "SystemCallFilter": "@system-service\n~@privileged @resources",
    }
    assert {name: service.get(("[Service]", name)) for name in wanted} == wanted


SANDBOX = {
    "CapabilityBoundingSet": "CAP_SETUID CAP_SETGID CAP_KILL",
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "ProtectClock": "yes",
    "ProtectHostname": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectProc": "invisible",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "LockPersonality": "yes",
    "RemoveIPC": "yes",
    "SystemCallArchitectures": "native",
    "SystemCallFilter": "@system-service",
    "UMask": "0027",
}


def test_the_unit_is_a_sandbox():
    service = unit(render("emperor.service.j2"))
    assert {name: service.get(("[Service]", name)) for name in SANDBOX} == SANDBOX
    assert set(service["[Service]", "RestrictAddressFamilies"].split()) == {
        "AF_UNIX",
        "AF_INET",
        "AF_INET6",
        "AF_NETLINK",
    }


def test_the_unit_may_limit_the_memory_of_apps_and_goes_on_when_one_is_killed():
    service = unit(render("emperor.service.j2"))
    assert service["[Service]", "Delegate"] == "memory"
    assert service["[Service]", "OOMPolicy"] == "continue"
    assert service.get(("[Service]", "ProtectControlGroups")) is None, "it is about what the Emperor has to write"
    assert ini(render("emperor.ini.j2"), "uwsgi")["exec-as-emperor"] == value("__uwsgi_memory_limit")


def test_the_unit_keeps_apps_from_the_keys_of_the_host():
    assert unit(render("emperor.service.j2"))["[Service]", "IPAddressDeny"] == "169.254.169.254 fd00:ec2::254"
    assert ("[Service]", "IPAddressDeny") not in unit(render("emperor.service.j2", uwsgi_denied_addresses=[]))


def test_the_unit_lets_apps_write_where_they_live_and_nowhere_else():
    service = unit(render("emperor.service.j2", uwsgi_writable_paths=["/srv/flask_apps", "/var/lib/shop"]))
    assert service["[Service]", "ReadWritePaths"] == "/run/emperor /srv/flask_apps /var/lib/shop"
    assert value("flask_apps_root in uwsgi_writable_paths") is True


@pytest.mark.parametrize(
    ("install", "binary"), [("pyuwsgi", "/opt/emperor/bin/uwsgi"), ("distro", "/usr/bin/uwsgi-core")]
)
def test_the_unit_starts_the_uwsgi_that_is_installed(install, binary):
    service = unit(render("emperor.service.j2", uwsgi_install=install))
    # uWSGI executes its binary path at a reload.
    assert service["[Service]", "ExecStart"] == f"{binary} --ini /etc/emperor/emperor.ini --binary-path {binary}"


def test_a_stop_reaches_the_emperor_alone_as_a_stop():
    service = unit(render("emperor.service.j2"))
    assert service["[Service]", "KillSignal"] == "SIGQUIT"
    assert service["[Service]", "KillMode"] == "mixed"
    assert service["[Service]", "Type"] == "notify"
    assert service["[Service]", "Restart"] == "always"
    assert service["[Install]", "WantedBy"] == "multi-user.target"
