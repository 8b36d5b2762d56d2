"""What a run is about to change in the certificates of a host."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils.certificate import (
    credentials_file,
    environment_file,
    environment_text,
    late,
)
from ansible_collections.flaskops.emperor.plugins.plugin_utils.app_files import as_wanted
from ansible_collections.flaskops.emperor.plugins.plugin_utils.plan import Host, Wanted, https
from ansible_collections.flaskops.emperor.plugins.plugin_utils.provided import ca_text, provided
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.dns import VARIABLE
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.mounts import mounted
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.tls import complete_acme
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import fail

RENEW_SELF_SIGNED = 30  # days before its end; nothing else renews it

# On hosts that ask a CA
WEBROOT = "/var/lib/flask_apps_acme"
HOOK = "/etc/letsencrypt/renewal-hooks/deploy/flask_apps"
CA = "/etc/letsencrypt/flask_apps-ca.pem"
DROP_IN = "/etc/systemd/system/certbot.service.d/flask_apps.conf"
MANAGED = "# Ansible managed\n"


def names_of(app: Mapping[str, Any]) -> list[str]:
    """The names that the app's certificate must have.

    None that a wildcard among them covers: CAs refuse a request with both.
    """
    names = [*app["domains"], *app["redirect_domains"]] or ["localhost"]
    wild = [name for name in names if name.startswith("*.")]
    return [name for name in names if name in wild or "*." + name.partition(".")[2] not in wild]


def challenge_of(app: Mapping[str, Any], acme: Mapping[str, Any]) -> str:
    """How certbot lets the CA check the app's domains, as `certificate.describe` says it of a certificate.

    :param acme: the CA, see `complete_acme`.
    """
    if app["tls"]["challenge"] != "dns":
        return "webroot"
    return f"dns-{acme['dns']['plugin']} {acme['dns']['seconds']}".strip()


def todo(app: Mapping[str, Any], found: Mapping[str, Any] | None, text: str, acme: Mapping[str, Any]) -> str:
    """What is to be done about the certificate of an app, as a phrase for a person; empty when it is as it should be.

    :param app: completed by `complete_apps`, to be served by HTTPS.
    :param found: what the host said of it, see `certificate.describe`; None without any.
    :param text: the certificate and key that the user provides.
    :param acme: the CA, see `complete_acme`.
    """
    mode = app["tls"]["mode"]
    if not found or not found["there"]:
        return "new certificate"
    if mode == "provided":
        return "" if found["digest"] == hashlib.sha256(text.encode()).hexdigest() else "other certificate"
    others = sorted(names_of(app)) != found["names"]
    if mode == "selfsigned":
        soon = found["days"] < RENEW_SELF_SIGNED
        return "new self-signed certificate" if not found["self_signed"] or others or soon else ""
    if not found["lineage"]:
        return "certificate to be requested from the CA"
    if others:
        return "certificate for other domains"
    if found["server"] != acme["server"]:
        return "certificate of another CA"
    if found["key_type"] != acme["key_type"]:
        return "certificate with another kind of key"
    if found["challenge"] != challenge_of(app, acme):
        return "certificate by another challenge"
    if not found["installed"]:
        return "renewed certificate to be put in place"
    return f"certificate that ends in {found['days']} days" if late(found) else ""


def certified(app: Mapping[str, Any]) -> bool:
    """Whether an app has a certificate of its own: it owns its domains, and is to be served by HTTPS."""
    return https(app) and app["owner"] == app["name"]


def redirected(app: Mapping[str, Any], found: Mapping[str, Any] | None) -> bool:
    """Whether HTTP is redirected to HTTPS: not before the CA signed, for clients would get a warning."""
    return certified(app) and (
        app["tls"]["mode"] != "acme" or bool(found and found["there"] and not found["self_signed"])
    )


def unused(apps: Iterable[Mapping[str, Any]], found: Mapping[str, Mapping[str, Any]]) -> dict[str, bool]:
    """The apps of which something is to be taken away: the file for nginx, too, or only what certbot keeps (False).

    An app that is no longer in the list goes on running, and keeps its certificate. One that is to be absent loses it
    together with all else.
    """
    result = {}
    for app in apps:
        one = found.get(app["name"])
        if not one or app["state"] == "absent":
            continue
        if not certified(app):
            result[app["name"]] = True
        elif app["tls"]["mode"] != "acme" and one["lineage"]:
            result[app["name"]] = False
    return result


def problem(app: Mapping[str, Any], found: Mapping[str, Any] | None) -> str:
    """What is wrong with the certificate that an app has, as a sentence with its cure; empty when nothing is."""
    if not certified(app):
        return ""
    name, mode = app["name"], app["tls"]["mode"]
    if not found or not found["there"]:
        return f"The app {name} has no certificate: run playbooks/site.yml."
    if mode == "acme" and found["self_signed"]:
        return f"The app {name} has no certificate of the CA yet: run playbooks/site.yml, which says what is missing."
    if late(found):
        cure = f"set flask_apps[{name}].tls.certificate and key to a new one, and run" if mode == "provided" else "run"
        said = "expired" if found["days"] < 0 else f"ends in {found['days']} days"
        return f"The certificate of {name} {said}: {cure} playbooks/site.yml."
    return ""


def days(app: Mapping[str, Any], found: Mapping[str, Any] | None) -> int | None:
    """For how many days the certificate of an app is valid; None without one."""
    return int(found["days"]) if found and found["there"] and certified(app) else None


def line(app: Mapping[str, Any], found: Mapping[str, Any] | None) -> str:
    """How long the certificate of an app is valid, for a person; empty without HTTPS."""
    if not certified(app) or not found or not found["there"]:
        return ""
    kind = "self-signed certificate" if found["self_signed"] else "certificate"
    return f"{app['name']}: {kind}, {max(found['days'], 0)} days left"


def credentials(acme: Mapping[str, Any]) -> list[dict[str, str]]:
    """What a plugin for DNS reads, also when it renews; not with the other files, as it is secret."""
    dns = acme.get("dns", {})
    files = {credentials_file(): dns.get("content"), environment_file(): environment_text(dns.get("environment", {}))}
    owned = {"owner": "root", "group": "root", "mode": "0600"}
    return [{"path": path, "content": content, **owned} for path, content in files.items() if content]


def host_files(hook: str, ca: str, environment: bool = False) -> list[dict[str, str]]:
    """What a host needs that asks a CA.

    :param hook: text of the program that certbot runs after it renewed a certificate.
    :param ca: certificate of the CA of the ACME server, when it is not a public one.
    :param environment: whether a plugin for DNS has one.
    """
    owned = {"owner": "root", "group": "root"}
    told = f"Environment=REQUESTS_CA_BUNDLE={CA}\n" if ca else ""
    told += f"EnvironmentFile=-{environment_file()}\n" if environment else ""
    texts = {CA: ca, DROP_IN: told and f"{MANAGED}[Service]\n{told}"}
    return [
        {**owned, **entry}
        for entry in [
            {"path": WEBROOT, "state": "directory", "mode": "0755"},
            {"path": HOOK, "content": hook, "mode": "0755"},
            *(
                {"path": path, "content": text, "mode": "0644"} if text else {"path": path, "state": "absent"}
                for path, text in texts.items()
            ),
        ]
    ]


def location(nginx: str) -> dict[str, str]:
    """nginx's answer to the questions of a CA, which all sites take in: also one that had no certificate before."""
    text = f"location ^~ /.well-known/acme-challenge/ {{\n    root {WEBROOT};\n    default_type text/plain;\n}}\n"
    path = os.path.join(nginx, "certificates/acme.location")
    return {"path": path, "content": MANAGED + text, "owner": "root", "group": "root", "mode": "0644"}


