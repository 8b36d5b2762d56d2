"""HTTPS of an app, and the CA: what the user wrote, complete and checked. No certificate is read here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.dns import complete_dns
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused, bounded, fail, given

MODES = ("off", "selfsigned", "provided", "acme")
FILES = ("certificate", "key")
CHALLENGES = ("http", "dns")
LETSENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
STAGING = "https://acme-staging-v02.api.letsencrypt.org/directory"
KEY_TYPES = ("ecdsa", "rsa")
TWO_YEARS = 63072000
URL = re.compile(r"https://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~/-]*)?\Z")
EMAIL = re.compile(r"[^@\s\"']+@[^@\s\"']+\Z")
# Values of certbot's configuration file, each on a line of its own
WORD = re.compile(r"[A-Za-z0-9._~+/=-]+\Z")


def _mode(value: Any, where: str) -> str:
    # YAML takes the word off for the boolean.
    mode = "off" if value in (None, False, "False") else value
    if mode not in MODES:
        fail(where, f"is {value!r}, but must be one of {', '.join(MODES)}.")
    return str(mode)


def _challenge(chosen: Mapping[str, Any], mode: str, domains: Sequence[str], where: str, called: str) -> str:
    """How an app's CA is to check its domains; empty for an app without one.

    :param where: the app, and `called`: the option, as in a refusal.
    """
    challenge = chosen.get("challenge", "http")
    if challenge not in CHALLENGES:
        fail(called, f"is {challenge!r}, but must be one of {', '.join(CHALLENGES)}.")
    if mode != "acme":
        if "challenge" in chosen and called.startswith(where):
            fail(called, f"goes with mode: acme only, but the mode is {mode}: remove it, or set the mode.")
        return ""
    if not domains:
        fail(f"{where}.domains", "is empty, but a CA needs names to certify: list them, or set tls.mode.")
    if addresses := [domain for domain in domains if re.fullmatch(r"[0-9.]+", domain)]:
        sentence = "but certbot asks for host names only: give one, or set tls.mode."
        fail(f"{where}.domains", f"has {addresses[0]}, {sentence}")
    wild = [domain for domain in domains if domain.startswith("*.")]
    if wild and challenge == "http":
        sentence = "which a CA checks in the DNS only: set tls.challenge: dns, or name each domain."
        fail(f"{where}.domains", f"has {wild[0]}, {sentence}")
    return str(challenge)


def complete_tls(
    own: Mapping[str, Any] | None, common: Mapping[str, Any] | None, domains: Sequence[str], where: str
) -> dict[str, Any]:
    """HTTPS of an app.

    :param own: ``tls`` of the app.
    :param common: ``flask_apps_tls``, which holds for whatever the app does not set.
    :param where: the app, as in a refusal.
    :raises Refused: with one sentence that names the variable and the cure.
    """
    chosen = {**given(common), **given(own)}

    def called(option: str) -> str:
        return f"{where}.tls.{option}" if option in given(own) else f"flask_apps_tls.{option}"

    mode = _mode(chosen.get("mode"), called("mode"))
    for option in FILES:
        value = chosen.get(option)
        if mode == "provided" and not isinstance(value, str):
            place = f"{where}.tls.{option}"
            fail(place, "is missing, but mode: provided needs it: name a file of this machine, or write its content.")
        if mode != "provided" and option in given(own):
            fail(called(option), f"goes with mode: provided only, but the mode is {mode}: remove it, or set the mode.")
    seconds = bounded(chosen.get("hsts_seconds") or 0, 0, TWO_YEARS, called("hsts_seconds"), "seconds")
    if mode == "off" and "hsts_seconds" in given(own) and seconds:
        fail(called("hsts_seconds"), "needs HTTPS: set the mode, or remove it.")
    challenge = _challenge(chosen, mode, domains, where, called("challenge"))
    files = {option: chosen[option] if mode == "provided" else "" for option in FILES}
    return {"mode": mode, "hsts_seconds": seconds, "challenge": challenge, **files}


# The variables of the role certificates that say it, without their prefix.
ACME = (
    "acme_server", "acme_staging", "acme_email", "acme_eab_kid", "acme_eab_hmac_key", "acme_ca", "acme_dns", "key_type",
)  # fmt: skip


def complete_acme(values: Mapping[str, Any]) -> dict[str, Any]:
    """The CA that signs.

    :param values: the variables of the role certificates, without their prefix; empty ones are not set.
    :raises Refused: with one sentence that names the variable and the cure.
    """
    chosen = {**given(values)}
    server, staging = chosen.get("acme_server", ""), bool(chosen.get("acme_staging"))
    if server and staging:
        raise Refused("certificates_acme_staging is for Let's Encrypt, but certificates_acme_server is set: remove it.")
    if server and not (isinstance(server, str) and URL.match(server)):
        fail("certificates_acme_server", f"is {server!r}, but must be an address like {LETSENCRYPT}.")
    email = chosen.get("acme_email", "")
    if email and not (isinstance(email, str) and EMAIL.match(email)):
        fail("certificates_acme_email", f"is {email!r}, but must be an e-mail address like ops@example.com.")
    key_type = chosen.get("key_type", "ecdsa")
    if key_type not in KEY_TYPES:
        fail("certificates_key_type", f"is {key_type!r}, but must be one of {', '.join(KEY_TYPES)}.")
    eab = {option: chosen.get(option, "") for option in ("acme_eab_kid", "acme_eab_hmac_key")}
    for option, value in eab.items():
        if not value and any(eab.values()):
            fail(f"certificates_{option}", "is missing, but the CA gave it with the other one: set both.")
        if value and not (isinstance(value, str) and WORD.match(value)):
            fail(f"certificates_{option}", "must be one word of letters, digits and . _ ~ + / = -, as the CA gave it.")
    return {
        "server": server or (STAGING if staging else LETSENCRYPT),
        "email": email,
        "key_type": key_type,
        "eab_kid": eab["acme_eab_kid"],
        "eab_hmac_key": eab["acme_eab_hmac_key"],
        "ca": chosen.get("acme_ca", ""),
        "dns": complete_dns(chosen.get("acme_dns")),
    }
