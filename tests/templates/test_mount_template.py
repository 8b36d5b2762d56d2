"""The site of an app below a path of a domain: what the owner's site includes of it."""

import re

from rendering import directives, nginx, render

SHOP = {
    "path": "/shop",
    "domains": ["a.test"],
    "static": {"/static": "static"},
    "media": {"/media": "m"},
    "protected": {"/files": "p"},
    "streaming": ["/events"],
    "limits": {"requests_per_second": 5, "connections": 3},
    "max_body_size": "3m",
}
SITE = {"name": "site", "app": "site:app", "source": {"path": "."}, "domains": ["a.test"], "limits": {"connections": 9}}


def mount(**more):
    apps = [SITE, {"name": "shop", "app": "shop:app", "source": {"path": "."}, **SHOP, **more}]
    return render("site.conf.j2", flask_apps=apps, __flask_apps_mount=True)


def own(**more):
    """The file of its own, beside what the owner's site includes."""
    apps = [SITE, {"name": "shop", "app": "shop:app", "source": {"path": "."}, **SHOP, **more}]
    return render("site.conf.j2", flask_apps=apps)


def test_owner_has_the_server_and_the_app_below_it_none():
    assert "server {" not in own()
    assert directives(nginx(own()), "upstream flask_apps_shop", "server") != []
    site = nginx(render("site.conf.j2", flask_apps=[SITE], __flask_apps_name="site"))
    assert ["flask_apps/site+*.conf"] in directives(site, "server", "include")


def test_everything_of_the_app_is_below_its_path():
    found = nginx(mount())
    outer = [" ".join(one[1:-1]) for one in found]
    named = ["unanswered", "late", "too_many", "too_large", "no_such_range", "refused"]
    assert outer == ["= /shop", "/shop/", *(f"@{name}_shop" for name in named)]
    inner = [" ".join(one[1:-1]) for one in found[1][-1] if one[0] == "location"]
    assert inner == ["/shop/static/", "/shop/media/", "/shop/files/", "/shop/", "= /shop/events", "/shop/events/"]
    assert directives(found, "location /shop/", "client_max_body_size") == [["3m"]]
    assert ["SCRIPT_NAME", '"/shop"'] in directives(found, "location /shop/", "uwsgi_param")


def test_parameters_are_those_of_an_app_with_all_paths_except_for_the_path():
    site = nginx(render("site.conf.j2", flask_apps=[SITE], __flask_apps_name="site"))
    paths = ("SCRIPT_NAME", "PATH_INFO", "HTTP_HOST")
    wanted, found = (
        [one for one in directives(block, where, "uwsgi_param") if one[0] not in paths]
        for block, where in ((site, "server"), (nginx(mount()), "location /shop/"))
    )
    assert wanted == found != []


def test_every_page_and_variable_of_a_mounted_app_is_defined():
    text, shared = mount(), render("flask_apps.conf.j2")
    assert set(re.findall(r"error_page \d+ (?:=\d* )?(@\w+)", text)) == set(re.findall(r"location (@\w+)", text))
    for name in set(re.findall(r"\$flask_apps_\w+", text)) - {"$flask_apps_from"}:
        assert re.search(rf"^map \S+ \{name} |^geo \S+ \{name} ", shared + own(), re.MULTILINE), name


def test_errors_of_a_mounted_app_are_in_its_own_log():
    for location in nginx(mount()):
        assert directives(location[-1], "access_log") == [
            ["/var/log/flask_apps/shop/access.log", "flask_apps", "buffer=64k", "flush=1s"]
        ]


def test_limit_of_the_owner_does_not_hold_below_it():
    assert "limit_conn flask_apps_clients 1024;" in mount(limits={})
    apps = [SITE, {"name": "shop", "app": "shop:app", "source": {"path": "."}, **SHOP, "limits": {}}]
    text = render("site.conf.j2", flask_apps=apps, __flask_apps_mount=True, flask_apps_requests_per_client=0)
    assert "limit_conn flask_apps_clients 65535;" in text


def test_app_alone_on_its_domain_keeps_its_path():
    site = nginx(render("site.conf.j2", SHOP))
    assert directives(site, "server", "location /", "return") == [["404"]]
    assert directives(site, "server", "location /shop/", "uwsgi_pass") == [["flask_apps_shop"]]
    assert directives(site, "server", "location /shop/static/", "rewrite") == [['"^/shop(/.*)$"', "$1", "break"]]


def test_path_is_no_pattern():
    # A dot stands for itself.
    assert '"~(?s)^/v1\\.0(?<flask_apps_tail_' in own(path="/v1.0")


def test_path_of_a_side_process_goes_to_its_sockets():
    background = {"live": {"command": "x", "serve": "/ws", "instances": 2}}
    site, shared = nginx(render("site.conf.j2", {"background": background})), render("flask_apps.conf.j2")
    assert directives(site, "upstream flask_apps_shop.live", "server") == [
        [f"unix:/srv/flask_apps/shop/side.live.{number}.sock", "max_fails=0"] for number in (1, 2)
    ]
    for path in ("= /ws", "/ws/"):
        assert directives(site, "server", f"location {path}", "proxy_pass") == [["http://flask_apps_shop.live"]]
    assert "map $flask_apps_upgrade $flask_apps_connection" in shared
    assert ["X-Forwarded-Prefix", '"/shop"'] in directives(
        nginx(mount(background=background)), "location /shop/", "location /shop/ws/", "proxy_set_header"
    )
