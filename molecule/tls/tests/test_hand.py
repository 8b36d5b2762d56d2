import ssl, json
import pytest
from conftest import Traffic, ask, certificate, root_of
from cryptography import x509

def show(fleet, addresses, names):
    for host in fleet:
        a = addresses[host.backend.name]
        for name, path in names:
            ctx = ssl.create_default_context(cadata=root_of(host))
            try:
                answer, body = ask(a, name, path, context=ctx)
                print(a, name, path, answer.status, body[:60])
            except Exception as e:
                print(a, name, path, repr(e))
            answer, body = ask(a, name, path, tls=False)
            print("   http", answer.status, answer.headers["Location"])

class Paths(Traffic):
    """Traffic to paths."""
    def _run(self, address, name, path):
        import time, http.client
        while not self._stop.is_set():
            try:
                answer, body = ask(address, name, path, tls=self.tls)
                if answer.status not in self.right:
                    self.failures.append(f"{name}{path} at {address}: status {answer.status}")
                elif self.tls and json.loads(body).get("SCRIPT_NAME","") != path.rstrip("/"):
                    self.failures.append(f"{name}{path} at {address}: wrong app {body[:300]}")
            except Exception as error:
                self.failures.append(f"{name}{path} at {address}: {error!r}")
            self.sent += 1
            time.sleep(0.05)

def test_all(fleet, addresses, apps, playbook, variant):
    for host in fleet:
        host.check_output("grep -q pair.test /etc/hosts || echo 127.0.0.1 pair.test >> /etc/hosts")
    base = {k: v for k, v in apps["shop"].items()}
    cart = {**base, "name": "cart", "path": "/cart"}
    alpha = {**base, "name": "alpha", "path": "/alpha", "domains": ["pair.test"]}
    beta = {**base, "name": "beta", "path": "/beta", "domains": ["pair.test"]}
    every = [*apps.values(), cart, alpha, beta]
    names = [("shop.test", "/"), ("shop.test", "/cart/"), ("pair.test", "/alpha/"), ("pair.test", "/beta/")]
    targets = [(a, n, p) for a in addresses.values() for n, p in names]
    # the owner goes
    left = [t for t in targets if t[2] != "/alpha/"]
    with Paths(left) as traffic:
        run = playbook("deploy", "-e", "app=alpha,beta,cart", variables={"flask_apps": [*apps.values(), cart, {**alpha, "state": "absent"}, beta]})
    print("OWNER GONE", run.failed, run.error[:600], traffic.sent, len(traffic.failures), traffic.failures[:8])
    show(fleet, addresses, names)
    for host in fleet: print(host.check_output("ls -la /etc/nginx/certificates /etc/letsencrypt/renewal"))
    # and comes back
    with Paths(left) as traffic:
        run = playbook("deploy", "-e", "app=alpha,beta", variables={"flask_apps": every})
    print("OWNER BACK", run.failed, run.error[:600], traffic.sent, len(traffic.failures), traffic.failures[:8])
    show(fleet, addresses, names)
    for host in fleet: print(host.check_output("ls -la /etc/nginx/certificates /etc/letsencrypt/renewal"))
