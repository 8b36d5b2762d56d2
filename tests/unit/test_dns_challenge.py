"""Certificates by a record in the DNS: the settings, the credentials of certbot's plugin, and what certbot is told."""

import json
from pathlib import Path

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import certificate, system
from ansible_collections.flaskops.emperor.plugins.module_utils.secrets import censor
from ansible_collections.flaskops.emperor.plugins.modules import certificates
from ansible_collections.flaskops.emperor.plugins.plugin_utils import certificate_plan
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.apps import complete_apps
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.dns import complete_dns
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.tls import (
    LETSENCRYPT,
    complete_acme,
    complete_tls,
)
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused

SET = {"plugin": "rfc2136", "credentials": {"server": "192.0.2.1", "secret": "s3cret=="}}
VARIABLE = "certificates_acme_dns"
CONTENT = 'dns_rfc2136_server = "192.0.2.1"\ndns_rfc2136_secret = "s3cret=="\n'


def app(domains=("shop.example.com",), tls=None, **more):
    chosen = tls or {"mode": "acme", "challenge": "dns"}
    entry = {"name": "shop", "app": "shop:app", "source": {"path": "."}, "domains": list(domains), "tls": chosen}
    return complete_apps([{**entry, **more}])[0]


def credentials(**values):
    return {"plugin": "x", "credentials": values}


# --- settings


def test_challenge_for_all_apps_holds_for_those_of_the_ca_that_do_not_set_it():
    common = {"mode": "acme", "challenge": "dns"}
    assert complete_tls({}, common, ["*.example.com"], "x")["challenge"] == "dns"
    assert complete_tls({"challenge": "http"}, common, ["example.com"], "x")["challenge"] == "http"
    assert complete_tls({"mode": "selfsigned"}, common, ["example.com"], "x")["challenge"] == ""


@pytest.mark.parametrize(
    ("tls", "domain", "sentence"),
    [
        ({"mode": "acme"}, "*.a.test", "x.domains has *.a.test, which a CA checks in the DNS only: set tls.challenge"),
        (
            {"mode": "acme", "challenge": "dns-01"},
            "a.test",
            "x.tls.challenge is 'dns-01', but must be one of http, dns.",
        ),
        (
            {"mode": "selfsigned", "challenge": "dns"},
            "a.test",
            "x.tls.challenge goes with mode: acme only, but the mode",
        ),
    ],
)
def test_wrong_challenge_is_refused_with_a_sentence(tls, domain, sentence):
    with pytest.raises(Refused) as refusal:
        complete_tls(tls, {}, [domain], "x")
    assert sentence in str(refusal.value)


def test_credentials_get_the_names_that_the_plugin_reads():
    assert complete_dns(SET)["content"] == CONTENT
    assert complete_dns({**SET, "credentials": {"dns_rfc2136_port": 53}})["content"] == 'dns_rfc2136_port = "53"\n'
    assert (
        complete_dns(credentials(a='b"c', d="e, 'f' # g"))["content"] == "dns_x_a = 'b\"c'\ndns_x_d = \"e, 'f' # g\"\n"
    )


def test_text_is_the_file_and_no_credentials_are_none():
    assert complete_dns({"plugin": "google", "credentials": '{"type": "x"}\n'})["content"] == '{"type": "x"}\n'
    found = complete_dns({"plugin": "route53", "credentials": {}})
    assert (found["content"], found["seconds"]) == ("", "")
    assert complete_dns({}) == complete_dns(None) == {}


def shown(said, credentials, **more):
    """What a message of certbot shows with these settings."""
    return censor(said, complete_dns({"plugin": "x", "credentials": credentials, **more})["secrets"])


def test_values_of_credentials_that_are_a_text_are_hidden():
    document = json.dumps({"type": "service_account", "keys": [{"private_key": "-----BEGIN\nline1AbC\nline2DeF\n"}]})
    assert shown("service_account: line1AbC and line2DeF", document) == "service_account: ******** and ********"
    text = "# of the provider\ndns_x_key = 'k3y-of=mine'\n[default]\ntokenalone\n"
    assert shown("bad k3y-of=mine, bad tokenalone", text) == "bad ********, bad ********"


