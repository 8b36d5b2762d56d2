"""The balancer: the app sees the client as it is, and a configuration that HAProxy does not run changes nothing."""

import http.client
import json
import socket
import ssl
import subprocess

import pytest

FORGED = {"X-Forwarded-For": "192.0.2.66", "X-Forwarded-Proto": "gopher", "X-Forwarded-Host": "evil.test",
          "X-Forwarded-Port": "66", "X-Real-IP": "192.0.2.66"}  # fmt: skip
# What a stranger says of its client by the PROXY protocol, on a web host.
STRANGER = r"""
import json, socket
with socket.create_connection(("127.0.0.1", 8080), 10) as stranger:
    stranger.sendall(b"PROXY TCP4 192.0.2.66 192.0.2.1 6666 443\r\n"
                     b"GET /echo HTTP/1.0\r\nHost: echo.test\r\n\r\n")
    print(b"".join(iter(lambda: stranger.recv(65536), b"")).partition(b"\r\n\r\n")[2].decode())
"""


class Trusting(ssl.SSLContext):
    """Believes any certificate."""

    def __new__(cls):
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self):
        self.check_hostname, self.verify_mode = False, ssl.CERT_NONE


@pytest.fixture(scope="session")
def fetch(hosts):
    """What the app echo is told of a request: the status, its environment or the headers, and the client's own port."""
    address = hosts["emperor-balancer"].check_output("hostname -I").split()[0]

    def ask(scheme, host="echo.test"):
        with socket.create_connection((address, 443 if scheme == "https" else 80), 20) as plain:
            port = plain.getsockname()[1]
            client = http.client.HTTPConnection(host, timeout=20)
            client.sock = Trusting().wrap_socket(plain, server_hostname=host) if scheme == "https" else plain
            client.request("GET", "/echo", headers=FORGED)
            answer = client.getresponse()
            body = answer.read()
            client.sock.close()
        return answer.status, json.loads(body) if answer.status == 200 else dict(answer.getheaders()), port

    return ask


@pytest.fixture(scope="session")
def mine(hosts):
    """The address of this machine, as the balancers see it."""
    return hosts["emperor-balancer"].check_output("ip route show default").split()[2]


def balance(playbook, where="load_balancers", **variables):
    return playbook("site", f"--limit={where}", variables=variables)


def test_certificate_makes_the_balancer_serve_https(fetch, mine, playbook, tmp_path, apps):
    pem = tmp_path / "echo.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=echo.test", "-keyout", pem]
    made = subprocess.run([*command, "-out", "-"], check=True, capture_output=True, text=True)
    pem.write_text(made.stdout + pem.read_text())
    certified = {"load_balancer_certificates": [str(pem)]}
    refused = playbook("site", variables={**certified, "nginx_keepalive_seconds": 7})
    assert "load_balancer_certificates is set, but HTTPS of sealed is passed on" in refused.error
    assert refused.changed == 0, refused.output
    run = balance(playbook, **certified, flask_apps=[apps["shop"], apps["echo"]])
    assert not run.failed, run.error
    assert "PRIVATE KEY" not in run.output
    status, environ, _port = fetch("https")
    assert status == 200
    assert environ["REMOTE_ADDR"] == mine
    assert environ["SERVER_PORT"] == "443"
    assert environ["wsgi.url_scheme"] == environ["HTTP_X_FORWARDED_PROTO"] == "https"
    status, headers, _port = fetch("http")
    assert status == 308
    assert headers["location"] == "https://echo.test/echo"
    assert not balance(playbook).failed
    assert fetch("http")[0] == 200


def test_app_sees_the_client_behind_the_balancer(fetch, mine):
    by_protocol = set()
    for _time in range(6):
        status, environ, port = fetch("http")
        assert status == 200
        assert environ["REMOTE_ADDR"] == environ["HTTP_X_FORWARDED_FOR"] == environ["HTTP_X_REAL_IP"] == mine
        assert environ["HTTP_HOST"] == "echo.test"
        assert environ["SERVER_PORT"] == "80"
        assert environ["wsgi.url_scheme"] == environ["HTTP_X_FORWARDED_PROTO"] == "http"
        # The client's own port comes by the PROXY protocol only.
        by_protocol.add(environ["REMOTE_PORT"] == str(port))
    assert by_protocol == {False, True}, "not all hosts answered"
    assert fetch("http", host="other.test")[0] == 421


def test_app_sees_the_client_of_https_that_the_balancer_passes_on(fetch, mine):
    status, environ, port = fetch("https", "sealed.test")
    assert status == 200
    assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == (mine, str(port))
    assert environ["HTTP_X_FORWARDED_FOR"] == environ["HTTP_X_REAL_IP"] == mine
    assert environ["HTTP_HOST"] == "sealed.test"
    assert environ["SERVER_PORT"] == "443"
    assert environ["wsgi.url_scheme"] == environ["HTTP_X_FORWARDED_PROTO"] == "https"
    assert not {"HTTP_X_FORWARDED_HOST", "HTTP_X_FORWARDED_PORT"} & set(environ)
    status, headers, _port = fetch("http", "sealed.test")
    assert (status, headers["location"]) == (308, "https://sealed.test/echo")
    # What no app has for its name is not let in.
    with pytest.raises((ssl.SSLError, ConnectionError)):
        fetch("https", "other.test")


def test_stranger_is_not_believed_by_the_proxy_protocol(hosts):
    environ = json.loads(hosts["emperor-web1"].check_output("python3 -c %s", STRANGER))
    assert (environ["REMOTE_ADDR"], environ["SERVER_PORT"]) == ("127.0.0.1", "8080")
    assert environ["REMOTE_PORT"] != "6666"
    assert environ["wsgi.url_scheme"] == "http"


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
