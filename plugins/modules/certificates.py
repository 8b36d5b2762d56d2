#!/usr/bin/python
"""Ansible module: bring the certificates of a host's apps to where nginx reads them."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils import certificate, host
from ansible_collections.flaskops.emperor.plugins.module_utils.module import Module

DOCUMENTATION = r"""
module: certificates
short_description: Bring the certificates of apps to where nginx reads them
version_added: 1.0.0
description:
  - Writes a certificate that the user provides, makes a self-signed one, or requests one from a CA with certbot, which
    answers the CA's questions through nginx.
  - When the CA does not sign, the app keeps the certificate it has, or gets that of the app that had its domains
    before, or a self-signed one, and RV(told) says what is missing. The module does not fail then.
  - Does not reload nginx.
options:
  purpose:
    description:
      - V(get) gets each certificate for which there is a reason.
      - V(reissue) requests one with another key in any case, and fails when the CA does not sign.
      - V(revoke) revokes all certificates of certbot before the one it has now, as those whose key somebody else may
        have.
    type: str
    choices: [get, reissue, revoke]
    default: get
  apps:
    description:
      - The apps. Each has a C(name), a C(mode) (V(provided), V(selfsigned) or V(acme)) and the C(names) of its
        certificate.
      - For V(acme) its C(challenge) is V(webroot), or certbot's plugin for DNS, like V(dns-rfc2136), followed by a
        space and the number of seconds to wait if that is not the plugin's own.
    type: list
    elements: dict
    default: []
  contents:
    description: For V(provided), certificate and key by the app's name.
    type: dict
    default: {}
  forget:
    description: Names of apps, with V(true) where the file of nginx is to be removed, too, besides certbot's.
    type: dict
    default: {}
  acme:
    description: The CA. Its C(server), the C(email) of the account, the C(key_type) and C(eab_kid).
    type: dict
    default: {}
  eab_hmac_key:
    description: The secret that goes with C(eab_kid).
    type: str
    default: ""
  credentials:
    description: With what the plugin for DNS logs in, as it reads it. Without, its file is removed once it is unused.
    type: str
    default: ""
  environment:
    description: What the plugin for DNS finds in its environment, also when certbot's timer renews.
    type: dict
  webroot:
    description: Directory in which nginx finds the answers to the CA's questions.
    type: path
  ca:
    description: File with the CA's own certificate, when it is not a public one.
    type: path
  directory:
    description: Directory with a file for each app.
    type: path
    default: /etc/nginx/certificates
attributes:
  check_mode:
    description: Says what would be done, and asks no CA.
    support: full
  diff_mode:
    description: Shows names and days of the certificates, never a key.
    support: full
author:
  - flaskops maintainers (@flaskops)
"""

EXAMPLES = r"""
- name: Request a certificate
  flaskops.emperor.certificates:
    apps: [{name: shop, mode: acme, names: [shop.example.com]}]
    acme: {server: https://acme-v02.api.letsencrypt.org/directory, email: ops@example.com, key_type: ecdsa}
    webroot: /var/lib/flask_apps_acme
"""

RETURN = r"""
written:
  description: Names of the apps that have another certificate now.
  type: list
  elements: str
  returned: always
told:
  description: What the CA has against each certificate that it did not sign, or what was revoked, a sentence each.
  type: list
  elements: str
  returned: always
"""

SELF_SIGNED_DAYS = 820  # browsers believe no certificate for longer, even if the user trusts it
REQUEST_SECONDS = 300
# What certbot prints around the reason
DETAIL = re.compile(r"^\s*Detail: (.+)$", re.MULTILINE)
NOISE = re.compile(
    r"^(Saving debug log|Ask for help|See the logfile|Requesting|Renewing|Some challenges|Hint:|Account reg)"
)
LONGEST_WAIT = 120  # of the plugins for DNS, for the change to spread, when nothing is set


def by_dns(app: dict[str, Any]) -> tuple[str, str]:
    """certbot's plugin for DNS, and the seconds that it is to wait; both may be empty."""
    plugin, _space, seconds = app.get("challenge", "webroot").partition(" ")
    return ("", "") if plugin == "webroot" else (plugin, seconds)


def settings(app: dict[str, Any], params: dict[str, Any]) -> str:
    """certbot's configuration file: in a command, everyone on the host could see the secret."""
    acme, (plugin, seconds) = params["acme"], by_dns(app)
    challenge = {"authenticator": "webroot", "webroot-path": params["webroot"]}
    if plugin:
        challenge = {
            "authenticator": plugin,
            f"{plugin}-credentials": certificate.credentials_file() if params["credentials"] else "",
            f"{plugin}-propagation-seconds": seconds,
        }
    values = {
        "non-interactive": "true",
        "agree-tos": "true",
        "max-log-backups": "10",
        **challenge,
        "server": acme["server"],
        "key-type": acme["key_type"],
        "email": acme["email"],
        "register-unsafely-without-email": "" if acme["email"] else "true",
        "eab-kid": acme["eab_kid"],
        "eab-hmac-key": params["eab_hmac_key"],
    }
    return "".join(f"{name} = {value}\n" for name, value in values.items() if value)


def reason(output: str) -> str:
    """Why certbot failed, as far as it says so in one line."""
    if details := DETAIL.findall(output):
        return str(details[0]).strip().rstrip(".")
    lines = [line.strip() for line in output.splitlines() if line.strip() and not NOISE.match(line.strip())]
    # The last line of an exception is the one that says what happened.
    told = lines[-1] if lines else "it gave no reason"
    return told[:400].lstrip("* ").rstrip(".")


def configured(app: dict[str, Any], params: dict[str, Any], scratch: str) -> tuple[list[str], dict[str, str]]:
    """The options of certbot that say which CA it asks, and its environment."""
    file = os.path.join(scratch, "certbot.ini")
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as opened:
        opened.write(settings(app, params))
    own_ca = {"REQUESTS_CA_BUNDLE": params["ca"]} if params["ca"] else {}
    return ["--config", file], {**os.environ, **own_ca, **(params["environment"] or {})}


def certbot(command: list[str], environment: dict[str, str], waits: int = 0) -> str:
    """Run it; returns why it failed, which is empty when it did not.

    :param waits: the seconds for which it does nothing.
    """
    limit = REQUEST_SECONDS + waits
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=limit)
    except subprocess.TimeoutExpired:
        return f"no answer within {limit} s"
    return "" if done.returncode == 0 else reason(done.stdout + done.stderr)


