"""What clients of a converged host get by HTTPS and by HTTP."""

import contextlib
import json
import os
import ssl
from pathlib import Path

import pytest
from conftest import ask, certificate, connect, root_of
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

NAMES = ["shop.test", "www.shop.test", "later.test", "inside.test", "bought.test", "wild.test", "any.wild.test"]
REDIRECTED = ["shop.test", "www.shop.test", "inside.test", "bought.test", "wild.test", "any.wild.test"]


@pytest.mark.parametrize("name", NAMES)
def test_app_answers_by_https_and_sees_the_scheme(address, name):
    answer, body = ask(address, name)
    assert answer.status == 200
    told = json.loads(body)
    assert told["scheme"] == told["HTTP_X_FORWARDED_PROTO"] == told["REQUEST_SCHEME"] == "https"
    assert told["SERVER_PORT"] == "443"


@pytest.mark.parametrize("name", ["shop.test", "www.shop.test", "wild.test", "any.wild.test", "www.wild.test"])
def test_certificate_of_the_ca_is_valid_for_every_domain_and_has_an_elliptic_key(host, address, name):
    trusting = ssl.create_default_context(cadata=root_of(host))
    answer, _body = ask(address, name, context=trusting)
    assert answer.status == 200
    assert isinstance(
        x509.load_der_x509_certificate(certificate(address, name)).public_key(), ec.EllipticCurvePublicKey
    )


def test_name_of_another_app_comes_before_the_wildcard(host, address):
    for name, app in (("inside.wild.test", "inside"), ("any.wild.test", "wild")):
        answer, _body = ask(address, name)
        look = (
            f"until grep -q {answer.headers['X-Request-ID']} /var/log/flask_apps/{app}/access.log; do sleep 0.2; done"
        )
        host.check_output("timeout 10 sh -c %s", look)
        found = x509.load_der_x509_certificate(certificate(address, name))
        assert (found.issuer == found.subject) is (app == "inside")


def test_provided_certificate_comes_with_its_chain(address):
    trusting = ssl.create_default_context(cafile=str(Path(os.environ["TLS_FILES"], "root.pem")))
    answer, _body = ask(address, "bought.test", context=trusting)
    assert answer.status == 200


@pytest.mark.parametrize("name", REDIRECTED)
def test_http_is_redirected_with_path_and_query_as_they_were_sent(address, name):
    path = "/a//b%2Fc/../d?x=1&y=%20&z=http://e"
    answer, _body = ask(address, name, path, tls=False)
    assert answer.status == 308
    assert answer.headers["Location"] == f"https://{name}{path}"
    assert answer.headers.get_all("X-Frame-Options") == ["SAMEORIGIN"]


def test_upload_by_http_is_redirected_too(address):
    answer, _body = ask(address, "shop.test", "/up", "POST", tls=False, body=b"x" * 3_000_000)
    assert (answer.status, answer.headers["Location"]) == (308, "https://shop.test/up")


def test_acme_challenge_is_not_redirected(host, address):
    host.check_output("mkdir -p /var/lib/flask_apps_acme/.well-known/acme-challenge")
    host.check_output("echo answer > /var/lib/flask_apps_acme/.well-known/acme-challenge/of-the-test")
    for name in (*NAMES, "new.test"):
        answer, body = ask(address, name, "/.well-known/acme-challenge/of-the-test", tls=False)
        assert (answer.status, body) == (200, b"answer\n"), name
    host.check_output("rm /var/lib/flask_apps_acme/.well-known/acme-challenge/of-the-test")


def test_app_without_a_certificate_of_the_ca_yet_serves_http_as_well(address):
    answer, body = ask(address, "later.test", tls=False)
    assert (answer.status, json.loads(body)["scheme"]) == (200, "http")
    found = x509.load_der_x509_certificate(certificate(address, "later.test"))
    assert found.issuer == found.subject


def test_http_2_is_negotiated_and_spoken(address):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    with contextlib.closing(connect(address, "shop.test", context)) as connection:
        assert connection.selected_alpn_protocol() == "h2"
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\4" + bytes(5))
        assert connection.recv(9)[3] == 4, "no SETTINGS frame, see RFC 9113 6.5"


@pytest.mark.parametrize("name", ["unknown.test", "test", None])
def test_handshake_for_an_unknown_name_is_refused(address, name):
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        connect(address, name)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_current_tls_versions_work_without_session_tickets(address, version):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    with contextlib.closing(connect(address, "shop.test", context)) as connection:
        assert connection.version() == version.name.replace("_", ".")
        assert connection.cipher()[0].split("-")[0] in ("ECDHE", "TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256")
        assert not (connection.session and connection.session.has_ticket and version is ssl.TLSVersion.TLSv1_2)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_old_version_of_tls_is_refused(address):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        connect(address, "shop.test", context)


@pytest.mark.parametrize("path", ["/", "/static/script.js", "/static/none"])
def test_hsts_is_sent_once_where_it_is_set_and_never_by_http(address, path):
    answer, _body = ask(address, "bought.test", path)
    assert answer.headers.get_all("Strict-Transport-Security") == ["max-age=300"]
    for name, tls in (("shop.test", True), ("bought.test", False)):
        answer, _body = ask(address, name, path, tls=tls)
        assert "Strict-Transport-Security" not in answer.headers


def test_key_is_readable_for_root_alone(host):
    directory = host.file("/etc/nginx/certificates")
    assert directory.mode == 0o700
    for name in ("shop", "later", "inside", "bought", "wild"):
        file = host.file(f"/etc/nginx/certificates/{name}.pem")
        assert (file.user, file.mode) == ("root", 0o600)


def test_credentials_of_the_dns_are_readable_for_root_alone(host):
    file = host.file("/etc/letsencrypt/flask_apps-dns.ini")
    assert (file.user, file.mode) == ("root", 0o600)


def test_environment_of_the_dns_is_for_certbots_timer_alone(host):
    path = "/etc/letsencrypt/flask_apps-dns.env"
    assert (host.file(path).user, host.file(path).mode) == ("root", 0o600)
    assert path in host.check_output("systemctl show --property=EnvironmentFiles certbot.service")
    assert "alone" not in host.check_output("systemctl show certbot.service")
    read = f"systemd-run --quiet --wait --pipe --property=EnvironmentFile=-{path} printenv DNS_TOKEN"
    assert host.check_output(read) == 'of the "DNS" $alone'


def test_certbot_renews_by_debians_timer(host):
    assert host.service("certbot.timer").is_running
    assert host.service("certbot.timer").is_enabled