def test_values_of_the_environment_are_hidden():
    said = shown("AKIAXYZ9 may not do this", {}, environment={"AWS_ACCESS_KEY_ID": "AKIAXYZ9"})
    assert said == "******** may not do this"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ("rfc2136", f"{VARIABLE} must have options: write {{plugin: NAME"),
        (
            {**SET, "secret": "s3cret"},
            f"{VARIABLE} has secret, which is no option of it: choose from plugin, credentials, environment,",
        ),
        ({"credentials": {}}, f"{VARIABLE}.plugin is missing, but must be the NAME of a Debian package"),
        ({**SET, "plugin": "dns-rfc2136"}, f"{VARIABLE}.plugin is 'dns-rfc2136', but must be the NAME"),
        ({**SET, "plugin": "a\nb"}, f"{VARIABLE}.plugin is 'a\\nb', but"),
        ({"plugin": "rfc2136"}, f"{VARIABLE}.credentials is missing: write what the documentation of the plugin asks"),
        ({"plugin": "rfc2136", "credentials": ["s3cret"]}, f"{VARIABLE}.credentials must be names with values, or"),
        (credentials(token=""), f"{VARIABLE}.credentials.token is empty, but must be text"),
        (credentials(token=None), f"{VARIABLE}.credentials.token is empty, but must be text"),
        (credentials(token=True), f"{VARIABLE}.credentials.token is a bool, but must be text"),
        (credentials(token={"a": "s3cret"}), f"{VARIABLE}.credentials.token is a dict, but must be text"),
        (credentials(token="s3cret\nb"), f"{VARIABLE}.credentials.token has a line break"),
        (credentials(token="s3cret\"'"), f"{VARIABLE}.credentials.token has a line break, both kinds of quotes"),
        (credentials(token="s3cret%(a)s"), f"{VARIABLE}.credentials.token has a line break, both kinds"),
        (credentials(**{"a b": "s3cret"}), f"{VARIABLE}.credentials.a b is no name of a credential"),
        ({**SET, "environment": "A=s3cret"}, f"{VARIABLE}.environment must be names of variables with values"),
        ({**SET, "environment": {"A-B": "s3cret"}}, f"{VARIABLE}.environment.A-B is no name of a variable"),
        ({**SET, "environment": {"A": "s3cret\nb"}}, f"{VARIABLE}.environment.A has a line break or another"),
        ({**SET, "environment": {"A": None}}, f"{VARIABLE}.environment.A is empty, but must be text"),
        ({**SET, "environment": {"A": ["s3cret"]}}, f"{VARIABLE}.environment.A is a list, but must be text"),
        ({**SET, "environment": {"REQUESTS_CA_BUNDLE": "/x"}}, "is what certificates_acme_ca sets: use that."),
        ({**SET, "propagation_seconds": -1}, f"{VARIABLE}.propagation_seconds is -1, but must be a whole number"),
        ({**SET, "propagation_seconds": "9"}, f"{VARIABLE}.propagation_seconds is '9', but must be a whole number"),
    ],
)
def test_wrong_plugin_or_credentials_are_refused_with_a_sentence_without_a_secret(values, sentence):
    with pytest.raises(Refused) as refusal:
        complete_acme({"acme_dns": values})
    assert sentence in str(refusal.value)
    assert "s3cret" not in str(refusal.value)


def test_app_that_needs_the_plugin_is_refused_without_it():
    with pytest.raises(
        Refused, match=r"^certificates_acme_dns is missing, but flask_apps\[shop\] has tls.challenge: dns"
    ):
        certificate_plan.with_dns(complete_acme({}), [app()])


