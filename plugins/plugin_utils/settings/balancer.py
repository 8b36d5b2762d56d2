"""What a load balancer must know of the apps and hosts behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.apps import complete_apps
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.mounts import mounted
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.site import health_host
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused, bounded, fail
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.virtual import complete_virtual

PREFIX = "load_balancer_"
# Where nginx of a web host expects the PROXY protocol: for HTTP, and for HTTPS that is passed on.
PORT, TLS_PORT = "flask_apps_proxy_protocol_port", "flask_apps_proxy_protocol_https_port"
# Smallest and largest value of every number, and its unit.
NUMBERS = {
    "http_port": (1, 65535, "a port"),
    "https_port": (1, 65535, "a port"),
    "check_seconds": (1, 300, "seconds"),
    "slow_start_seconds": (0, 3600, "seconds"),
    "queue_seconds": (1, 3600, "seconds"),
    "server_connections": (1, 1000000, "connections"),
}


def server(name: str, variables: Mapping[str, Any], passed: bool) -> dict[str, Any]:
    """A host behind the balancer: its address, and whether the balancer speaks the PROXY protocol there.

    :param passed: for an app whose HTTPS is passed on.
    """
    address = variables.get("load_balancer_address") or variables.get("ansible_host") or name
    weight = bounded(variables.get("load_balancer_weight", 100), 0, 256, f"{PREFIX}weight of {name}", "shares")
    port = variables.get(TLS_PORT if passed else PORT) or 0
    address = f"{address}:{port or variables.get('flask_apps_http_port') or 80}"
    return {"name": name, "address": address, "weight": weight, "proxy_protocol": port != 0}


def backend(app: Mapping[str, Any], host: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    """What is to be known of an app; no secret is in it.

    :raises Refused: when it cannot be served through a balancer.
    """
    where, mode = f"flask_apps[{app['name']}].tls.mode", app["tls"]["mode"]
    if mode != "off" and not variables.get(TLS_PORT):
        fail(
            where,
            f"is {mode}, but the load balancer speaks HTTP to the web hosts: set it to off, and give the certificate "
            f"to load_balancer_certificates, or let it pass HTTPS on by {TLS_PORT} of {host}.",
        )
    if app["tls"]["challenge"] == "http":
        fail(
            where,
            "is acme, but the CA asks the load balancer, which asks any host: set tls.challenge to dns, or end HTTPS "
            "at the balancer with load_balancer_certificates.",
        )
    names = [*app["domains"], *app["redirect_domains"]]
    return {
        "name": app["name"],
        "domains": [name for name in names if not name.startswith("*.")],
        "endings": [name[1:] for name in names if name.startswith("*.")],
        # The owner of a domain gets what no path of another app takes.
        "path": app["path"] if mounted(app) else "",
        # Whether it has HTTPS on the web hosts: the balancer passes that on, unread.
        "passed": mode != "off",
        "health": dict(app["health"]),
        "health_host": health_host(app),
        "seconds": app["max_request_seconds"],
    }


def check_passed(apps: Mapping[str, Mapping[str, Any]], settings: Mapping[str, Any]) -> None:
    """See that settings which need to read requests do not meet HTTPS that is passed on.

    :raises Refused: with one sentence that names the variable and the cure.
    """
    passed = [name for name, one in apps.items() if one["passed"]]
    for name in ("certificates", "sticky"):
        if passed and settings[name]:
            fail(
                PREFIX + name,
                f"is set, but HTTPS of {', '.join(passed)} is passed on, which the balancer cannot read: leave it out, "
                "or set tls.mode to off there.",
            )


def complete_balancer(settings: Mapping[str, Any], hosts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Complete and check the settings of a balancer.

    :param settings: its variables, without their prefix.
    :param hosts: the variables of the hosts behind it.
    :raises Refused: with one sentence that names the variable and the cure.
    """
    for name, (low, high, unit) in NUMBERS.items():
        bounded(settings[name], low, high, PREFIX + name, unit)
    if not hosts:
        raise Refused(
            f"load_balancer_group is {settings['group']!r}, a group without hosts: name the group of the web hosts."
        )
    apps: dict[str, Any] = {}
    for host, variables in hosts.items():
        if variables.get("unreadable"):
            raise Refused(
                f"{', '.join(variables['unreadable'])} of {host} cannot be read on the load balancers: write the value "
                "without hostvars, which Ansible does not know when another host reads it."
            )
        if not variables.get("flask_apps_trusted_proxies"):
            raise Refused(
                f"flask_apps_trusted_proxies is empty on {host}: name the addresses of the load balancers there, or "
                "its apps take the balancer for their client."
            )
        for app in complete_apps(variables.get("flask_apps") or [], tls=variables.get("flask_apps_tls") or {}):
            if app["state"] != "present" or (mounted(app) and app["tls"]["mode"] != "off" and variables.get(TLS_PORT)):
                continue  # HTTPS that is passed on shows no path: an app below one goes with the owner of its domain
            one = backend(app, host, variables)
            one = apps.setdefault(app["name"], {**one, "servers": []})
            one["servers"].append(server(host, variables, one["passed"]))
    check_passed(apps, settings)
    for one in apps.values():
        if not any(each["weight"] for each in one["servers"]):
            raise Refused(
                f"load_balancer_weight is 0 on all hosts that serve {one['name']}: set it to 100 on one of them."
            )
    # Those with the longest path first, as nginx chooses.
    found = sorted(apps.values(), key=lambda one: (-len(one["path"]), str(one["name"])))
    return {
        "apps": found,
        "default": next((one["name"] for one in found if not (one["domains"] or one["endings"] or one["path"])), ""),
        "longest": max([one["seconds"] for one in found], default=60),
        "virtual": complete_virtual(settings, settings["me"]),
    }


def certificate_names(files: Sequence[str]) -> dict[str, str]:
    """The names of certificates on the balancer, by their files on the machine that runs Ansible.

    :raises Refused: for two of the same name.
    """
    names: dict[str, str] = {}
    for file in files:
        name = file.rpartition("/")[2]
        if name in names.values():
            fail(f"{PREFIX}certificates", f"has two files of the name {name}: rename one of them.")
        names[file] = name
    return names
