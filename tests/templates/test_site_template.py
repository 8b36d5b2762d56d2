"""The site of an app, and what nginx has for all apps."""

import ipaddress
import re

import pytest
from rendering import FULL, MACHINE, MODES, PLAN, directives, ini, nginx, render


def test_only_an_app_without_domains_is_the_default_server():
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
def test_upstream_is_the_linked_socket_with_the_held_socket_as_backup(mode):
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


def test_site_is_the_same_in_every_mode():
    assert len({render("site.conf.j2", {"reload": mode}) for mode in MODES}) == 1


def test_request_is_retried_only_after_a_connection_error():
    # Not after a timeout, which the worker may still be busy with, and nothing that may have had an effect.
    site = nginx(render("site.conf.j2"))
    assert directives(site, "server", "uwsgi_next_upstream") == [["error"]]
    assert directives(site, "server", "uwsgi_next_upstream_tries") == []


def test_request_that_no_instance_took_gets_retry_after():
    site = nginx(render("site.conf.j2"))
    assert ["502", "=", "@unanswered"] in directives(site, "server", "error_page")
    (unanswered,) = [found[-1] for found in site[-1][-1] if found[:2] == ["location", "@unanswered"]]
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


def test_unknown_host_name_gets_421():
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
def test_http_2_is_enabled_in_the_syntax_of_each_nginx(version, parameters, directive):
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


def test_redirect_names_an_unusual_port():
    _server, redirect = servers(render("site.conf.j2", TLS, __flask_apps_plan=planned(), flask_apps_https_port=8443))
    assert directives(redirect, "location /", "return") == [["308", "https://$host:8443$request_uri"]]


def test_site_without_its_acme_certificate_serves_http_and_https_without_hsts():
    (server,) = servers(render("site.conf.j2", TLS, __flask_apps_plan=planned(redirected=())))
    assert [one[0] for one in directives(server, "listen")] == ["80", "[::]:80", "443", "[::]:443"]
    assert ["certificates/*.location"] in directives(server, "include")
    assert "Strict-Transport-Security" not in str(server)


def test_site_without_tls_has_no_tls_directive():
    (server,) = servers(render("site.conf.j2"))
    assert [one[0] for one in directives(server, "listen")] == ["80", "[::]:80"]
    assert not re.search("ssl|443|Strict-Transport", render("site.conf.j2"))
    assert not re.search("ssl|443", render("flask_apps.conf.j2"))


def test_hsts_is_sent_wherever_a_location_has_headers_of_its_own_and_not_by_the_app():
    app = {**TLS, "static": {"/s": {"directory": "s", "max_age": 9}}, "media": {"/m": "m"}}
    server, redirect = servers(render("site.conf.j2", app, __flask_apps_plan=planned()))
    located = [one for one in server if one[0] == "location" and one[1] != "@no_such_range"]
    places = [server, *(one[-1] for one in located if directives(one[-1], "add_header"))]
    assert len(places) == 9
    for place in places:
        assert ["Strict-Transport-Security", '"max-age=300"', "always"] in directives(place, "add_header")
    assert ["Strict-Transport-Security"] in directives(server, "uwsgi_hide_header")
    assert "Strict-Transport-Security" not in str(redirect)


def test_handshake_for_an_unknown_name_is_rejected():
    (server,) = servers(render("flask_apps.conf.j2", TLS, __flask_apps_plan=planned()))
    assert directives(server, "ssl_reject_handshake") == [["on"]]


def test_tls_settings_are_mozillas_intermediate():
    (http,) = [block[-1] for block in nginx(render("nginx.conf.j2")) if block[0] == "http"]
    assert directives(http, "ssl_protocols") == [["TLSv1.2", "TLSv1.3"]]
    assert directives(http, "ssl_session_tickets") == directives(http, "ssl_prefer_server_ciphers") == [["off"]]
    ((ciphers,),) = directives(http, "ssl_ciphers")
    assert all(re.fullmatch("ECDHE-(ECDSA|RSA)-(AES(128|256)-GCM|CHACHA20).*", one) for one in ciphers.split(":"))
    assert directives(http, "ssl_stapling") == []


@pytest.mark.parametrize("trusted", [[], ["192.0.2.1", "10.0.0.0/8"]])
def test_only_trusted_proxies_set_the_clients_address(trusted):
    text = render("flask_apps.conf.j2", flask_apps_trusted_proxies=trusted)
    shared = nginx(text)
    known = [found[-1] for found in shared if found[:2] == ["geo", "$realip_remote_addr"]]
    assert known == ([[["default", "0"], *([address, "1"] for address in trusted)]] if trusted else [])
    assert ("$http_x_" in text) is bool(trusted), "a header that any client may send is believed"
    assert directives(shared, "set_real_ip_from") == [[address] for address in trusted]
    assert bool(directives(shared, "real_ip_header")) is bool(trusted)