def request(app: dict[str, Any], params: dict[str, Any], scratch: str) -> str:
    """Let the CA sign; returns what it has against that, which is empty when it did."""
    options, environment = configured(app, params, scratch)
    plugin, seconds = by_dns(app)
    command = ["certbot", "certonly", *options, "--cert-name", certificate.PREFIX + app["name"]]
    # The plan asks only when there is a reason to, of which certbot knows nothing (another CA, for one).
    command += ["--force-renewal", "--renew-with-new-domains", "--domains", ",".join(app["names"])]
    return certbot(command, environment, int(seconds or LONGEST_WAIT) if plugin else 0)


def revoke(app: dict[str, Any], params: dict[str, Any], scratch: str) -> list[str]:
    """Let the CA revoke the certificates before the one that certbot has now. Returns the files of those it did revoke.

    :raises RuntimeError: for one that it does not revoke.
    """
    options, environment = configured(app, params, scratch)
    done = []
    for path in certificate.earlier(app["name"]):
        command = ["certbot", "revoke", *options, "--cert-path", path, "--reason", "keycompromise"]
        why = certbot([*command, "--no-delete-after-revoke"], environment)
        if why and "already revoked" not in why.lower():
            raise RuntimeError(f"the CA did not revoke {path}: {why}. Run again, or revoke it with certbot on the host")
        done += [] if why else [path]
    return done


def sentence(app: dict[str, Any], why: str, serves: str) -> str:
    """What is missing, for a person."""
    check = f"that {', '.join(app['names'])} leads to this host's port 80 and that this host reaches the CA"
    if by_dns(app)[0]:
        check = (
            "certificates_acme_dns (if the CA saw no record, its propagation_seconds), and that this host reaches the "
            "DNS provider and the CA"
        )
    return f"The CA signed no certificate for {app['name']}, which {serves}: {why}. Check {check}, then run again."


def of_another(app: dict[str, Any], directory: str) -> str:
    """The app whose certificate serves these names until now, when a CA signed that: another app got its domains."""
    for name, found in certificate.describe_all(directory).items():
        signed = found["there"] and not found["self_signed"] and found["days"] >= 0
        if name != app["name"] and signed and set(app["names"]) <= set(found["names"]):
            return name
    return ""


def wanted(app: dict[str, Any], params: dict[str, Any], told: list[str], scratch: str) -> bytes:
    """The file that an app is to have; empty when it keeps the one it has."""
    name, path = app["name"], os.path.join(params["directory"], f"{app['name']}.pem")
    if app["mode"] == "provided":
        return str(params["contents"][name]).encode()
    if app["mode"] == "selfsigned":
        return certificate.self_signed(name, app["names"], SELF_SIGNED_DAYS)
    found = certificate.describe(path, name)
    if params["purpose"] == "reissue":
        if why := request(app, params, scratch):
            raise RuntimeError(f"{why}. It keeps the one it has, which is not revoked")
        return certificate.lineage(name)
    # What certbot renewed without its hook getting to its end needs no CA.
    fits = found["lineage"] and not found["installed"] and found["server"] == params["acme"]["server"]
    fits = fits and found["challenge"] == app.get("challenge", "webroot")
    why = "" if fits else request(app, params, scratch)
    if not why:
        return certificate.lineage(name)
    if found["there"] and not found["self_signed"]:
        told.append(sentence(app, why, "keeps the certificate it has"))
        return b""
    if other := of_another(app, params["directory"]):
        told.append(sentence(app, why, f"takes over that of {other}"))
        return certificate.read(os.path.join(params["directory"], f"{other}.pem"))
    told.append(sentence(app, why, "gets a self-signed certificate and no redirect"))
    if found["there"] and found["names"] == sorted(app["names"]):
        return b""
    return certificate.self_signed(name, app["names"], SELF_SIGNED_DAYS)


