"""What a load balancer must know of the apps and hosts behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.apps import complete_apps
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.mounts import mounted
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused, bounded, fail
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.virtual import complete_virtual

PREFIX = "load_balancer_"
# Smallest and largest value of every number, and its unit.
NUMBERS = {
    "http_port": (1, 65535, "a port"),
    "https_port": (1, 65535, "a port"),
    "check_seconds": (1, 300, "seconds"),
    "slow_start_seconds": (0, 3600, "seconds"),
    "queue_seconds": (1, 3600, "seconds"),
    "server_connections": (1, 1000000, "connections"),
}


def servers(hosts: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The hosts behind the balancer, by name, with their addresses.

    :param hosts: the variables of every host.
    """
    found = []
    for name, variables in hosts.items():
        address = variables.get("load_balancer_address") or variables.get("ansible_host") or name
        weight = bounded(variables.get("load_balancer_weight", 100), 0, 256, f"{PREFIX}weight of {name}", "shares")
        address = f"{address}:{variables.get('flask_apps_http_port') or 80}"
        found.append({"name": name, "address": address, "weight": weight})
    return found


def backend(app: Mapping[str, Any]) -> dict[str, Any]:
    """What is to be known of an app; no secret is in it.

    :raises Refused: when it cannot be served through a balancer.
    """
    where = f"flask_apps[{app['name']}]"
    if app["tls"]["mode"] != "off":
        fail(
            f"{where}.tls.mode",
            f"is {app['tls']['mode']}, but the load balancer speaks HTTP to the web hosts: set it to off, and give the "
            "certificate to load_balancer_certificates.",
        )
    names = [*app["domains"], *app["redirect_domains"]]
    return {
        "name": app["name"],
        "domains": [name for name in names if not name.startswith("*.")],
        "endings": [name[1:] for name in names if name.startswith("*.")],
        # The owner of a domain gets what no path of another app takes.
        "path": app["path"] if mounted(app) else "",
        "health": dict(app["health"]),
        "health_host": [*app["domains"], "localhost"][0].replace("*", "health"),
        "seconds": app["max_request_seconds"],
    }


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
        if not variables.get("flask_apps_trusted_proxies"):
            raise Refused(
                f"flask_apps_trusted_proxies is empty on {host}: name the addresses of the load balancers there, or "
                "its apps take the balancer for their client."
            )
        for app in complete_apps(variables.get("flask_apps") or [], tls=variables.get("flask_apps_tls") or {}):
            if app["state"] == "present":
                apps.setdefault(app["name"], {**backend(app), "servers": []})["servers"].append(host)
    known = {one["name"]: one for one in servers(hosts)}
    for one in apps.values():
        one["servers"] = [known[host] for host in one["servers"]]
        if not any(server["weight"] for server in one["servers"]):
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