def test_proxy_protocol_has_ports_of_its_own_and_tells_the_client():
    ports = {"flask_apps_proxy_protocol_port": 8080, "flask_apps_proxy_protocol_https_port": 8443}
    more = ports | {"flask_apps_trusted_proxies": ["10.0.0.0/8"]}
    shared = nginx(render("flask_apps.conf.j2", **more))
    assert directives(shared, "real_ip_header") == [["proxy_protocol"]]
    # TLS that was passed on: what the request says of the client is the client's own.
    (believed,) = [found[-1] for found in shared if found[:2] == ["map", "$flask_apps_proxy:$server_port"]]
    assert believed == [["default", "$flask_apps_proxy"], ["1:8443", "0"]]
    site = nginx(render("site.conf.j2", {"tls": {"mode": "selfsigned"}}, **more))
    wanted = [f"{address}{port}" for port in (80, 8080, 443, 8443) for address in ("", "[::]:")]
    listens = directives(site, "server", "listen")
    assert [port for port, *_how in listens] == wanted
    assert [port for port, *how in listens if "proxy_protocol" in how] == [
        "8080", "[::]:8080", "8443", "[::]:8443"
    ]  # fmt: skip


@pytest.mark.parametrize(("trusted", "begin"), [([], "$"), (["10.0.0.0/8"], "$flask_apps_")])
def test_request_pays_for_maps_of_the_client_only_where_a_proxy_is_trusted(trusted, begin):
    site = nginx(render("site.conf.j2", flask_apps_trusted_proxies=trusted))
    given = {name: value for name, value, *_more in directives(site, "server", "uwsgi_param")}
    assert given["UWSGI_SCHEME"] == given["HTTP_X_FORWARDED_PROTO"] == f"{begin}scheme"
    assert given["SERVER_PORT"] == f"{begin}server_port"
    assert given["HTTP_X_REQUEST_ID"] == f"{begin}request_id"
    assert ["X-Request-ID", f"{begin}request_id", "always"] in directives(site, "server", "add_header")
    log = " ".join(*directives(nginx(render("flask_apps.conf.j2", flask_apps_trusted_proxies=trusted)), "log_format"))
    assert f"id={begin}request_id" in log


@pytest.mark.parametrize(("version", "joined"), [((1, 22), False), ((1, 23), True), ((), False)])
def test_cookies_are_joined_where_nginx_does_not(version, joined):
    text = render("site.conf.j2", __flask_apps_plan=planned(version))
    assert ("uwsgi_param HTTP_COOKIE" in text) is not joined


def test_waiting_time_and_release_are_logged_from_one_header():
    assert mapped("$flask_apps_release", "0.007 3f2a9c01d4e5") == "3f2a9c01d4e5"
    for text in ("", "3f2a9c01d4e5", '0.007 3f2a" status=500', "x 3f2a9c01d4e5"):
        assert mapped("$flask_apps_release", text) == "-"
    for form, unknown in (("text", "-"), ("json", "null")):
        shared = nginx(render("flask_apps.conf.j2", flask_apps_access_log=form))
        assert directives(shared, "map $flask_apps_release $flask_apps_queue", "-") == [[unknown]]
    assert mapped("$flask_apps_app_seconds", "0.010, 1.250") == "1.250"
    assert directives(nginx(render("site.conf.j2")), "server", "uwsgi_hide_header").count(["X-Emperor"]) == 1


def test_body_size_limit_is_that_of_the_app():
    assert directives(nginx(render("site.conf.j2", {"max_body_size": "1g"})), "server", "client_max_body_size") == [
        ["1g"]
    ]


@pytest.mark.parametrize("keep", [1, 5])
def test_static_file_is_searched_in_every_kept_release(keep):
    # Two more than are kept: the new release is there before an old one goes, and one link to move the others by.
    site = nginx(render("site.conf.j2", FULL, flask_apps_keep_releases=keep))
    for prefix in ("/static/", "/media/v1/"):
        assert directives(site, "server", f"location {prefix}", "root") == [["/srv/flask_apps/shop/static"]]
        (tried,) = directives(site, "server", f"location {prefix}", "try_files")
        assert tried == [*(f"/{slot}$uri" for slot in range(keep + 2)), "=404"]


def test_only_the_host_itself_sees_which_instance_answers():
    site = nginx(render("site.conf.j2"))
    assert ["X-Vassal"] in directives(site, "server", "uwsgi_hide_header")
    ((_name, told, always),) = [found for found in directives(site, "server", "add_header") if found[0] == "X-Vassal"]
    assert always == "always"
    shared = nginx(render("flask_apps.conf.j2"))
    assert directives(shared, f"map $remote_addr {told}", "default") == [['""']]
    known = [found[0] for found in shared[0][-1]]
    assert known == ["default", "127.0.0.1", "::1"]
    assert directives(shared, f"map $remote_addr {told}", "127.0.0.1") == [["$upstream_http_x_vassal"]]


