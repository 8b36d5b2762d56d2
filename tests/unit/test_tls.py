"""HTTPS: what the settings mean, which certificates are refused, and what a run is to do about each."""

import datetime
import hashlib
from pathlib import Path

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import certificate
from ansible_collections.flaskops.emperor.plugins.modules import certificates
from ansible_collections.flaskops.emperor.plugins.plugin_utils import certificate_plan, provided
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.apps import complete_apps
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.tls import (
    LETSENCRYPT,
    STAGING,
    complete_acme,
)
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused
from issuing import Issued  # type: ignore[import-not-found]  # as in test_load_client.py

ROOT = Issued("root", days=3650)
CA = Issued("CA", issuer=ROOT, days=3650)
GOOD = Issued("shop", ("shop.example.com", "www.shop.example.com"), CA)
CHAIN = GOOD.pem + CA.pem
DOMAINS = ["shop.example.com"]
WHERE = "flask_apps[shop].tls"


def app(tls=None, common=None, domains=DOMAINS):
    entry = {"name": "shop", "app": "shop:app", "source": {"path": "."}, "domains": list(domains), "tls": tls}
    return complete_apps([entry], tls=common)[0]


# --- settings


@pytest.mark.parametrize("off", [None, {}, {"mode": "off"}, {"mode": False}, {"mode": None, "key": None}])
def test_app_is_served_by_http_unless_it_says_otherwise(off):
    # YAML takes the word off for the boolean.
    assert app(off)["tls"] == {"mode": "off", "hsts_seconds": 0, "certificate": "", "key": "", "challenge": ""}


def test_setting_for_all_apps_holds_for_what_an_app_does_not_set():
    common = {"mode": "acme", "hsts_seconds": 300}
    assert app(None, common)["tls"]["mode"] == "acme"
    assert app({"mode": "selfsigned"}, common)["tls"]["hsts_seconds"] == 300
    assert app({"mode": "off"}, common)["tls"]["mode"] == "off"
    wildcard = {"mode": "provided", "certificate": "w.pem", "key": "w.key"}
    assert app({}, wildcard)["tls"]["certificate"] == "w.pem"
    assert app({"mode": "acme"}, wildcard)["tls"]["certificate"] == ""


WRONG = [
    ({"mode": "on"}, DOMAINS, f"{WHERE}.mode is 'on', but must be one of off, selfsigned"),
    ({"mode": True}, DOMAINS, f"{WHERE}.mode is True"),
    ({"mode": "provided"}, DOMAINS, f"{WHERE}.certificate is missing"),
    ({"mode": "provided", "certificate": "a.pem"}, DOMAINS, f"{WHERE}.key is missing"),
    ({"mode": "acme", "key": "a.key"}, DOMAINS, f"{WHERE}.key goes with mode: provided only, but the mode is acme"),
    ({"mode": "acme"}, [], r"flask_apps[shop].domains is empty, but a CA needs names"),
    ({"hsts_seconds": 300}, DOMAINS, f"{WHERE}.hsts_seconds needs HTTPS"),
    ({"mode": "acme", "hsts_seconds": -1}, DOMAINS, f"{WHERE}.hsts_seconds is -1"),
    ({"mode": "acme", "hsts_seconds": 10**9}, DOMAINS, f"{WHERE}.hsts_seconds is 1000000000"),
]


@pytest.mark.parametrize(("tls", "domains", "sentence"), WRONG)
def test_wrong_setting_is_refused_with_a_sentence(tls, domains, sentence):
    with pytest.raises(Refused) as refusal:
        app(tls, domains=domains)
    assert sentence in str(refusal.value)


def test_wrong_setting_for_all_apps_is_refused_by_its_own_name():
    with pytest.raises(Refused, match=r"^flask_apps_tls\.mode is 'on'"):
        app({}, {"mode": "on"})


