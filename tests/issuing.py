"""Certificates for tests: a root, a CA below it that signs, and what a careless person makes of them."""

from __future__ import annotations

import ipaddress
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

PEM = serialization.Encoding.PEM


class Issued:
    """A certificate with its key, and those that signed it.

    :param name: its subject.
    :param domains: the names it is for; a CA has none.
    :param issuer: who signs; itself if None.
    :param days: from now to its end, negative for one that expired.
    :param begins: days from now to its begin.
    :param bits: of an RSA key; an elliptic curve if 0.
    """

    def __init__(
        self,
        name: str,
        domains: tuple[str, ...] = (),
        issuer: Issued | None = None,
        days: float = 90,
        begins: float = -100,
        bits: int = 0,
    ) -> None:
        self.key: Any = rsa.generate_private_key(65537, bits) if bits else ec.generate_private_key(ec.SECP256R1())
        subject, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), datetime.now(timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.certificate.subject if issuer else subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=begins))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=not domains, path_length=None), critical=True)
        )
        if domains:
            builder = builder.add_extension(x509.SubjectAlternativeName([self.name_of(one) for one in domains]), False)
        self.certificate: x509.Certificate = builder.sign(issuer.key if issuer else self.key, hashes.SHA256())

    @staticmethod
    def name_of(domain: str) -> x509.GeneralName:
        """A domain, or an address of IPv4."""
        return x509.IPAddress(ipaddress.ip_address(domain)) if domain[0].isdigit() else x509.DNSName(domain)

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(PEM).decode()

    def key_pem(self, passphrase: bytes | None = None) -> str:
        """The private key, protected or not."""
        scheme = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
        return str(self.key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, scheme).decode())


def write(directory: Path) -> None:
    """What the scenario tls needs on this machine: a root, and an app's certificate with its chain and its key."""
    directory.mkdir(parents=True, exist_ok=True)
    root = Issued("Test root", days=3650)
    middle = Issued("Test CA", issuer=root, days=3650)
    files = {"root.pem": root.pem, "middle.pem": middle.pem, "middle.key": middle.key_pem()}
    bought = Issued("bought", ("bought.test",), middle)
    files |= {"bought.pem": bought.pem + middle.pem, "bought.key": bought.key_pem()}
    other = Issued("bought, renewed", ("bought.test",), middle)
    files |= {"renewed.pem": other.pem + middle.pem, "renewed.key": other.key_pem()}
    soon = Issued("bought, about to end", ("bought.test",), middle, days=10.5)
    files |= {"soon.pem": soon.pem + middle.pem, "soon.key": soon.key_pem()}
    server = Issued("ACME server", ("127.0.0.1", "localhost"), middle)
    files |= {"server.pem": server.pem + middle.pem, "server.key": server.key_pem()}
    for name, text in files.items():
        directory.joinpath(name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