def test_plugin_is_left_out_where_no_app_needs_it():
    acme = complete_acme({"acme_dns": SET})
    assert certificate_plan.with_dns(acme, [app(tls={"mode": "acme"}), app(state="absent")])["dns"] == {}
    assert certificate_plan.with_dns(acme, [app()])["dns"]["content"] == CONTENT


# --- the plan


def test_certificate_asks_for_no_name_that_a_wildcard_covers():
    names = ["*.example.com", "shop.example.com", "example.com", "a.b.example.com"]
    assert certificate_plan.names_of(app(names)) == ["*.example.com", "example.com", "a.b.example.com"]
    assert certificate_plan.names_of(app(["*.b.example.com", "*.example.com"])) == ["*.b.example.com", "*.example.com"]


@pytest.mark.parametrize(
    ("challenge", "tls", "seconds", "phrase"),
    [
        ("webroot", {"challenge": "http"}, "", ""),
        ("webroot", {"challenge": "dns"}, "", "certificate by another challenge"),
        ("dns-rfc2136", {"challenge": "http"}, "", "certificate by another challenge"),
        ("dns-rfc2136", {"challenge": "dns"}, "", ""),
        ("dns-rfc2136", {"challenge": "dns"}, 5, "certificate by another challenge"),
        ("dns-rfc2136 5", {"challenge": "dns"}, 5, ""),
        ("dns-ovh", {"challenge": "dns"}, "", "certificate by another challenge"),
    ],
)
def test_change_of_the_challenge_needs_another_request(challenge, tls, seconds, phrase):
    one = app(tls={"mode": "acme", **tls})
    acme = certificate_plan.with_dns(complete_acme({"acme_dns": {**SET, "propagation_seconds": seconds}}), [one])
    found = {
        "there": True, "names": ["shop.example.com"], "days": 60, "lifetime": 90, "self_signed": False, "lineage": True,
        "installed": True, "server": LETSENCRYPT, "key_type": "ecdsa", "challenge": challenge,
    }  # fmt: skip
    assert certificate_plan.todo(one, found, "", acme) == phrase


def planned(**more):
    options = {"purpose": "deploy", "base": ".", "hook": "", "nginx": "/etc/nginx", "acme": {"acme_dns": SET}, **more}
    return certificate_plan.Certificates([app()], [app()], options, lambda path: Path(path).read_text())


def test_plan_looks_at_the_credentials_and_does_not_tell_them():
    certificates_of = planned()
    path = certificate.credentials_file()
    assert path in certificates_of.paths()
    assert certificates_of.plugins() == ["python3-certbot-dns-rfc2136"]
    assert "s3cret" not in str([certificates_of.host_files, certificates_of.location])
    assert planned(purpose="look").plugins() == []


def test_environment_is_in_a_file_that_certbots_timer_reads_and_nowhere_else():
    route53 = {"plugin": "route53", "credentials": {}, "environment": {"AWS_SECRET_ACCESS_KEY": "s3cret"}}
    found = planned(acme={"acme_dns": route53})
    files = {entry["path"]: entry for entry in found.host_files}
    path = certificate.environment_file()
    assert files[certificate_plan.DROP_IN]["content"].endswith(f"[Service]\nEnvironmentFile=-{path}\n")
    assert "s3cret" not in str(files)
    secret = {entry["path"]: entry for entry in found.entries()}[path]
    assert (secret["content"], secret["mode"]) == ('AWS_SECRET_ACCESS_KEY="s3cret"\n', "0600")
    assert path not in planned().paths()
    without = {entry["path"]: entry for entry in planned().host_files}
    assert without[certificate_plan.DROP_IN]["state"] == "absent"


def test_plugin_that_debian_does_not_have_is_refused():
    planned().check({"unknown": []})
    with pytest.raises(
        Refused, match=r"^certificates_acme_dns.plugin is rfc2136, but apt on this host knows no package"
    ):
        planned().check({"unknown": ["python3-certbot-dns-rfc2136"]})


