"""One app on many hosts: what each serves, which release a rollback chooses, what a balancer is told."""

from unittest import mock

import pytest
from ansible_collections.flaskops.emperor.plugins.action import fleet as action
from ansible_collections.flaskops.emperor.plugins.plugin_utils import fleet
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.balancer import (
    PORT,
    TLS_PORT,
    certificate_names,
    complete_balancer,
)
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.relations import (
    check_proxies,
    check_proxy_ports,
)
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused

SETTINGS = {
    "group": "webservers", "http_port": 80, "https_port": 443, "check_seconds": 2, "slow_start_seconds": 10,
    "queue_seconds": 30, "server_connections": 512, "certificates": [],
    "sticky": False,
    "virtual_addresses": [], "virtual_router": 51, "balancers": {"lb1": "lb1"}, "me": "lb1",
}  # fmt: skip
SHOP = {"name": "shop", "app": "shop:app", "source": {"path": "."}, "domains": ["shop.test", "*.shop.test"]}


def release(name, activated=0.0, failed=False, label=""):
    return {"id": name, "activated": activated, "failed": failed, "label": label}


def plan(current, *releases):
    return {"apps": {"shop": {"release": "", "serving": current, "current": current, "releases": list(releases)}}}


def behind(**more):
    return {"flask_apps": [SHOP], "flask_apps_trusted_proxies": ["10.0.0.1"], **more}


TLS = behind(flask_apps_tls={"mode": "selfsigned"}, **{PORT: 8080, TLS_PORT: 8443})
ACME = {**SHOP, "domains": ["shop.test"], "tls": {"mode": "acme"}}
V1, V2, V3 = release("v1", 1.0), release("v2", 2.0), release("v3", 3.0)


@pytest.fixture
def reach():
    """Run the action that sees whether all hosts are there; gives its result and what it printed."""

    def run(strategy="linear", **arguments):
        task = mock.Mock(args={"what": "reach", "hosts": ["web1", "web2"], **arguments}, check_mode=False, async_val=0)
        task.get_play.return_value.strategy = strategy
        plugin = action.ActionModule(task, mock.Mock(), mock.Mock(), mock.Mock(), mock.Mock(), mock.Mock())
        printed: list[str] = []
        plugin._display = mock.Mock(display=printed.append)
        return plugin.run(task_vars={}), printed

    return run


def test_run_goes_on_when_all_hosts_are_there(reach):
    assert reach(canary="web2", seconds=5, percent=1) == ({"changed": False}, [])


@pytest.mark.parametrize("strategy", ["free", "ansible.builtin.host_pinned"])
def test_hosts_that_do_not_wait_for_each_other_are_refused(strategy, reach):
    assert f"The strategy of this play is {strategy}" in reach(strategy=strategy)[0]["msg"]
    assert not reach(strategy="ansible.builtin.linear")[0].get("failed")


def test_run_goes_on_without_a_missing_host_only_when_that_is_allowed(reach):
    refused, printed = reach(missing=["web2"])
    assert refused["failed"]
    assert "web2 cannot be reached" in refused["msg"]
    assert printed == []
    answer, (told,) = reach(missing=["web2"], allow_missing=True)
    assert answer == {"changed": False}
    assert told.startswith("web2 is left out and keeps what it has.")


def test_canary_that_is_no_host_or_that_nobody_watches_is_refused(reach):
    assert "flask_apps_canary is web9, which is no host" in reach(canary="web9")[0]["msg"]
    assert "set flask_apps_canary_seconds, too" in reach(percent=1)[0]["msg"]


def test_rollback_goes_to_what_was_live_before_the_newest_release():
    assert fleet.target("shop", {"a": plan("v3", V1, V2, V3), "b": plan("v3", V1, V2, V3)}, "") == "v2"


def test_rollback_of_a_mixed_fleet_goes_to_what_the_hosts_behind_serve():
    assert fleet.target("shop", {"a": plan("v3", V1, V2, V3), "b": plan("v2", V1, V2)}, "") == "v2"