def test_ca_is_lets_encrypt_unless_another_one_is_named():
    assert complete_acme({"acme_server": "", "key_type": ""})["server"] == LETSENCRYPT
    assert complete_acme({"acme_staging": True})["server"] == STAGING
    assert complete_acme({"acme_server": "https://ca.test/dir"})["server"] == "https://ca.test/dir"
    assert complete_acme({})["key_type"] == "ecdsa"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"acme_server": "http://ca.test/dir"}, "certificates_acme_server is 'http://ca.test/dir'"),
        ({"acme_server": "https://ca.test/a b"}, "certificates_acme_server is"),
        (
            {"acme_server": "https://ca.test/dir", "acme_staging": True},
            "certificates_acme_staging is for Let's Encrypt",
        ),
        ({"acme_email": "ops"}, "certificates_acme_email is 'ops'"),
        ({"acme_email": "ops@a.test\nserver = http://evil"}, "certificates_acme_email is"),
        ({"acme_eab_kid": "1"}, "certificates_acme_eab_hmac_key is missing"),
        ({"acme_eab_hmac_key": "s3cret"}, "certificates_acme_eab_kid is missing"),
        ({"acme_eab_kid": "1", "acme_eab_hmac_key": "a\nb"}, "certificates_acme_eab_hmac_key must be one word"),
        ({"key_type": "dsa"}, "certificates_key_type is 'dsa'"),
    ],
)
def test_wrong_ca_is_refused_with_a_sentence_without_a_secret(values, sentence):
    with pytest.raises(Refused) as refusal:
        complete_acme(values)
    assert sentence in str(refusal.value)
    assert "s3cret" not in str(refusal.value)


# --- provided certificates


def check(chain=CHAIN, key=None, domains=DOMAINS):
    return provided.check(chain, GOOD.key_pem() if key is None else key, domains, WHERE)


def test_certificate_that_fits_becomes_one_file_with_the_chain_before_the_key():
    assert check() == CHAIN + GOOD.key_pem()
    assert check("some text\n" + CHAIN, "\n" + GOOD.key_pem() + "\n\n") == CHAIN + GOOD.key_pem()
    assert check(GOOD.pem) == GOOD.pem + GOOD.key_pem()  # an issuer that clients know needs no chain


def test_wildcard_covers_one_label():
    wild = Issued("all", ("*.example.com", "example.com"), CA)
    for domains in (["shop.example.com"], ["example.com", "a.example.com"], ["*.example.com"]):
        assert check(wild.pem, wild.key_pem(), domains)
    with pytest.raises(Refused, match=r"not for a\.shop\.example\.com"):
        check(wild.pem, wild.key_pem(), ["a.shop.example.com"])


EXPIRED, FUTURE = Issued("old", tuple(DOMAINS), CA, days=-2), Issued("new", tuple(DOMAINS), CA, begins=2)
OLD_CA = Issued("CA", issuer=ROOT, days=-1)
OLD_ISSUED, OTHER_CA = Issued("shop", tuple(DOMAINS), OLD_CA), Issued("CA", issuer=ROOT)
SHORT, NAMELESS = Issued("short", tuple(DOMAINS), CA, bits=1024), Issued("shop.example.com", issuer=CA)


