"""What runs and renewals do to certificates, one after the other, while clients come."""

import json
import os
import re
import ssl
import time
from pathlib import Path

import pytest
from conftest import Traffic, ask, certificate, root_of
from cryptography import x509
from guarded import Watch

FILES = Path(os.environ["TLS_FILES"])
WILD = "any.wild.test"
# By which certbot may set records in the DNS
KEY = "T4p9m2Jp0XzW8vQe6kY3bN1cR7sL5dH2fG9aU4oI6yB8wE1tK3jV7xM5qC0nZ2rS4lD6hF8gA1uP3iO5yT7wEQ=="
SECRET = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"


def provided(name):
    return {"mode": "provided", "certificate": str(FILES / f"{name}.pem"), "key": str(FILES / f"{name}.key")}


def with_tls(apps, **changes):
    """The scenario's apps, some of them with other settings."""
    return [{**app, **changes.get(name, {})} for name, app in apps.items()]


def master(host):
    return host.check_output("systemctl show --property=MainPID --value nginx")


def trusted(host, addresses, *names):
    """Whether a client that trusts the CA gets an answer for each name."""
    context = ssl.create_default_context(cadata=root_of(host))
    return all(ask(addresses[host.backend.name], name, context=context)[0].status == 200 for name in names)


@pytest.fixture(autouse=True)
def nginx_is_never_restarted(fleet, request):
    before = [master(host) for host in fleet]
    yield
    if "removal" not in request.node.name:
        assert [master(host) for host in fleet] == before


@pytest.fixture
def targets(addresses):
    return [(address, name) for address in addresses.values() for name in ("shop.test", "bought.test")]


def test_app_without_its_certificate_fails_validate_which_tells_the_days_of_the_others(playbook):
    run = playbook("validate")
    assert run.failed
    assert "The app later has no certificate of the CA yet: run playbooks/site.yml" in run.error
    assert "shop: certificate, 18" in run.output
    assert "bought: certificate, 89 days left" in run.output
    assert "inside: self-signed certificate, 819 days left" in run.output


def test_renewal_by_the_timers_command_loses_no_request(fleet, addresses, targets):
    names = ("shop.test", WILD)  # checked by HTTP and in the DNS
    before = {(address, name): certificate(address, name) for address in addresses.values() for name in names}
    with Traffic(targets) as traffic:
        for host in fleet:
            confs = "/etc/letsencrypt/renewal/flask_apps-shop.conf /etc/letsencrypt/renewal/flask_apps-wild.conf"
            host.check_output(f"sed -i '1i renew_before_expiry = 4000 days' {confs}")
            host.check_output("systemctl start certbot.service")
            host.check_output(f"sed -i 1d {confs}")
    assert not traffic.failures
    assert traffic.sent > 50
    for (address, name), old in before.items():
        end = time.monotonic() + 30  # `nginx -s reload` returns before the new workers are there
        while certificate(address, name) == old:
            assert time.monotonic() < end, f"the certificate of before is still served for {name}"
            time.sleep(0.2)
    for host in fleet:
        assert trusted(host, addresses, *names)


STATUS = """
import json, ssl, sys, urllib.request
context = ssl._create_unverified_context()
for serial in sys.argv[1:]:
    answer = urllib.request.urlopen(f"https://127.0.0.1:15000/cert-status-by-serial/{serial}", context=context)
    print(json.load(answer)["Status"])
"""


def test_reissue_brings_another_key_and_revokes_those_before_without_a_failed_request(
    fleet, addresses, targets, playbook
):
    seen = {
        name: [x509.load_der_x509_certificate(certificate(address, "shop.test"))] for name, address in addresses.items()
    }
    with Traffic(targets) as traffic:
        run = playbook("reissue", "-e", "app=shop")
    assert not run.failed, run.error
    assert not traffic.failures
    assert traffic.sent > 50
    # The first one, and the one that the timer got.
    assert run.output.count("shop: another certificate with another key, 2 before it revoked.") == len(fleet)
    for host in fleet:
        name = host.backend.name
        seen[name].append(x509.load_der_x509_certificate(certificate(addresses[name], "shop.test")))
        old, new = seen[name]
        assert old.public_key() != new.public_key()
        status = host.check_output("python3 -c %s %s %s", STATUS, f"{old.serial_number:x}", f"{new.serial_number:x}")
        assert status.split() == ["Revoked", "Valid"]


