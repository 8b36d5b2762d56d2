"""A certificate whose key somebody else may have: another one takes its place, and it is revoked."""

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import certificate
from ansible_collections.flaskops.emperor.plugins.modules import certificates
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.tls import LETSENCRYPT
from issuing import Issued  # type: ignore[import-not-found]  # as in test_load_client.py

CA = Issued("CA", days=3650)
GOOD = Issued("shop", ("shop.test",), CA)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A host's certificates and certbot, below tmp_path."""
    monkeypatch.setattr(certificate, "LETSENCRYPT", str(tmp_path / "letsencrypt"))
    for function in (certificate.describe, certificate.lineage, certificate.earlier):
        monkeypatch.setattr(function, "__defaults__", (str(tmp_path / "letsencrypt"),))
    return tmp_path


def arguments(place):
    return {
        "apps": [{"name": "shop", "mode": "acme", "names": ["shop.test"]}],
        "acme": {"server": LETSENCRYPT, "email": "", "key_type": "ecdsa", "eab_kid": ""},
        "webroot": str(place / "web"),
        "directory": str(place / "nginx"),
    }


@pytest.fixture
def archived(place):
    """Certificates that certbot has: the second one now, another before it that is over, one that is not."""
    archive, live = place / "letsencrypt/archive/flask_apps-shop", place / "letsencrypt/live/flask_apps-shop"
    archive.mkdir(parents=True)
    live.mkdir(parents=True)
    for number, one in enumerate((Issued("old", issuer=CA, days=-1), Issued("before", issuer=CA), GOOD), 1):
        (archive / f"cert{number}.pem").write_text(one.pem)
    (live / "cert.pem").symlink_to(archive / "cert3.pem")
    (live / "fullchain.pem").write_text(GOOD.pem + CA.pem)
    (live / "privkey.pem").write_text(GOOD.key_pem())
    return archive


@pytest.mark.usefixtures("archived")
def test_reissue_asks_the_ca_also_without_a_reason_and_fails_when_it_does_not_sign(place, program, run_module):
    program("certbot", f'echo "$@" > {place}/command\n')
    answer = run_module(certificates, **arguments(place), purpose="reissue")
    assert answer["written"] == ["shop"]
    assert "--force-renewal" in (place / "command").read_text()
    text = (place / "nginx/shop.pem").read_bytes()
    program("certbot", "echo '  Detail: too many certificates.' >&2; exit 1\n")
    answer = run_module(certificates, **arguments(place), purpose="reissue")
    assert answer["failed"]
    assert answer["msg"] == (
        "The CA signed no other certificate for shop: too many certificates. It keeps the one it has, which is not "
        "revoked."
    )
    assert (place / "nginx/shop.pem").read_bytes() == text


@pytest.mark.parametrize(("says", "failed", "count"), [("exit 0", False, 1), ("echo already revoked; exit 1", False, 0),
                                                       ("echo no; exit 1", True, 0)])  # fmt: skip
def test_valid_certificates_before_the_one_of_now_are_revoked(
    says, failed, count, archived, place, program, run_module
):
    program("certbot", f'echo "$@" >> {place}/commands; {says}\n')
    answer = run_module(certificates, **arguments(place), purpose="revoke")
    assert answer["failed"] is failed
    asked = (place / "commands").read_text().splitlines()
    assert len(asked) == 1
    assert f"--cert-path {archived}/cert2.pem --reason keycompromise --no-delete-after-revoke" in asked[0]
    if failed:
        assert (
            f"Not all old certificates are revoked for shop: the CA did not revoke {archived}/cert2.pem: no."
            in answer["msg"]
        )
    else:
        assert answer["told"] == [f"shop: another certificate with another key, {count} before it revoked."]
        assert answer["changed"] is bool(count)