def right(entry: Mapping[str, str], found: Mapping[str, Any] | None) -> bool:
    """Whether a file of `host_files` is as it should be."""
    return found is None if entry.get("state") == "absent" else as_wanted(entry, found)


def lines(apps: Sequence[Mapping[str, Any]], found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """How long the certificates are valid, a line for each."""
    return [text for app in apps if (text := line(app, found.get(app["name"])))]


class Certificates:
    """The certificates of the apps at work: the settings, checked, and what they mean for the host.

    :param chosen: completed by `complete_apps`.
    :param apps: all apps of the host, like them.
    :param options: of the action plugin `apps_plan`.
    :param read: reads a file of this machine.
    :raises Refused: with one sentence that names the variable and the cure.
    """

    def __init__(
        self,
        chosen: Sequence[Mapping[str, Any]],
        apps: Sequence[Mapping[str, Any]],
        options: Mapping[str, Any],
        read: Callable[[str], str],
    ) -> None:
        self.acme: dict[str, Any] = {}
        self.host_files: list[dict[str, str]] = []
        self.location: list[dict[str, str]] = []
        # To look at a host, no file of this machine is needed.
        works = options["purpose"] not in ("look", "checkup")
        self.texts = {app["name"]: provided(app, options["base"], read) for app in chosen if works}
        if works and any(https(app) and app["tls"]["mode"] == "acme" for app in chosen):
            self.acme = with_dns(complete_acme(options["acme"]), apps)
            ca = ca_text(self.acme, options["base"], read)
            self.host_files = host_files(options["hook"], ca, bool(self.acme["dns"].get("environment")))
            self.location = [location(options["nginx"])]

    def entries(self) -> list[dict[str, str]]:
        """The files of the host; there is a secret in them."""
        return [*self.host_files, *self.location, *credentials(self.acme)]

    def paths(self) -> list[str]:
        """The files of the host to look at."""
        return [entry["path"] for entry in self.entries()]

    def plugins(self) -> list[str]:
        """The Debian packages of certbot's plugins."""
        dns = self.acme.get("dns")
        return [f"python3-certbot-dns-{dns['plugin']}"] if dns else []

    def check(self, state: Mapping[str, Any]) -> None:
        """Check the settings against the host.

        :raises Refused: for a plugin that its Debian does not have.
        """
        for package in state["unknown"]:
            plugin = self.acme["dns"]["plugin"]
            sentence = (
                f"is {plugin}, but apt on this host knows no package {package}: choose from `apt search certbot-dns`."
            )
            fail(f"{VARIABLE}.plugin", sentence)

    def compare(self, wanted: Sequence[Wanted], host: Host, state: dict[str, Any]) -> dict[str, Any]:
        """What is to be done, without a secret; also notes it for the plan, and for the templates in `state`."""
        found = state["certificates"]
        for one in wanted:
            if one.tls and self.texts and not mounted(one.app):
                one.certificate = todo(one.app, found.get(one.name), self.texts[one.name], self.acme)
        state["redirected"] = [app["name"] for app in host.apps if redirected(app, found.get(app["name"]))]
        gone = unused([one.app for one in wanted], found)
        leaving = {name for name, whole in gone.items() if whole}
        leaving |= {one.name for one in wanted if one.app["state"] == "absent"}
        # nginx answers unknown names by HTTPS while any site has HTTPS: until the end of a run that takes it away.
        stays = any(https(app) for app in host.apps)
        state["https"], state["https_stays"] = stays or bool(found), stays or bool(found.keys() - leaving)
        return {
            "todo": [one.name for one in wanted if one.certificate],
            "acme": bool(self.acme),
            "packages": ["openssl", *(["certbot"] if self.acme else []), *self.plugins()],
            "files": self.host_files,
            "location": self.location,
            "files_differ": not all(right(entry, state["files"][entry["path"]]) for entry in self.entries()),
            "missing": [one.name for one in wanted if one.tls and not found.get(one.app["owner"], {}).get("there")],
            "unused": gone,
            "found": list(found),
            "lines": lines([one.app for one in wanted], found),
        }


def with_dns(acme: Mapping[str, Any], apps: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The CA, with the plugin for DNS only when an app needs it.

    :param apps: all apps of the host.
    :raises Refused: when it is needed, but not set.
    """
    users = [app["name"] for app in apps if https(app) and app["tls"]["challenge"] == "dns"]
    if users and not acme["dns"]:
        sentence = (
            f"is missing, but flask_apps[{users[0]}] has tls.challenge: dns: name certbot's plugin and its credentials."
        )
        fail(VARIABLE, sentence)
    return {**acme, "dns": acme["dns"] if users else {}}
