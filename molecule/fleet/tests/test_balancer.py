"""The balancer: the app sees the client as it is, and a configuration that HAProxy does not run changes nothing."""

import json
import ssl
import subprocess
import urllib.error
import urllib.request

import pytest


@pytest.fixture(scope="session")
def fetch(hosts):
    """What the app echo is told of a request, and the status."""
    address = hosts["emperor-balancer"].check_output("hostname -I").split()[0]
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_arguments):
            return None

    opener = urllib.request.build_opener(Stay, urllib.request.HTTPSHandler(context=trusting))

    def ask(scheme, host="echo.test"):
        headers = {
            "Host": host,
            "X-Forwarded-For": "192.0.2.66",
            "X-Forwarded-Proto": "gopher",
            "X-Forwarded-Host": "evil.test",
        }
        try:
            with opener.open(
                urllib.request.Request(f"{scheme}://{address}/echo", headers=headers), timeout=20
            ) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers)

    return ask


def balance(playbook, where="load_balancers", **variables):
    return playbook("site", f"--limit={where}", variables=variables)


def test_app_sees_the_client_behind_the_balancer(fetch, hosts):
    status, environ = fetch("http")
    assert status == 200
    mine = hosts["emperor-balancer"].check_output("ip route show default").split()[2]
    assert environ["REMOTE_ADDR"] == environ["HTTP_X_FORWARDED_FOR"] == mine
    assert environ["HTTP_HOST"] == "echo.test"
    assert environ["wsgi.url_scheme"] == environ["HTTP_X_FORWARDED_PROTO"] == "http"
    assert fetch("http", host="other.test")[0] == 421


def test_certificate_makes_the_balancer_serve_https(fetch, playbook, tmp_path):
    pem = tmp_path / "echo.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=echo.test", "-keyout", pem]
    made = subprocess.run([*command, "-out", "-"], check=True, capture_output=True, text=True)
    pem.write_text(made.stdout + pem.read_text())
    run = balance(playbook, load_balancer_certificates=[str(pem)])
    assert not run.failed, run.error
    assert "PRIVATE KEY" not in run.output
    status, environ = fetch("https")
    assert status == 200
    assert environ["wsgi.url_scheme"] == environ["HTTP_X_FORWARDED_PROTO"] == "https"
    status, headers = fetch("http")
    assert status == 308
    assert headers["location"] == "https://echo.test/echo"
    assert not balance(playbook).failed
    assert fetch("http")[0] == 200


def test_configuration_that_haproxy_does_not_run_is_taken_back(fetch, playbook, hosts):
    name = "emperor-balancer"
    host = hosts[name]
    before = host.check_output("cat /etc/haproxy/haproxy.cfg")
    run = balance(playbook, name, load_balancer_metrics="nowhere.invalid:1")
    assert run.failed
    assert "HAProxy refuses the new configuration" in run.error
    # Its test does not notice that another program has the port.
    host.check_output("systemd-run --unit=taken python3 -m http.server --bind 127.0.0.1 8405")
    try:
        run = balance(playbook, name, load_balancer_metrics="127.0.0.1:8405")
    finally:
        host.check_output("systemctl stop taken")
    assert run.failed
    assert "The former configuration is back and runs" in run.error
    assert host.check_output("cat /etc/haproxy/haproxy.cfg") == before
    assert fetch("http")[0] == 200
    run = balance(playbook)
    assert not run.failed, run.error
    assert run.changed == 0, run.output


def test_metrics_are_there_for_prometheus(hosts):
    script = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8404/metrics').read().decode())"
    assert 'haproxy_server_status{proxy="app_shop",server="emperor-web1"' in hosts["emperor-balancer"].check_output(
        "python3 -c %s", script
    )