def test_next_run_heals_and_a_provided_certificate_is_replaced_without_a_failed_request(
    fleet, addresses, apps, targets, playbook
):
    for host in fleet:
        host.check_output("echo 127.0.0.1 later.test >> /etc/hosts")
    changed = with_tls(apps, bought={"tls": {**provided("renewed"), "hsts_seconds": 300}})
    lines = (FILES / "renewed.key").read_text().splitlines()[1:-1]
    asking = [*targets, *((address, "later.test") for address in addresses.values())]
    with Traffic(asking) as traffic, Watch("|".join(map(re.escape, [SECRET, *lines])).encode()) as watch:
        run = playbook("deploy", "-vvv", "--diff", "-e", "app=later,bought", variables={"flask_apps": changed})
    assert not run.failed, run.error
    assert not traffic.failures
    assert traffic.sent > 50
    for host in fleet:
        address = addresses[host.backend.name]
        answer, _body = ask(address, "later.test", context=ssl.create_default_context(cadata=root_of(host)))
        assert answer.status == 200
        assert ask(address, "later.test", tls=False)[0].status == 308
        assert x509.load_der_x509_certificate(certificate(address, "bought.test")) == x509.load_pem_x509_certificate(
            (FILES / "renewed.pem").read_bytes()
        )
    assert SECRET not in run.output
    assert watch.seen == set()
    assert not [line for line in lines if line in run.output]
    for host in fleet:
        look = f"grep -rlsIF {lines[0]} /etc /srv /run /var /opt /tmp /usr/local /dev/shm"
        assert host.check_output(look) == "/etc/nginx/certificates/bought.pem"
        assert host.run(f"setpriv --reuid=nobody --regid=nogroup --clear-groups {look}").stdout == ""
        assert lines[0] not in host.check_output("journalctl --no-pager --since=-1h")


def test_second_run_changes_nothing_and_asks_no_ca(apps, playbook):
    changed = with_tls(apps, bought={"tls": {**provided("renewed"), "hsts_seconds": 300}})
    run = playbook("deploy", "-e", "app=later,bought,shop,inside,wild", variables={"flask_apps": changed})
    assert not run.failed, run.error
    assert run.changed == 0
    assert "Take the steps that are needed]" in run.output
    assert "flaskops.emperor.certificates : " not in run.output


def test_wrong_key_is_refused_before_anything_changes(fleet, apps, playbook):
    before = [host.check_output("sha256sum /etc/nginx/certificates/*") for host in fleet]
    wrong = {**provided("renewed"), "key": str(FILES / "bought.key")}
    run = playbook("site", variables={"flask_apps": with_tls(apps, bought={"tls": wrong})})
    assert run.failed
    assert run.changed == 0
    assert "flask_apps[bought].tls.key does not fit the certificate: use the key with which that one was" in run.error
    assert [host.check_output("sha256sum /etc/nginx/certificates/*") for host in fleet] == before


def test_plugin_that_debian_does_not_have_is_refused_before_anything_changes(playbook):
    run = playbook("site", variables={"certificates_acme_dns": {"plugin": "nobody", "credentials": {}}})
    assert run.failed
    assert run.changed == 0
    assert "certificates_acme_dns.plugin is nobody, but apt on this host knows no package python3-cert" in run.error


def authenticator(host, app):
    """The way in which certbot renews the certificate of an app."""
    return host.check_output(f"sed -n 's/^authenticator = //p' /etc/letsencrypt/renewal/flask_apps-{app}.conf")


def test_app_goes_over_to_the_dns_and_back_and_a_wrong_key_of_the_dns_fails_no_run(
    fleet, addresses, apps, targets, playbook
):
    by_dns = {"mode": "acme", "challenge": "dns"}
    changed = with_tls(apps, shop={"tls": by_dns}, inside={"tls": by_dns})
    wrong = KEY[::-1].lstrip("=") + "=="
    before = {address: certificate(address, "shop.test") for address in addresses.values()}
    arguments = ["deploy", "-vvv", "--diff", "-e", "app=shop,inside"]
    with Traffic([*targets, *((address, "inside.test") for address in addresses.values())]) as traffic:
        with Watch("|".join(map(re.escape, [KEY, wrong])).encode()) as watch:
            dns = {"plugin": "rfc2136", "credentials": {"server": "127.0.0.1", "name": "certbot",
                   "algorithm": "HMAC-SHA512", "secret": wrong}, "propagation_seconds": 1}  # fmt: skip
            failed = playbook(*arguments, variables={"flask_apps": changed, "certificates_acme_dns": dns})
            assert not failed.failed, failed.error
            for address, old in before.items():
                assert certificate(address, "shop.test") == old
                assert ask(address, "inside.test", tls=False)[0].status == 200
            assert {authenticator(host, "shop") for host in fleet} == {"webroot"}
            healed = playbook(*arguments, variables={"flask_apps": changed})
            assert not healed.failed, healed.error
            assert {authenticator(host, app) for host in fleet for app in ("shop", "inside")} == {"dns-rfc2136"}
            for host in fleet:
                assert trusted(host, addresses, "shop.test", "inside.test", "inside.wild.test")
        back = playbook("deploy", "-e", "app=shop,inside", variables={"flask_apps": with_tls(apps)})
        assert not back.failed, back.error
    assert not traffic.failures
    output = " ".join(failed.output.split())
    assert "The CA signed no certificate for inside, which gets a self-signed certificate and no redirect: " in output
    assert "The CA signed no certificate for shop, which keeps the certificate it has: Encountered error" in output
    assert "The peer didn't like the signature we sent. Check certificates_acme_dns" in output
    assert watch.seen == set()
    for secret in (KEY, wrong):
        assert secret not in failed.output + healed.output
    for host in fleet:
        assert authenticator(host, "shop") == "webroot"
        look = f"grep -rlsIF -e {KEY} -e {wrong} /etc /srv /run /var /opt /tmp /usr/local /dev/shm"
        assert set(host.check_output(look).split()) == {
            "/etc/letsencrypt/flask_apps-dns.ini",
            "/etc/bind/named.conf.local",
        }
        assert KEY not in host.check_output("journalctl --no-pager --since=-1h")