def mapped(variable, text, **changes):
    """What a map of nginx makes of a text by its regular expressions."""
    shared = nginx(render("flask_apps.conf.j2", **changes))
    entries = next(block[-1] for block in shared if block[0] == "map" and block[2] == variable)
    for pattern, value in entries:
        found = pattern.startswith('"~') and re.search(re.sub(r"\(\?<(?=[a-z])", "(?P<", pattern[2:-1]), text)
        if found:
            return found.expand(re.sub(r"\$([a-z0-9_]+)", r"\\g<\1>", value.strip('"')))
    return next(value for pattern, value in entries if pattern == "default")


@pytest.mark.parametrize(("address", "network"), [
    ("192.0.2.7", "192.0.2.0"), ("::ffff:192.0.2.7", "192.0.2.0"), ("2001:db8:5:6::7", "2001:db8:5::"),
    ("2001:db8:5::7", "2001:db8:5::"), ("2001:db8::7", "2001:db8::"), ("2001::7", "2001::"), ("::1", "::"),
    ("fe80::1234:5678:9abc:def0", "fe80::"), ("unix:", "-"),
])  # fmt: skip
def test_short_address_is_the_network_of_the_client(address, network):
    assert mapped("$flask_apps_address", address, flask_apps_access_log_addresses="short") == network
    assert mapped("$flask_apps_address", address, flask_apps_access_log_addresses="none") == "-"


@pytest.mark.parametrize(("address", "client"), [
    ("2001:db8:5:6::7", "2001:db8:5:6::"), ("2001:db8:5:6:ffff::8", "2001:db8:5:6::"),
    ("2001:db8:5:7::7", "2001:db8:5:7::"), ("::a0a:a0a", "::"), ("::1", "::"),
])  # fmt: skip
def test_network_of_64_bits_is_one_client_for_the_limits(address, client):
    packed = ipaddress.ip_address(address).packed.decode("latin-1")
    assert mapped("$flask_apps_client", packed) == ipaddress.ip_address(client).packed[:8].decode("latin-1")


@pytest.mark.parametrize("address", ["192.0.2.7", "::ffff:192.0.2.7", "64:ff9b::192.0.2.7"])
def test_ipv4_address_is_a_client_of_its_own_for_the_limits(address):
    packed = ipaddress.ip_address(address).packed.decode("latin-1")
    assert mapped("$flask_apps_client", packed) == "$binary_remote_addr"
    for template in ("flask_apps.conf.j2", "site.conf.j2"):
        text = render(template, {"limits": {"requests_per_second": 5, "connections": 3}})
        assert set(re.findall(r"limit_(?:conn|req)_zone (\S+)", text)) == {"$flask_apps_client"}


def test_every_variable_zone_and_page_of_the_site_is_defined():
    features = {
        "limits": {"requests_per_second": 5, "connections": 3},
        "domains": ["a.test"],
        "redirect_domains": ["b.test"],
        "protected": {"/protected": "invoices"},
    }
    text, shared = render("site.conf.j2", features), render("flask_apps.conf.j2")
    pages = set(re.findall(r"error_page \d+ (?:=\d* )?(@\w+)", text))
    assert pages == set(re.findall(r"location (@\w+)", text))
    for name in set(re.findall(r"\$flask_apps_\w+", text)):
        assert re.search(rf"^map \S+ \{name} |^geo \S+ \{name} |^ +set \{name} ", shared + text, re.MULTILINE), name
    for zone in set(re.findall(r"limit_(?:conn|req) (?:zone=)?(\w+)", text)):
        assert f"zone={zone}:" in text + shared


def test_unset_limits_give_no_directive():
    site, shared = render("site.conf.j2"), render("flask_apps.conf.j2", flask_apps_requests_per_client=0)
    assert "limit_" not in site
    assert not re.search("^limit_conn ", shared, re.MULTILINE)
    assert "limit_conn flask_apps_clients 1024;" in render("flask_apps.conf.j2")
    # A limit of the app's own replaces that of the host, which must be said again.
    assert render("site.conf.j2", {"limits": {"connections": 3}}).count("limit_conn ") == 2


def test_only_streaming_paths_are_unbuffered():
    site = nginx(render("site.conf.j2", {"streaming": ["/events"]}))
    for path, buffering in (("/", []), ("= /events", [["off"]]), ("/events/", [["off"]])):
        assert directives(site, "server", f"location {path}", "uwsgi_buffering") == buffering
        assert directives(site, "server", f"location {path}", "uwsgi_pass") == [["flask_apps_shop"]]