def test_package_is_unknown_only_where_apt_has_lists_and_is_not_asked_for_installed_ones(program, monkeypatch):
    program("dpkg-query", "echo 'installed-one installed'\n")
    program("apt-cache", "printf 'known:\\n  Installed: (none)\\n'\n")
    names = ["installed-one", "known", "other"]
    monkeypatch.setattr("glob.glob", lambda _pattern: ["lists"])
    assert system.unknown(names) == ["other"]
    assert system.unknown([]) == []
    monkeypatch.setattr("glob.glob", lambda _pattern: [])
    assert system.unknown(names) == []


# --- on the host


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A host's certificates and certbot, below tmp_path."""
    letsencrypt = tmp_path / "letsencrypt"
    (letsencrypt / "renewal").mkdir(parents=True)
    monkeypatch.setattr(certificate, "LETSENCRYPT", str(letsencrypt))
    for function in (
        certificate.describe,
        certificate.lineage,
        certificate.describe_all,
        certificate.credentials_used,
        certificate.dns_used,
    ):
        monkeypatch.setattr(function, "__defaults__", (str(letsencrypt),))
    return tmp_path


def arguments(place, challenge="dns-rfc2136 5", **more):
    return {
        "apps": [{"name": "shop", "mode": "acme", "names": ["*.shop.test"], "challenge": challenge}],
        "acme": {"server": LETSENCRYPT, "email": "", "key_type": "ecdsa", "eab_kid": ""},
        "credentials": CONTENT,
        "webroot": str(place / "web"),
        "directory": str(place / "nginx"),
        **more,
    }


def test_certbot_is_told_the_plugin_and_finds_its_credentials_in_a_private_file(place, program, run_module):
    program("certbot", f'echo "$@" > {place}/command; cp -p "$3" {place}/settings\nexit 1\n')
    answer = run_module(certificates, **arguments(place), diff=True)
    file = place / "letsencrypt/flask_apps-dns.ini"
    assert (file.read_text(), file.stat().st_mode & 0o777) == (CONTENT, 0o600)
    settings = (place / "settings").read_text()
    assert f"authenticator = dns-rfc2136\ndns-rfc2136-credentials = {file}\n" in settings
    assert "dns-rfc2136-propagation-seconds = 5\n" in settings
    assert "webroot" not in settings
    for text in (str(answer), settings, (place / "command").read_text()):
        assert "s3cret" not in text
    assert not run_module(certificates, **arguments(place, apps=[]))["changed"]


def test_plugin_without_credentials_and_seconds_is_told_neither(place, program, run_module):
    program("certbot", f'cp -p "$3" {place}/settings\nexit 1\n')
    run_module(certificates, **arguments(place, "dns-route53", credentials=""))
    settings = (place / "settings").read_text()
    assert "authenticator = dns-route53\n" in settings
    assert "dns-route53-" not in settings
    assert not (place / "letsencrypt/flask_apps-dns.ini").exists()


def test_certbot_gets_the_environment_and_the_timer_finds_it(place, program, run_module):
    program("certbot", f"printenv TOKEN > {place}/token; exit 1\n")
    file, values = place / "letsencrypt/flask_apps-dns.env", {"TOKEN": 's3cret " $x `\\n %i'}
    answer = run_module(certificates, **arguments(place, credentials="", environment=values), diff=True)
    assert (place / "token").read_text() == values["TOKEN"] + "\n"
    assert (file.read_text(), file.stat().st_mode & 0o777) == ('TOKEN="s3cret \\" \\$x \\`\\\\n %i"\n', 0o600)
    assert "s3cret" not in str(answer)
    assert not run_module(certificates, **arguments(place, apps=[], credentials="", environment=values))["changed"]


