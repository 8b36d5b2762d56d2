"""The headers for the browser's safety, in nginx's configuration."""

import re

import pytest
from rendering import nginx, render

FULL = {"media": {"/m": "m"}, "protected": {"/p": "p"}, "static": {"/s": {"directory": "s", "max_age": 5}}}


def servers(text):
    return [block[-1] for block in nginx(text) if block[0] == "server"]


@pytest.mark.parametrize("domains", [[], ["a.test"]])
def test_every_place_with_headers_of_its_own_has_these_too(domains):
    (server, *_others) = servers(render("site.conf.j2", {**FULL, "domains": domains}))
    # Of a file's location come the headers of a response for which it has no such range.
    places = [server, *(one[-1] for one in server if one[0] == "location" and one[1] != "@no_such_range")]
    own = [{one[1] for one in place if one[0] == "add_header"} for place in places]
    assert sum(bool(names) for names in own) > 7
    for names in filter(None, own):
        assert names >= {"X-Content-Type-Options", "X-Frame-Options", "Referrer-Policy"}


def test_no_place_has_a_header_twice():
    more = {"security_headers": {"Content-Security-Policy": "default-src 'self'"}}
    (server,) = servers(render("site.conf.j2", {**FULL, **more}))
    for place in [server, *(one[-1] for one in server if one[0] == "location")]:
        names = [one[1].lower() for one in place if one[0] == "add_header"]
        assert len(names) == len(set(names)), names


def test_without_headers_there_are_none():
    site = render("site.conf.j2", FULL, flask_apps_security_headers={})
    assert "flask_apps_header" not in site
    assert "X-Frame-Options" not in render("flask_apps.conf.j2", flask_apps_security_headers={"X-Frame-Options": ""})


def test_a_name_of_any_length_makes_variables_that_nginx_takes():
    found = [render("site.conf.j2", {"name": name}, __flask_apps_name=name,
                    __flask_apps_plan={"apps": {name: {}}, "machine": {"ipv6": True}, "redirected": [], "https": False})
             for name in ("a-b", "a_b", "a" * 31)]  # fmt: skip
    names = [set(re.findall(r"\$flask_apps_header_\w+", text)) for text in found]
    assert all(len(one) < 45 for several in names for one in several)
    assert not names[0] & names[1]


def test_quotes_of_a_value_are_nginxs():
    text = render("site.conf.j2", {"security_headers": {"Permissions-Policy": 'camera=(self "https://a\\b")'}})
    assert '"" "camera=(self \\"https://a\\\\b\\")";' in text


def test_hidden_files_are_no_static_files():
    text = render("site.conf.j2", {"static": {"/s": "s", "/.well-known": "w"}})
    (of_s,) = [found for found in re.findall(r'if \(\$uri ~ "(.*)"\) {', text) if found.startswith("^/s/")]
    for path in ("/s/.env", "/s/.git/config", "/s/a/.b", "/s/.well-known/.env", "/s/.well-known-not"):
        assert re.search(of_s, path), path
    for path in ("/s/a.b", "/s/.well-known/a.txt", "/s/a/b.c/d"):
        assert not re.search(of_s, path), path
    assert text.count("if ($uri ~") == 2
