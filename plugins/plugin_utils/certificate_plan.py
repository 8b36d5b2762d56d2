"""What a run is about to change in the certificates of a host."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils.certificate import late
from ansible_collections.flaskops.emperor.plugins.plugin_utils.app_files import as_wanted
from ansible_collections.flaskops.emperor.plugins.plugin_utils.plan import https

RENEW_SELF_SIGNED = 30  # days before its end; nothing else renews it

# On hosts that ask a CA
WEBROOT = "/var/lib/flask_apps_acme"
HOOK = "/etc/letsencrypt/renewal-hooks/deploy/flask_apps"
CA = "/etc/letsencrypt/flask_apps-ca.pem"
DROP_IN = "/etc/systemd/system/certbot.service.d/flask_apps.conf"
MANAGED = "# Ansible managed\n"


def names_of(app: Mapping[str, Any]) -> list[str]:
    """The names that the app's certificate must have."""
    return [*app["domains"], *app["redirect_domains"]] or ["localhost"]


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


def host_files(hook: str, ca: str) -> list[dict[str, str]]:
    """What a host needs that asks a CA.

    :param hook: text of the program that certbot runs after it renewed a certificate.
    :param ca: certificate of the CA of the ACME server, when it is not a public one.
    """
    owned = {"owner": "root", "group": "root"}
    told = f"{MANAGED}[Service]\nEnvironment=REQUESTS_CA_BUNDLE={CA}\n"
    own_ca = [{"path": CA, "content": ca, "mode": "0644"}, {"path": DROP_IN, "content": told, "mode": "0644"}]
    gone = [{"path": CA, "state": "absent"}, {"path": DROP_IN, "state": "absent"}]
    return [
        {**owned, **entry}
        for entry in [
            {"path": WEBROOT, "state": "directory", "mode": "0755"},
            {"path": HOOK, "content": hook, "mode": "0755"},
            *(own_ca if ca else gone),
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