@pytest.mark.parametrize(
    ("chain", "key", "sentence"),
    [
        (CHAIN, CA.key_pem(), f"{WHERE}.certificate has the app's own certificate in place 2: put it first"),
        (CA.pem + GOOD.pem, GOOD.key_pem(), f"{WHERE}.certificate has the app's own certificate in place 2"),
        (CHAIN, EXPIRED.key_pem(), f"{WHERE}.key does not fit the certificate"),
        (GOOD.pem + ROOT.pem + CA.pem, GOOD.key_pem(), "certificate 2 in it did not sign certificate 1"),
        (GOOD.pem + OTHER_CA.pem, GOOD.key_pem(), "certificate 2 in it did not sign certificate 1"),
        (EXPIRED.pem + CA.pem, EXPIRED.key_pem(), f"{WHERE}.certificate expired on 20"),
        (OLD_ISSUED.pem + OLD_CA.pem, OLD_ISSUED.key_pem(), "(number 2 of it)"),
        (FUTURE.pem, FUTURE.key_pem(), f"{WHERE}.certificate is not valid before 20"),
        (NAMELESS.pem, NAMELESS.key_pem(), "is for no name at all, but not for shop.example.com"),
        (SHORT.pem, SHORT.key_pem(), f"{WHERE}.key has 1024 bits"),
        (CHAIN, GOOD.key_pem(b"word"), f"{WHERE}.key is protected by a passphrase"),
        (CHAIN, CHAIN, f"{WHERE}.key is no private key in PEM form"),
        (CHAIN, "", f"{WHERE}.key is no private key in PEM form"),
        (GOOD.key_pem(), GOOD.key_pem(), f"{WHERE}.certificate has no certificate in PEM form"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", GOOD.key_pem(), "has no certificate in PEM"),
    ],
)
def test_unusable_certificate_is_refused_with_a_sentence(chain, key, sentence):
    with pytest.raises(Refused) as refusal:
        check(chain, key)
    assert sentence in str(refusal.value)
    assert "PRIVATE KEY-----\n" not in str(refusal.value)


def test_certificate_for_other_names_is_refused_with_the_missing_name():
    with pytest.raises(Refused, match=r"is for shop\.example\.com, www\.shop\.example\.com, but not for other\.test"):
        check(domains=["shop.example.com", "other.test"])


def test_certificate_is_read_from_a_file_or_taken_as_text(tmp_path):
    (tmp_path / "chain.pem").write_text(CHAIN)
    tls = {"mode": "provided", "certificate": "chain.pem", "key": GOOD.key_pem()}
    assert provided.provided(app(tls), str(tmp_path), lambda path: Path(path).read_text()) == CHAIN + GOOD.key_pem()
    tls["certificate"] = "none.pem"
    with pytest.raises(Refused, match=r"^flask_apps\[shop\]\.tls\.certificate is none\.pem, which is no file on"):
        provided.provided(app(tls), str(tmp_path), lambda path: Path(path).read_text())


# --- what a run is to do

ACME = complete_acme({})


def found(**more):
    """What a host says of a certificate that is as it should be."""
    return {
        "there": True, "names": ["shop.example.com"], "days": 60, "lifetime": 90, "self_signed": False, "lineage": True,
        "installed": True, "server": LETSENCRYPT, "key_type": "ecdsa", "digest": hashlib.sha256(b"text").hexdigest(),
        "challenge": "webroot", **more,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "on_host", "phrase"),
    [
        ("acme", found(), ""),
        ("acme", None, "new certificate"),
        ("acme", found(there=False), "new certificate"),
        ("acme", found(lineage=False, self_signed=True), "certificate to be requested from the CA"),
        ("acme", found(names=["old.example.com"]), "certificate for other domains"),
        ("acme", found(server=STAGING), "certificate of another CA"),
        ("acme", found(key_type="rsa"), "certificate with another kind of key"),
        ("acme", found(installed=False), "renewed certificate to be put in place"),
        ("acme", found(days=13), "certificate that ends in 13 days"),
        ("acme", found(days=14), ""),
        ("acme", found(days=3, lifetime=6), ""),  # short-lived by design
        ("acme", found(days=1, lifetime=6), "certificate that ends in 1 days"),
        ("selfsigned", found(self_signed=True), ""),
        ("selfsigned", found(), "new self-signed certificate"),
        ("selfsigned", found(self_signed=True, days=29), "new self-signed certificate"),
        ("selfsigned", found(self_signed=True, names=["localhost"]), "new self-signed certificate"),
        ("provided", found(), ""),
        ("provided", found(digest="0"), "other certificate"),
    ],
)
def test_work_on_a_certificate_is_described_in_a_phrase(mode, on_host, phrase):
    files = {"certificate": "a", "key": "b"} if mode == "provided" else {}
    assert certificate_plan.todo(app({"mode": mode, **files}), on_host, "text", ACME) == phrase


def test_http_is_redirected_only_to_a_certificate_that_clients_trust():
    assert certificate_plan.redirected(app({"mode": "acme"}), found())
    assert not certificate_plan.redirected(app({"mode": "acme"}), found(self_signed=True))
    assert not certificate_plan.redirected(app({"mode": "acme"}), None)
    assert certificate_plan.redirected(app({"mode": "selfsigned"}), None)
    assert not certificate_plan.redirected(app(), found())


