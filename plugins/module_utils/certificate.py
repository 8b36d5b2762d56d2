"""The certificates of a host: one file per app that holds its chain and its key, and what certbot keeps beside it.

One file, so that nginx never reads a key that does not fit: it is replaced in one step.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils import host

LETSENCRYPT = "/etc/letsencrypt"
# What certbot calls the certificate of an app. An administrator may have others; those are left alone.
PREFIX = "flask_apps-"
# Days left from which on somebody must know. Of one that is short-lived by design, the last third.
LATE = 14


def late(found: Mapping[str, Any]) -> bool:
    """Whether a certificate ends so soon that its renewal must have failed.

    :param found: what `describe` says of it.
    """
    return bool(found["days"] < min(LATE, found["lifetime"] / 3))


def read(path: str) -> bytes:
    """The content of a file; empty when it is not there."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


def lineage(name: str, letsencrypt: str = LETSENCRYPT) -> bytes:
    """Chain and key of an app as certbot has them; empty when it has none."""
    live = os.path.join(letsencrypt, "live", PREFIX + name)
    parts = [read(os.path.join(live, file)) for file in ("fullchain.pem", "privkey.pem")]
    return b"".join(parts) if all(parts) else b""


def credentials_file() -> str:
    """Where certbot's plugin for DNS finds its credentials, also when it renews."""
    return os.path.join(LETSENCRYPT, "flask_apps-dns.ini")


def environment_file() -> str:
    """Where certbot's timer finds the environment of its plugin for DNS."""
    return os.path.join(LETSENCRYPT, "flask_apps-dns.env")


def environment_text(values: Mapping[str, str]) -> str:
    """The environment as systemd reads it, see EnvironmentFile= in systemd.exec(5)."""
    quoted = {name: re.sub(r'(["\\`$])', r"\\\1", value) for name, value in values.items()}
    return "".join(f'{name}="{value}"\n' for name, value in quoted.items())


def dns_used(letsencrypt: str = LETSENCRYPT) -> bool:
    """Whether certbot renews a certificate by a record in the DNS."""
    return _renewed_with(b"authenticator = dns-", letsencrypt)


def credentials_used(letsencrypt: str = LETSENCRYPT) -> bool:
    """Whether certbot would read that file to renew a certificate."""
    return _renewed_with(os.path.basename(credentials_file()).encode(), letsencrypt)


def _renewed_with(text: bytes, letsencrypt: str) -> bool:
    """Whether it is in what certbot knows of the renewal of any certificate."""
    return any(text in read(path) for path in glob.glob(os.path.join(letsencrypt, "renewal", "*.conf")))


def earlier(name: str, letsencrypt: str = LETSENCRYPT) -> list[str]:
    """The files of the certificates of an app that certbot had before the one it has now, and that are still valid."""
    now = os.path.realpath(os.path.join(letsencrypt, "live", PREFIX + name, "cert.pem"))
    others = [path for path in glob.glob(os.path.join(os.path.dirname(now), "cert*.pem")) if path != now]
    valid = ["openssl", "x509", "-noout", "-checkend", "0", "-in"]
    return [
        path
        for path in sorted(others)
        if subprocess.run([*valid, path], capture_output=True, check=False).returncode == 0
    ]


def moment(text: str) -> datetime:
    """A time as openssl prints it, like ``Nov 28 15:11:21 2027 GMT``."""
    return datetime.strptime(text, "%b %d %H:%M:%S %Y %Z").replace(tzinfo=timezone.utc)


def parse(text: str, now: datetime) -> dict[str, Any]:
    """What ``openssl x509 -subject -issuer -dates -ext subjectAltName`` printed.

    :raises KeyError: when something is missing.
    """
    lines = dict(re.findall(r"^(subject|issuer|notBefore|notAfter)=(.*)$", text, re.MULTILINE))
    begin, end = moment(lines["notBefore"]), moment(lines["notAfter"])
    return {
        "names": sorted(re.findall(r"DNS:([^,\s]+)", text)),
        "days": (end - now).days,
        "lifetime": round((end - begin).total_seconds() / 86400),
        "self_signed": lines["subject"] == lines["issuer"],
    }


def describe(path: str, name: str, letsencrypt: str = LETSENCRYPT) -> dict[str, Any]:
    """What is known of the certificate of an app.

    :param path: the file that nginx reads.
    :returns: whether it is ``there``, its ``digest``, ``names``, ``days`` left, ``lifetime`` in days, whether it is
        ``self_signed``; of certbot's whether there is a ``lineage``, its ``server``, ``key_type`` and ``challenge``
        (certbot's plugin, and for how many seconds it waits, if that is set), and whether it is ``installed`` for
        nginx.
    """
    content, kept = read(path), lineage(name, letsencrypt)
    renewal = read(os.path.join(letsencrypt, "renewal", f"{PREFIX}{name}.conf")).decode("utf-8", "replace")
    settings = dict(re.findall(r"^(\w+) = (\S+)$", renewal, re.MULTILINE))
    plugin = settings.get("authenticator", "")
    seconds = settings.get(plugin.replace("-", "_") + "_propagation_seconds", "")
    found = {"names": [], "days": -1, "lifetime": 0, "self_signed": True}
    if content:
        command = ["openssl", "x509", "-noout", "-subject", "-issuer", "-dates", "-ext", "subjectAltName"]
        try:
            done = subprocess.run(command, input=content, capture_output=True, check=False)
            found = parse(done.stdout.decode("utf-8", "replace"), datetime.now(timezone.utc))
        except (FileNotFoundError, KeyError, ValueError):
            pass  # no openssl, or no certificate: as good as none, and made anew
    return {
        **found,
        "there": bool(content),
        "digest": hashlib.sha256(content).hexdigest(),
        "lineage": bool(renewal and kept),
        "server": settings.get("server", ""),
        "key_type": settings.get("key_type", ""),
        "challenge": f"{plugin} {seconds}".strip(),
        "installed": content == kept,
    }


def describe_all(directory: str, letsencrypt: str = LETSENCRYPT) -> dict[str, dict[str, Any]]:
    """All certificates of apps on this host, by the app's name."""
    names = {os.path.basename(path)[: -len(".pem")] for path in glob.glob(os.path.join(directory, "*.pem"))}
    for path in glob.glob(os.path.join(letsencrypt, "renewal", f"{PREFIX}*.conf")):
        names.add(os.path.basename(path)[len(PREFIX) : -len(".conf")])
    return {name: describe(os.path.join(directory, f"{name}.pem"), name, letsencrypt) for name in sorted(names)}


def self_signed(name: str, names: Sequence[str], days: int) -> bytes:
    """A new certificate that no CA signed, and its key.

    :param name: of the app, told to whoever looks at the certificate.
    :raises RuntimeError: when openssl fails.
    """
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", str(days), "-subj", f"/CN={name}", "-keyout", "-", "-out", "-"]
    command += ["-addext", "subjectAltName=" + ",".join(f"DNS:{one}" for one in names)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.decode("utf-8", "replace").strip())
    return done.stdout


def install(path: str, content: bytes) -> None:
    """Put chain and key where nginx reads them, in one step, for root's eyes only."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.chmod(os.path.dirname(path), 0o700)
    host.write(path, content.decode("utf-8", "surrogateescape"), os.geteuid(), os.getegid(), 0o600)