def test_rollback_skips_a_release_that_failed_on_any_host():
    failed = release("v2", 2.0, failed=True)
    assert fleet.target("shop", {"a": plan("v3", V1, V2, V3), "b": plan("v3", V1, failed, V3)}, "") == "v1"


def test_rollback_skips_a_release_that_never_was_live():
    assert fleet.target("shop", {"a": plan("v3", V1, release("v2"), V3)}, "") == "v1"


@pytest.mark.parametrize("named", ["", "v2"])
def test_release_of_a_rollback_that_one_host_lacks_comes_from_another(named):
    recipe = {"packages": ["pyuwsgi"]}
    made = release("v2", 2.0, label="v2.0") | {"recipe": recipe, "source": True}
    plans = {"a": plan("v3", V1, V3), "b": plan("v3", V1, made, V3), "c": plan("v3", V1, made, V3)}
    assert fleet.target("shop", plans, named) == "v2"
    assert fleet.staged("shop", plans, "v2") == {
        "id": "v2", "label": "v2.0", "host": "b", "recipe": recipe, "archive": True,
    }  # fmt: skip
    assert fleet.staged("shop", plans, "v1") == {}


def test_release_of_a_rollback_whose_source_no_host_kept_is_refused():
    plans = {"a": plan("v3", V1, V2, V3), "b": plan("v3", V1, V3)}
    with pytest.raises(Refused, match=r"no release v2 on b, and no host has kept.* -e release=ID: v1, v3"):
        fleet.staged("shop", plans, "v2")


def test_rollback_to_a_release_that_no_host_has_is_refused():
    with pytest.raises(Refused, match="no release v9 on any host, so nothing was changed"):
        fleet.target("shop", {"a": plan("v3", V3), "b": plan("v3", V3)}, "v9")


def test_rollback_without_an_earlier_release_is_refused():
    with pytest.raises(Refused, match="no earlier release that worked"):
        fleet.target("shop", {"a": plan("v3", V3), "b": plan("v3", V3)}, "")


def test_hosts_that_differ_are_named_with_what_they_serve():
    plans = {"a": plan("v3", release("v3", label="v3.0")), "b": plan("v2", V2), "c": {}}
    assert fleet.mixed(plans) == ["The hosts serve different releases of shop: v3 (v3.0) on a, v2 on b."]
    assert fleet.told(plans) == [
        "shop: a serves v3 (v3.0)",
        "shop: b serves v2",
        "shop: c cannot be asked; what is there now is not known",
    ]


def test_hosts_that_agree_differ_in_nothing():
    assert fleet.mixed({"a": plan("v2", V2), "b": plan("v2", V2)}) == []


def test_balancer_knows_names_endings_and_servers_and_no_secret():
    hosts = {
        "a": behind(load_balancer_address="10.0.0.7"),
        "b": behind(flask_apps_http_port=81, ansible_host="10.0.0.8"),
    }
    hosts["b"]["flask_apps"] = [{**SHOP, "environment": {"KEY": "secret"}}]
    found = complete_balancer(SETTINGS, hosts)
    (shop,) = found["apps"]
    assert shop["domains"] == ["shop.test"]
    assert shop["endings"] == [".shop.test"]
    assert [one["address"] for one in shop["servers"]] == ["10.0.0.7:80", "10.0.0.8:81"]
    assert "secret" not in str(found)
    assert found["default"] == ""


def test_balancer_goes_to_the_port_that_fits_the_app():
    plain = {**SHOP, "name": "blog", "domains": ["blog.test"], "tls": {"mode": "off"}}
    below = {**SHOP, "name": "desk", "domains": ["shop.test"], "path": "/desk"}
    hosts = {"a": TLS | {"flask_apps": [{**SHOP, "domains": ["shop.test"]}, plain, below]}}
    found = {one["name"]: one for one in complete_balancer(SETTINGS, hosts)["apps"]}
    assert {name: one["servers"][0]["address"] for name, one in found.items()} == {"shop": "a:8443", "blog": "a:8080"}
    assert found["shop"]["passed"]
    assert not found["blog"]["passed"]