def test_only_unused_certificates_of_listed_apps_are_removed():
    state = {"shop": found(), "unlisted": found()}
    assert certificate_plan.unused([app({"mode": "acme"})], state) == {}
    assert certificate_plan.unused([app()], state) == {"shop": True}
    assert certificate_plan.unused([app({"mode": "selfsigned"})], state) == {"shop": False}
    assert certificate_plan.unused([app()], {}) == {}


def test_problem_of_a_certificate_comes_with_its_cure():
    acme = app({"mode": "acme"})
    assert certificate_plan.problem(acme, found()) == ""
    assert "has no certificate: run" in certificate_plan.problem(acme, None)
    assert "no certificate of the CA yet" in certificate_plan.problem(acme, found(self_signed=True))
    assert "ends in 5 days: run playbooks/site.yml" in certificate_plan.problem(acme, found(days=5))
    own = app({"mode": "provided", "certificate": "a", "key": "b"})
    assert "expired: set flask_apps[shop].tls.certificate" in certificate_plan.problem(own, found(days=-1))
    assert certificate_plan.problem(app(), None) == ""


# --- on the host


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A host's certificates and certbot, below tmp_path."""
    monkeypatch.setattr(certificate, "LETSENCRYPT", str(tmp_path / "letsencrypt"))
    monkeypatch.setattr(certificate.describe, "__defaults__", (str(tmp_path / "letsencrypt"),))
    monkeypatch.setattr(certificate.lineage, "__defaults__", (str(tmp_path / "letsencrypt"),))
    monkeypatch.setattr(certificate.describe_all, "__defaults__", (str(tmp_path / "letsencrypt"),))
    return tmp_path


def arguments(place, mode="acme", **more):
    return {
        "apps": [{"name": "shop", "mode": mode, "names": ["shop.test"]}],
        "acme": {"server": LETSENCRYPT, "email": "", "key_type": "ecdsa", "eab_kid": "kid"},
        "eab_hmac_key": "s3cret",
        "webroot": str(place / "web"),
        "directory": str(place / "nginx"),
        **more,
    }


def test_self_signed_certificate_is_described_as_it_was_made(place, run_module):
    answer = run_module(certificates, **arguments(place, "selfsigned"), diff=True)
    assert (answer["changed"], answer["written"]) == (True, ["shop"])
    assert "KEY" not in str(answer)
    file = place / "nginx/shop.pem"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    one = certificate.describe_all(str(place / "nginx"))["shop"]
    assert (one["names"], one["self_signed"], one["days"], one["lineage"]) == (["shop.test"], True, 819, False)


def test_signed_certificate_is_described_with_its_days(place):
    certificate.install(str(place / "nginx/shop.pem"), (CHAIN + GOOD.key_pem()).encode())
    one = certificate.describe(str(place / "nginx/shop.pem"), "shop")
    assert (one["days"], one["lifetime"], one["self_signed"]) == (89, 190, False)
    assert one["names"] == ["shop.example.com", "www.shop.example.com"]


def test_file_that_is_no_certificate_counts_as_missing(place):
    certificate.install(str(place / "nginx/shop.pem"), b"rubbish")
    one = certificate.describe(str(place / "nginx/shop.pem"), "shop")
    assert (one["there"], one["self_signed"], one["days"]) == (True, True, -1)


def test_failed_request_gives_a_self_signed_certificate_once_and_a_sentence(place, program, run_module):
    program("certbot", "echo 'Some challenges have failed.'; echo '  Detail: DNS problem: NXDOMAIN.' >&2; exit 1\n")
    answer = run_module(certificates, **arguments(place))
    assert not answer["failed"]
    assert answer["changed"]
    assert answer["told"] == [
        "The CA signed no certificate for shop, which gets a self-signed certificate and no redirect: DNS problem: "
        "NXDOMAIN. Check that shop.test leads to this host's port 80 and that this host reaches the CA, then run again."
    ]
    again = run_module(certificates, **arguments(place))
    assert (again["changed"], again["told"]) == (False, answer["told"])


def test_failed_request_keeps_a_valid_certificate(place, program, run_module):
    program("certbot", "exit 1\n")
    text = (CHAIN + GOOD.key_pem()).encode()
    certificate.install(str(place / "nginx/shop.pem"), text)
    answer = run_module(certificates, **arguments(place))
    assert not answer["changed"]
    assert "which keeps the certificate it has: it gave no reason." in answer["told"][0]
    assert (place / "nginx/shop.pem").read_bytes() == text


