"""haproxy.cfg as the role renders it: what the settings say is in it, and each app goes to its own hosts."""

from pathlib import Path

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROLE = Path(__file__).parents[2] / "roles/load_balancer"
SHOP = {"name": "shop", "app": "shop:app", "source": {"path": "."}, "domains": ["shop.test", "*.shop.test"]}
BLOG = {"name": "blog", "app": "blog:app", "source": {"path": "."}, "max_request_seconds": 90}
ROUTES = "Iface\tDestination\tGateway\nens4\t0000580A\t00000000\nens3\t00000000\t0100580A\n"
WEB = {"flask_apps_trusted_proxies": ["10.0.0.1"], "flask_apps": [SHOP]}


@pytest.fixture
def render():
    def make(template="haproxy.cfg.j2", expression="", **changes):
        loader = DataLoader()
        variables = {}
        for kind in ("defaults", "vars"):
            variables.update(loader.load_from_file(str(ROLE / kind / "main.yml"), trusted_as_template=True))
        variables.update(
            ansible_search_path=[str(ROLE)],
            groups={"webservers": ["web1", "web2"], "load_balancers": ["lb1", "lb2"]},
            inventory_hostname="lb2",
            hostvars={
                "web1": WEB,
                "web2": {**WEB, "flask_apps": [SHOP, BLOG], "ansible_host": "10.0.0.8"},
                "lb1": {},
                "lb2": {},
            },
            __load_balancer_host={
                "paths": {"/proc/net/if_inet6": ["/proc/net/if_inet6"]},
                "read": {"/proc/net/route": ROUTES},
            },
            __load_balancer_others={"results": [{"stdout": "10.0.0.1 STREAM lb1\n10.0.0.1 DGRAM"}]},
        )
        variables.update(changes)
        templar = Templar(loader=loader, variables=variables)
        wanted = expression or f"lookup('ansible.builtin.template', '{template}')"
        return templar.template(trust_as_template(f"{{{{ {wanted} }}}}"))

    return make


def backend(text, name):
    """The lines of one backend."""
    return text.split(f"\nbackend app_{name}\n")[1].split("\n\n")[0]


def test_each_app_goes_to_the_hosts_that_have_it(render):
    text = render()
    assert "use_backend app_shop if { var(txn.host) -m str shop.test }" in text
    assert "use_backend app_shop if { var(txn.host) -m end .shop.test }" in text
    assert "default_backend app_blog" in text
    assert "server web1 web1:80 check" in backend(text, "shop")
    assert "server web2 10.0.0.8:80 check" in backend(text, "shop")
    assert "web1" not in backend(text, "blog")


def test_times_follow_from_the_longest_request(render):
    text = render()
    assert "timeout server 100s" in backend(text, "blog")
    assert "timeout server 70s" in backend(text, "shop")
    assert "timeout tunnel 1h " in text
    assert "hard-stop-after 150s" in text


def test_cookie_and_https_are_off_unless_chosen(render, tmp_path):
    plain = render()
    assert "cookie" not in plain
    assert "ssl crt" not in plain
    text = render(load_balancer_sticky=True, load_balancer_certificates=["shop.pem"])
    assert " cookie " in backend(text, "shop")
    assert "bind :::443 v6only ssl crt" in text
    assert "redirect scheme https" in text


def test_passed_https_is_chosen_by_name_and_http_leads_to_it(render):
    web = {**WEB, "flask_apps_tls": {"mode": "selfsigned"}, "flask_apps_proxy_protocol_https_port": 8443}
    hosts = {"web1": web, "web2": {**web, "flask_apps": [SHOP, BLOG]}, "lb1": {}, "lb2": {}}
    text = render(hostvars=hosts)
    assert "use_backend https if { var(txn.host) -m str shop.test }" in text
    assert "use_backend app_shop if { req.ssl_sni -i shop.test }" in text
    assert "use_backend app_shop if { req.ssl_sni -i -m end .shop.test }" in text
    assert "default_backend https\n" in text
    assert "default_backend app_blog\n" in text
    shop = backend(text, "shop")
    assert shop.startswith("    mode tcp\n")
    assert "http-request" not in shop
    assert "server web1 web1:8443 send-proxy-v2 check check-ssl verify none check-sni shop.test inter" in shop


def test_variable_of_a_web_host_that_cannot_be_read_is_a_fault(render):
    # As Ansible does with a variable that uses hostvars, when another host reads it: that app would vanish.
    web = {"flask_apps_trusted_proxies": ["10.0.0.1"], "flask_apps": trust_as_template("{{ nowhere }}")}
    known = render(expression="__load_balancer_known", hostvars={"web1": web, "web2": WEB, "lb1": {}, "lb2": {}})
    assert known["fault"].startswith("flask_apps of web1 cannot be read on the load balancers")


def test_host_without_ipv6_gets_none(render):
    assert ":::" in render()
    assert ":::" not in render(__load_balancer_host={"paths": {"/proc/net/if_inet6": []}})


def test_weight_of_a_host_is_that_of_its_variables(render):
    text = render(hostvars={"web1": {**WEB, "load_balancer_weight": 0}, "web2": WEB, "lb1": {}, "lb2": {}})
    assert "server web1 web1:80 check inter 2s fall 2 rise 2 tcp-ut 5s weight 0 " in backend(text, "shop")
    assert "tcp-ut 5s weight 100 " in backend(text, "shop")


def test_balancers_share_addresses_on_the_interface_of_the_default_route(render):
    assert "keepalived" not in render()
    shared = {"load_balancer_virtual_addresses": ["10.0.0.9/24", "fd00::9/64"]}
    assert "keepalived.invalid" in render(**shared)
    text = render("keepalived.conf.j2", **shared)
    assert "    interface ens3\n" in text
    assert "    priority 253\n" in text
    assert "unicast_peer {\n        10.0.0.1\n    }" in text
    assert "virtual_ipaddress {\n        10.0.0.9/24\n    }" in text
    assert "virtual_ipaddress_excluded {\n        fd00::9/64\n    }" in text
    assert "interface bond0" in render("keepalived.conf.j2", load_balancer_virtual_interface="bond0", **shared)


def test_app_below_a_path_has_its_requests_before_the_owner_of_the_domain(render):
    below = [{**SHOP, "name": "desk", "path": "/desk"}, {**BLOG, "name": "any", "path": "/any"}]
    text = render(hostvars={name: {**WEB, "flask_apps": [SHOP, BLOG, *below]} for name in ("web1", "web2")})
    rules = [line.strip() for line in text.splitlines() if "_backend" in line]
    assert rules == [
        "use_backend app_desk if { var(txn.host) -m str shop.test } { path,url_dec -m beg /desk/ }",
        "use_backend app_shop if { var(txn.host) -m str shop.test }",
        "use_backend app_desk if { var(txn.host) -m end .shop.test } { path,url_dec -m beg /desk/ }",
        "use_backend app_shop if { var(txn.host) -m end .shop.test }",
        "use_backend app_any if { path,url_dec -m beg /any/ }",
        "default_backend app_blog",
    ]
    assert "http-check send meth GET uri /desk/ ver" in backend(text, "desk")


def test_health_check_takes_a_redirect_for_sound(render):
    """The health check on the host follows it; HAProxy cannot."""
    assert "    http-check expect status 200,301-303,307-308\n" in backend(render(), "shop") + "\n"