@pytest.mark.parametrize(
    ("ports", "trusted", "sentence"),
    [
        ((80, 0), ["10.0.0.1"], "^flask_apps_proxy_protocol_port is 80, which is flask_apps_http_port, too: choose"),
        ((8080, 8080), ["10.0.0.1"], "https_port is 8080, which is flask_apps_proxy_protocol_port, too: choose"),
        ((0, 8443), [], "https_port is set, but flask_apps_trusted_proxies is empty: name"),
        ((70000, 0), ["10.0.0.1"], "is 70000, but must be a whole number of a port from 0 to 65535"),
    ],
)
def test_port_for_the_proxy_protocol_that_cannot_be_is_refused(ports, trusted, sentence):
    with pytest.raises(Refused, match=sentence):
        check_proxy_ports(dict(zip((PORT, TLS_PORT), ports, strict=True)), 80, 443, trusted)


@pytest.mark.parametrize(
    "one", ["[fd00::1]", "10.0.0.1:80", "lb.example.com", "10.0.0.0/255.0.0.0", "fe80::1%eth0", "10", ""]
)
def test_trusted_proxy_that_is_no_address_or_network_is_refused(one):
    with pytest.raises(
        Refused, match=r"^flask_apps_trusted_proxies has '.*', which is no address or network: write it"
    ):
        check_proxies(["10.0.0.1", one])


def test_trusted_proxies_may_be_addresses_and_networks_of_both_kinds():
    check_proxies(["10.0.0.1", "10.0.0.0/8", "fd00::1", "FD00::/8", "::1", "::ffff:10.0.0.1", "0.0.0.0/0"])


def test_app_without_domains_gets_what_no_other_app_has():
    app = {key: value for key, value in SHOP.items() if key != "domains"}
    assert complete_balancer(SETTINGS, {"a": behind(flask_apps=[app])})["default"] == "shop"


@pytest.mark.parametrize(
    ("settings", "hosts", "sentence"),
    [
        ({}, {}, "load_balancer_group is 'webservers', a group without hosts"),
        ({"check_seconds": 0}, {"a": behind()}, "load_balancer_check_seconds is 0, but must be a whole number"),
        ({}, {"a": behind(flask_apps_trusted_proxies=[])}, "flask_apps_trusted_proxies is empty on a"),
        ({}, {"a": behind(unreadable=["flask_apps"])}, "^flask_apps of a cannot be read on the load balancers: write"),
        ({}, {"a": behind(load_balancer_weight=0)}, "load_balancer_weight is 0 on all hosts that serve shop"),
        ({}, {"a": behind(load_balancer_weight=300)}, "load_balancer_weight of a is 300, but must be a whole number"),
        ({}, {"a": behind(flask_apps_tls={"mode": "selfsigned"})}, "load balancer speaks HTTP to the web hosts"),
        ({}, {"a": TLS, "b": TLS | {TLS_PORT: 0}}, f"or let it pass HTTPS on by {TLS_PORT} of b"),
        ({"certificates": ["a.pem"]}, {"a": TLS}, "load_balancer_certificates is set, but HTTPS of shop is passed on"),
        ({"sticky": True}, {"a": TLS}, "load_balancer_sticky is set, but HTTPS of shop is passed on"),
        ({}, {"a": TLS | {"flask_apps": [ACME]}}, "tls.mode is acme, but the CA asks the load balancer.*to dns, or"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings, hosts, sentence):
    with pytest.raises(Refused, match=sentence):
        complete_balancer({**SETTINGS, **settings}, hosts)


def test_two_certificates_of_one_name_are_refused():
    with pytest.raises(Refused, match=r"two files of the name a\.pem"):
        certificate_names(["x/a.pem", "y/a.pem"])