def test_account_secret_is_in_a_private_file_and_not_in_the_command(place, program, run_module):
    program("certbot", f'echo "$@" > {place}/command; cp -p "$3" {place}/settings\nexit 1\n')
    answer = run_module(certificates, **arguments(place))
    assert "s3cret" not in (place / "command").read_text()
    assert "s3cret" not in str(answer)
    settings = (place / "settings").read_text()
    assert "eab-hmac-key = s3cret\n" in settings
    assert "register-unsafely-without-email = true\n" in settings
    assert (place / "settings").stat().st_mode & 0o777 == 0o600


def test_renewed_certificate_is_installed_without_a_request_to_the_ca(place, program, run_module):
    program("certbot", f"touch {place}/asked; exit 1\n")
    live, renewal = place / "letsencrypt/live/flask_apps-shop", place / "letsencrypt/renewal"
    live.mkdir(parents=True)
    renewal.mkdir()
    (live / "fullchain.pem").write_text(CHAIN)
    (live / "privkey.pem").write_text(GOOD.key_pem())
    (renewal / "flask_apps-shop.conf").write_text(
        f"key_type = ecdsa\nauthenticator = webroot\nserver = {LETSENCRYPT}\n"
    )
    answer = run_module(certificates, **arguments(place))
    assert (answer["written"], answer["told"]) == (["shop"], [])
    assert not (place / "asked").exists()
    one = certificate.describe_all(str(place / "nginx"))["shop"]
    assert (one["installed"], one["lineage"], one["server"], one["key_type"]) == (True, True, LETSENCRYPT, "ecdsa")


def test_check_mode_requests_and_writes_nothing(place, program, run_module):
    program("certbot", f"touch {place}/asked\n")
    answer = run_module(certificates, **arguments(place), check=True)
    assert answer["changed"]
    assert not (place / "asked").exists()
    assert not (place / "nginx").exists()


def test_provided_certificate_is_written_and_never_shown(place, run_module):
    text = CHAIN + GOOD.key_pem()
    answer = run_module(certificates, **arguments(place, "provided", contents={"shop": text}), diff=True)
    assert (place / "nginx/shop.pem").read_text() == text
    assert "PRIVATE" not in str(answer)
    assert not run_module(certificates, **arguments(place, "provided", contents={"shop": text}))["changed"]


def test_forgotten_certificate_is_removed_from_nginx_and_from_certbot(place, program, run_module):
    program("certbot", f'echo "$@" >> {place}/command; rm {place}/letsencrypt/renewal/*\n')
    certificate.install(str(place / "nginx/shop.pem"), b"text")
    (place / "letsencrypt/renewal").mkdir(parents=True)
    (place / "letsencrypt/renewal/flask_apps-shop.conf").touch()
    forget = {"directory": str(place / "nginx"), "forget": {"shop": True, "other": True}}
    assert run_module(certificates, **forget, check=True)["changed"]
    assert (place / "nginx/shop.pem").exists()
    assert run_module(certificates, **forget)["changed"]
    assert not (place / "nginx/shop.pem").exists()
    assert (place / "command").read_text() == "delete --non-interactive --cert-name flask_apps-shop\n"
    assert not run_module(certificates, **forget)["changed"]


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ("Saving debug log to x\nx: Detail: no\n  Detail: Invalid response: 404.\n", "Invalid response: 404"),
        (
            "An unexpected error occurred:\ntoo many requests :: see docs\nAsk for help or x\n",
            "too many requests :: see docs",
        ),
        ("", "it gave no reason"),
    ],
)
def test_reason_is_the_message_of_the_ca(output, told):
    assert certificates.reason(output) == told


def test_times_of_openssl_are_read_in_utc():
    assert certificate.moment("Nov  8 15:11:21 2027 GMT").isoformat() == "2027-11-08T15:11:21+00:00"
    assert certificate.moment("Nov 28 15:11:21 2027 GMT").tzinfo is datetime.timezone.utc