def test_app_without_https_and_an_absent_one_leave_no_certificate_behind(fleet, addresses, apps, playbook):
    changed = with_tls(apps, shop={"tls": {"mode": "off"}}, later={"state": "absent"})
    run = playbook("deploy", "-e", "app=shop,later", variables={"flask_apps": changed})
    assert not run.failed, run.error
    for host in fleet:
        left = host.check_output("ls /etc/nginx/certificates /etc/letsencrypt/renewal")
        assert "shop" not in left
        assert "later" not in left
        address = addresses[host.backend.name]
        assert ask(address, "shop.test", tls=False)[0].status == 200
        with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
            ask(address, "shop.test")


def test_app_that_is_served_by_http_goes_over_to_https_in_one_run_without_a_failed_request(
    fleet, addresses, apps, playbook
):
    with Traffic([(address, "shop.test") for address in addresses.values()], tls=False) as traffic:
        run = playbook("deploy", "-e", "app=shop", variables={"flask_apps": with_tls(apps)})
    assert not run.failed, run.error
    assert not traffic.failures
    assert traffic.sent > 50
    for host in fleet:
        address = addresses[host.backend.name]
        answer, _body = ask(address, "shop.test", context=ssl.create_default_context(cadata=root_of(host)))
        assert answer.status == 200
        assert ask(address, "shop.test", tls=False)[0].status == 308


@pytest.fixture
def ca_that_is_down(fleet):
    for host in fleet:
        host.check_output("systemctl stop pebble")
    yield
    for host in fleet:
        host.check_output("systemctl start pebble")


@pytest.mark.usefixtures("ca_that_is_down")
def test_ca_that_is_down_fails_no_run_and_a_certificate_about_to_end_fails_validate(addresses, apps, playbook):
    tls = {"inside": {"tls": {"mode": "acme"}}, "bought": {"tls": provided("soon")}, "shop": {"path": "/shop"}}
    # The domains of shop get a new owner, whose certificate the CA cannot sign.
    front = apps["shop"] | {"name": "front"}
    changed = {"flask_apps": [*with_tls(apps, later={"state": "absent"}, **tls), front]}
    before = {address: certificate(address, "shop.test") for address in addresses.values()}
    run = playbook("deploy", "-e", "app=inside,bought,shop,front", variables=changed)
    assert not run.failed, run.error
    output = " ".join(run.output.split())
    assert "The CA signed no certificate for front, which takes over that of shop" in output
    for address in addresses.values():
        assert certificate(address, "shop.test") == before[address]
        for path in ("", "/shop"):
            _answer, body = ask(address, "shop.test", f"{path}/x")
            assert (json.loads(body)["SCRIPT_NAME"], json.loads(body)["scheme"]) == (path, "https")
    assert "The CA signed no certificate for inside, which gets a self-signed certificate and no redirect" in output
    assert "Connection refused" in output
    for address in addresses.values():
        assert ask(address, "inside.test")[0].status == 200
    run = playbook("validate", variables=changed)
    assert run.failed
    assert "The certificate of bought ends in 10 days: set flask_apps[bought].tls.certificate and key to" in run.error
    assert "The app inside has no certificate of the CA yet" in run.error


def test_removal_of_everything_leaves_neither_certbot_nor_keys(fleet, playbook):
    run = playbook("remove", "-e", "confirm=yes")
    assert not run.failed, run.error
    for host in fleet:
        for package in ("certbot", "python3-certbot-dns-rfc2136"):
            assert not host.package(package).is_installed
        left = host.check_output(
            "find /etc /var/lib /var/cache -name '*flask_apps*' -o -name 'flaskops*' -o -path '*nginx/certificates*'"
            " -o -path '*letsencrypt*pem'"
        )
        assert left == ""
