"""Certificates that the user brings: read on this machine, and checked before anything changes on a host."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import fail
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

BEGIN = "-----BEGIN "
LEAST_BITS = 2048  # of an RSA key: Debian's OpenSSL refuses shorter ones


def text_of(value: str, base: str, where: str, read: Callable[[str], str]) -> str:
    """The PEM text of a setting: its content, or that of the file it names.

    :param base: directory in which a relative path starts.
    :param read: reads a file, which may be a vault.
    :raises Refused: when there is no such file.
    """
    if BEGIN in value:
        return value
    path = os.path.join(base, os.path.expanduser(value))
    if not os.path.isfile(path):
        fail(where, f"is {value}, which is no file on the machine that runs Ansible: correct the path.")
    try:
        return read(path)
    except Exception as error:  # Ansible's own: a vault without its password, for one
        fail(where, f"is {value}, which cannot be read ({' '.join(str(error).split())}): correct that.")


def load_chain(text: str, where: str) -> list[x509.Certificate]:
    """All certificates of a text, in their order.

    :raises Refused: when it has none.
    """
    try:
        return x509.load_pem_x509_certificates(text.encode())
    except ValueError:
        fail(where, "has no certificate in PEM form (-----BEGIN CERTIFICATE-----): convert it with `openssl x509`.")


def load_key(text: str, where: str) -> Any:
    """The private key of a text.

    :raises Refused: when it is none that nginx could use.
    """
    try:
        key = serialization.load_pem_private_key(text.encode(), None)
    except TypeError:
        fail(where, "is protected by a passphrase, for which nginx cannot ask: remove it with `openssl pkey`.")
    except (ValueError, UnsupportedAlgorithm):
        fail(where, "is no private key in PEM form (-----BEGIN PRIVATE KEY-----): convert it with `openssl pkey`.")
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < LEAST_BITS:
        fail(where, f"has {key.key_size} bits, but clients want {LEAST_BITS} at least: make a new key.")
    return key


def public(one: Any) -> bytes:
    """The public key of a certificate or of a private key."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return bytes(one.public_key().public_bytes(serialization.Encoding.DER, form))


def names_of(certificate: x509.Certificate) -> list[str]:
    """The names that clients accept for it."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return [str(name).lower() for name in found.value.get_values_for_type(x509.DNSName)]


def covers(names: Sequence[str], domain: str) -> bool:
    """Whether one of the names is the domain, or a wildcard for it (which stands for one label)."""
    return domain in names or "*." + domain.partition(".")[2] in names


def _until(certificate: x509.Certificate) -> datetime:
    # cryptography 42 has the one with a time zone, and warns about the other.
    found = getattr(certificate, "not_valid_after_utc", None)
    return found or certificate.not_valid_after.replace(tzinfo=timezone.utc)


def _from(certificate: x509.Certificate) -> datetime:
    found = getattr(certificate, "not_valid_before_utc", None)
    return found or certificate.not_valid_before.replace(tzinfo=timezone.utc)


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    if not hasattr(certificate, "verify_directly_issued_by"):  # cryptography older than 40
        return bool(certificate.issuer == issuer.subject)
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, TypeError, ValueError):
        return False
    return True


def check_order(chain: Sequence[x509.Certificate], key: Any, where: str) -> None:
    """See that the key fits the first certificate, and that each certificate is signed by the one after it.

    :raises Refused: when it is not so.
    """
    fits = [number for number, one in enumerate(chain, 1) if public(one) == public(key)]
    if not fits:
        fail(f"{where}.key", "does not fit the certificate: use the key with which that one was requested.")
    if fits[0] != 1:
        sentence = f"has the app's own certificate in place {fits[0]}: put it first, then those that sign it, in turn."
        fail(f"{where}.certificate", sentence)
    for number, (one, issuer) in enumerate(zip(chain, chain[1:]), 1):
        if not _issued(one, issuer):
            sentence = (
                f"is no chain: certificate {number + 1} in it did not sign certificate {number}; correct the order."
            )
            fail(f"{where}.certificate", sentence)


def check_times(chain: Sequence[x509.Certificate], where: str, now: datetime) -> None:
    """See that every certificate is valid now.

    :raises Refused: for the first that is not.
    """
    for number, one in enumerate(chain, 1):
        if _until(one) <= now:
            which = f" (number {number} of it)" if number > 1 else ""
            fail(f"{where}.certificate", f"expired on {_until(one):%Y-%m-%d}{which}: renew it.")
    if _from(chain[0]) > now:
        fail(f"{where}.certificate", f"is not valid before {_from(chain[0]):%Y-%m-%d %H:%M} UTC: wait, or use another.")


def check(chain_text: str, key_text: str, domains: Sequence[str], where: str) -> str:
    """Check a certificate with its chain and its key.

    :param domains: of the app; any certificate will do for one without.
    :param where: of the app's TLS settings, as in a refusal.
    :returns: the text of the file that nginx reads.
    :raises Refused: with one sentence that names the variable and the cure.
    """
    chain = load_chain(chain_text, f"{where}.certificate")
    key = load_key(key_text, f"{where}.key")
    check_order(chain, key, where)
    check_times(chain, where, datetime.now(timezone.utc))
    names = names_of(chain[0])
    for domain in domains:
        if not covers(names, domain):
            told = ", ".join(names) or "no name at all"
            fail(f"{where}.certificate", f"is for {told}, but not for {domain}: request it for all domains.")
    return "".join(one.public_bytes(serialization.Encoding.PEM).decode() for one in chain) + key_text.strip() + "\n"


def provided(app: Mapping[str, Any], base: str, read: Callable[[str], str]) -> str:
    """The file for nginx of an app that brings its certificate; empty for any other.

    :param app: completed by `complete_apps`.
    :raises Refused: with one sentence that names the variable and the cure.
    """
    if app["state"] == "absent" or app["tls"]["mode"] != "provided":
        return ""
    where = f"flask_apps[{app['name']}].tls"
    chain, key = (text_of(app["tls"][option], base, f"{where}.{option}", read) for option in ("certificate", "key"))
    return check(chain, key, [*app["domains"], *app["redirect_domains"]], where)


def ca_text(acme: Mapping[str, Any], base: str, read: Callable[[str], str]) -> str:
    """The certificate of the CA by which certbot knows the ACME server; empty for a public one.

    :param acme: see `complete_acme`.
    :raises Refused: when it is none.
    """
    if not acme["ca"]:
        return ""
    text = text_of(acme["ca"], base, "certificates_acme_ca", read)
    load_chain(text, "certificates_acme_ca")
    return text