def shown(path: str, name: str) -> str:
    """A certificate as a diff shows it."""
    found = certificate.describe(path, name)
    if not found["there"]:
        return ""
    kind = "self-signed" if found["self_signed"] else "signed"
    return f"{kind}, for {', '.join(found['names'])}, {found['days']} days left\n"


def log_in(module: Module) -> list[dict[str, str]]:
    """Let the plugin for DNS have its credentials and environment, and no others; returns what changed, no secret."""
    text, told = module.params["credentials"], module.params["environment"]
    # Without settings for DNS, what certbot needs to renew stays.
    kept = certificate.dns_used() if told is None else False
    return [
        *secret_file(module, certificate.credentials_file(), text, certificate.credentials_used()),
        *secret_file(module, certificate.environment_file(), certificate.environment_text(told or {}), kept),
    ]


def secret_file(module: Module, path: str, text: str, used: bool) -> list[dict[str, str]]:
    """Let a file that root alone may read have this text; without one remove it, unless it is used."""
    there = os.path.exists(path)
    if text and there and certificate.read(path) == text.encode() and os.stat(path).st_mode & 0o777 == 0o600:
        return []
    if not text and (not there or used):
        return []
    if text and not module.check_mode:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        host.write(path, text, os.geteuid(), os.getegid(), 0o600)
    elif not module.check_mode:
        os.unlink(path)
    shown = {"before": "what it had is not shown\n" if there else "", "after": "not shown\n" if text else ""}
    return [{"before_header": path, "after_header": path, **shown}]


def forget(module: Module, name: str, file: bool) -> bool:
    """Take away what an app no longer needs; returns whether there was something."""
    path = os.path.join(module.params["directory"], f"{name}.pem")
    conf = os.path.join(certificate.LETSENCRYPT, "renewal", f"{certificate.PREFIX}{name}.conf")
    there = [one for one in ([path] if file else []) + [conf] if os.path.lexists(one)]
    if module.check_mode:
        return bool(there)
    if conf in there:
        command = ["certbot", "delete", "--non-interactive", "--cert-name", certificate.PREFIX + name]
        module.run_command(command, check_rc=True)
    if path in there:
        os.unlink(path)
    return bool(there)


def main() -> None:
    """Get each certificate, write it."""
    module = Module(
        argument_spec={
            "apps": {"type": "list", "elements": "dict", "default": []},
            "contents": {"type": "dict", "default": {}, "no_log": True},
            "forget": {"type": "dict", "default": {}},
            "purpose": {"type": "str", "choices": ["get", "reissue", "revoke"], "default": "get"},
            "acme": {"type": "dict", "default": {}},
            "eab_hmac_key": {"type": "str", "default": "", "no_log": True},
            "credentials": {"type": "str", "default": "", "no_log": True},
            "environment": {"type": "dict", "no_log": True},
            "webroot": {"type": "path"},
            "ca": {"type": "path"},
            "directory": {"type": "path", "default": "/etc/nginx/certificates"},
        },
        supports_check_mode=True,
    )
    params, written = module.params, []
    # A plugin needs them before it works; they are removed when no certificate needs them any more.
    first = bool(params["credentials"] or params["environment"])
    logged_in = log_in(module) if first else []
    diff = [*logged_in]
    told, revoked = list[str](), list[str]()
    with tempfile.TemporaryDirectory(dir=module.tmpdir) as scratch:
        for app in params["apps"]:
            path = os.path.join(params["directory"], f"{app['name']}.pem")
            header = {"before_header": path, "after_header": path, "before": shown(path, app["name"])}
            if module.check_mode:
                written.append(app["name"])
                diff.append({**header, "after": f"{app['mode']}, for {', '.join(app['names'])}\n"})
                continue
            try:
                if params["purpose"] == "revoke":
                    done = revoke(app, params, scratch)
                    revoked += done
                    told += [f"{app['name']}: another certificate with another key, {len(done)} before it revoked."]
                    continue
                content = wanted(app, params, told, scratch)
            except (OSError, RuntimeError) as error:
                what = {"get": "There is no certificate", "reissue": "The CA signed no other certificate",
                        "revoke": "Not all old certificates are revoked"}[params["purpose"]]  # fmt: skip
                module.fail_json(msg=f"{what} for {app['name']}: {error}.", written=written)
            if content and content != certificate.read(path):
                certificate.install(path, content)
                written.append(app["name"])
                diff.append({**header, "after": shown(path, app["name"])})
    gone = [name for name, file in params["forget"].items() if forget(module, name, bool(file))]
    if not first:
        logged_in = log_in(module)
        diff += logged_in
    module.exit_json(changed=bool(written or gone or revoked or logged_in), written=written, told=told, diff=diff)


if __name__ == "__main__":
    main()