@pytest.mark.parametrize(
    ("environment", "renewed", "stays"), [(None, True, True), (None, False, False), ({}, True, False)]
)
def test_environment_is_removed_when_it_is_not_wanted_or_not_used(place, run_module, environment, renewed, stays):
    file = place / "letsencrypt/flask_apps-dns.env"
    file.write_text("TOKEN=s3cret\n")
    if renewed:
        (place / "letsencrypt/renewal/other.conf").write_text("authenticator = dns-route53\n")
    answer = run_module(certificates, **arguments(place, apps=[], credentials="", environment=environment), diff=True)
    assert (answer["changed"], file.exists()) == (not stays, stays)
    assert "s3cret" not in str(answer)


def test_failure_tells_what_the_plugin_said_and_what_to_check(place, program, run_module):
    program("certbot", "echo 'Missing property in file x:'; echo ' * Property \"a\" not found.' >&2; exit 1\n")
    assert run_module(certificates, **arguments(place))["told"] == [
        'The CA signed no certificate for shop, which gets a self-signed certificate and no redirect: Property "a" not '
        "found. Check certificates_acme_dns (if the CA saw no record, its propagation_seconds), and that this host "
        "reaches the DNS provider and the CA, then run again."
    ]


def test_other_or_open_credentials_are_replaced_and_check_mode_writes_none(place, run_module):
    file = place / "letsencrypt/flask_apps-dns.ini"
    assert run_module(certificates, **arguments(place, apps=[]), check=True)["changed"]
    assert not file.exists()
    for text, mode in (("old s3cret\n", 0o600), (CONTENT, 0o644)):
        file.write_text(text)
        file.chmod(mode)
        answer = run_module(certificates, **arguments(place, apps=[]), diff=True)
        assert answer["changed"]
        assert "s3cret" not in str(answer)
        assert (file.read_text(), file.stat().st_mode & 0o777) == (CONTENT, 0o600)


def test_credentials_are_removed_when_no_certificate_is_renewed_with_them(place, run_module):
    file, renewal = place / "letsencrypt/flask_apps-dns.ini", place / "letsencrypt/renewal/other.conf"
    file.write_text("s3cret")
    renewal.write_text(f"dns_rfc2136_credentials = {file}\n")
    unused = arguments(place, apps=[], credentials="")
    assert not run_module(certificates, **unused)["changed"]
    renewal.unlink()
    assert run_module(certificates, **unused, check=True)["changed"]
    assert file.exists()
    answer = run_module(certificates, **unused, diff=True)
    assert answer["changed"]
    assert "s3cret" not in str(answer)
    assert not file.exists()


def test_challenge_of_a_certificate_is_described_as_the_plan_says_it(place):
    conf = place / "letsencrypt/renewal/flask_apps-shop.conf"
    conf.write_text("[renewalparams]\nauthenticator = dns-rfc2136\ndns_rfc2136_propagation_seconds = 5\n")
    assert certificate.describe_all(str(place / "nginx"))["shop"]["challenge"] == "dns-rfc2136 5"
    conf.write_text("[renewalparams]\nauthenticator = webroot\nwebroot_path = /x,\n")
    assert certificate.describe_all(str(place / "nginx"))["shop"]["challenge"] == "webroot"


@pytest.mark.parametrize(("challenge", "asked"), [("dns-rfc2136 5", False), ("webroot", True)])
def test_renewed_certificate_is_installed_without_a_request_only_when_the_challenge_is_right(
    challenge, asked, place, program, run_module
):
    program("certbot", f"touch {place}/asked; exit 1\n")
    live = place / "letsencrypt/live/flask_apps-shop"
    live.mkdir(parents=True)
    for name in ("fullchain.pem", "privkey.pem"):
        (live / name).write_text("renewed\n")
    plugin, _space, seconds = challenge.partition(" ")
    wait = f"{plugin.replace('-', '_')}_propagation_seconds = {seconds}"
    conf = f"server = {LETSENCRYPT}\nauthenticator = {plugin}\n{wait}\n"
    (place / "letsencrypt/renewal/flask_apps-shop.conf").write_text(conf)
    run_module(certificates, **arguments(place))
    assert (place / "asked").exists() is asked
