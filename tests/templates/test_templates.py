"""All templates: what they have in common, the time limits that go through several of them, and nginx.conf."""

import re

import pytest
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.relations import MARGIN
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rendering import FULL, MODES, OTHER, ROLES, SHOP, directives, ini, nginx, render, unit, value

ALL = ["nginx.conf.j2", "site.conf.j2", "flask_apps.conf.j2", "emperor.ini.j2", "emperor.service.j2",
       "emperor-app@.service.j2",
       "emperor@.service.j2", "emperor@.socket.j2", "emperor-memory-guard.service.j2", "sandbox.conf.j2",
       "stop.conf.j2"]  # fmt: skip
# The others: test_haproxy_template.py, the scenario fleet, and the programs themselves in the scenario insight.
ELSEWHERE = ["alive.j2", "emperor-exporter.service.j2", "haproxy.cfg.j2", "keepalived-unit.conf.j2",
             "keepalived.conf.j2", "prometheus.yml.j2"]  # fmt: skip


def test_every_template_is_tested():
    assert sorted(path.name for path in ROLES.glob("*/templates/*")) == sorted([*ALL, *ELSEWHERE])


@pytest.mark.parametrize("template", ALL)
@pytest.mark.parametrize("app", [{}, FULL, *({"reload": mode} for mode in MODES)])
def test_rendered_template_has_no_jinja_and_nothing_undefined(template, app):
    text = render(template, app)
    assert not re.search(r"\{\{|\}\}|\{%|%\}|\{#|None|True|False|Undefined", text)
    assert text.endswith("\n")
    assert not re.search(r"[ \t]$", text.split("anaged", 1)[1].split("\n", 2)[2], re.MULTILINE)


@pytest.mark.parametrize("template", ALL)
def test_rendered_template_names_ansible_and_no_date(template):
    text = render(template)
    assert "Ansible managed" in "\n".join(text.split("\n")[:3])
    assert text == render(template)
    assert not re.search(r"20\d\d-\d\d|\d\d:\d\d:\d\d", text)


@pytest.mark.parametrize("template", ["vassal.ini", "emperor.ini.j2"])
def test_comments_of_ini_files_start_with_a_semicolon(template):
    assert not [line for line in render(template).split("\n") if line.startswith("#")]


@settings(max_examples=10)  # each renders four templates
@given(seconds=st.integers(1, 3600), other=st.integers(1, 3600))
@example(seconds=1, other=1)
@example(seconds=60, other=1)
@example(seconds=61, other=1)
@example(seconds=3600, other=3600)
def test_each_time_limit_is_longer_than_the_one_before_it(seconds, other):
    # By the defaults: the roles uwsgi and flask_apps read the same list of apps.
    app = {"max_request_seconds": seconds}
    apps = {"flask_apps": [{**OTHER, "max_request_seconds": other}, {**SHOP, **app}]}
    own = ini(render("vassal.ini", app, **apps), "uwsgi")
    site = nginx(render("site.conf.j2", app, **apps))
    emperor = ini(render("emperor.ini.j2", app, **apps), "uwsgi")
    service = unit(render("emperor-app@.service.j2", app, **apps))

    harakiri, mercy = int(own["harakiri"]), int(own["worker-reload-mercy"])
    tolerance, stop = int(emperor["emperor-curse-tolerance"]), int(service["[Service]", "TimeoutStopSec"])
    assert seconds < harakiri <= seconds + 1
    assert harakiri < mercy < tolerance < stop
    for name in ("uwsgi_read_timeout", "uwsgi_send_timeout"):
        assert directives(site, "server", name) == [[f"{mercy}s"]]
    assert mercy < int(emperor["reload-mercy"]) < stop


def test_shortest_accepted_stop_timeout_keeps_the_order_of_limits():
    stop = 60 + MARGIN  # the least
    emperor = ini(render("emperor.ini.j2", uwsgi_stop_timeout_seconds=stop), "uwsgi")
    assert int(ini(render("vassal.ini"), "uwsgi")["worker-reload-mercy"]) < int(emperor["emperor-curse-tolerance"])
    for template in ("emperor.service.j2", "emperor-app@.service.j2"):
        service = unit(render(template, uwsgi_stop_timeout_seconds=stop))
        assert service["[Service]", "TimeoutStopSec"] == str(stop)


def test_emperor_without_apps_has_the_default_stop_timeout():
    assert value("uwsgi_stop_timeout_seconds", flask_apps=[]) == 90
    assert value("uwsgi_stop_timeout_seconds", flask_apps=[{"name": "old", "state": "absent"}]) == 90


def test_default_time_limits_pass_the_roles_own_check():
    assert value("__flask_apps_app.max_request_seconds") + MARGIN <= value("uwsgi_stop_timeout_seconds")


def test_nginx_includes_files_by_relative_paths():
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
        ({"nginx_brotli": True}, "brotli_static", [["on"]]),
        ({"nginx_brotli": False}, "brotli_static", []),
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


def test_app_without_any_security_header_has_a_site():
    off = dict.fromkeys(("X-Content-Type-Options", "X-Frame-Options", "Referrer-Policy"), "")
    app = {"domains": ["shop.test"], "redirect_domains": ["www.shop.test"], "security_headers": off}
    assert "None" not in render("site.conf.j2", app)
