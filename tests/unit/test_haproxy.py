"""HAProxy: a server is taken out and back, and a configuration that does not run is never left in place."""

import os

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import haproxy, system
from ansible_collections.flaskops.emperor.plugins.modules import haproxy_config, haproxy_server

HEAD = "# pxname,svname,qcur,scur,status,check_status,check_code,last_chk,uweight"


class Balancer:
    """Stands for HAProxy's statistics socket."""

    def __init__(self):
        self.status = {("app_shop", "web1"): "UP", ("app_shop", "web2"): "UP", ("app_blog", "web2"): "UP"}
        self.running = [2, 1, 0]  # requests of web1, look by look
        self.weights = {}
        self.told = []
        self.back = {"drain": "DRAIN", "ready": "UP"}

    def ask(self, command, path=""):
        if command == "show info":
            return "Pid: 7\n"
        if command.startswith("set server"):
            self.told.append(command)
            _set, _server, name, _state, state = command.split()
            self.status[tuple(name.split("/"))] = self.back[state]
            return "\n"
        running = self.running.pop(0) if len(self.running) > 1 else self.running[0]
        rows = [
            f"{app},{server},0,{running if server == 'web1' else 0},{status},L7OK,200,,{self.weights.get(server, 100)}"
            for (app, server), status in self.status.items()
        ]
        return "\n".join([HEAD, "web,FRONTEND,,,OPEN,,,,", *rows, ""])


@pytest.fixture
def balancer(monkeypatch):
    fake = Balancer()
    monkeypatch.setattr(haproxy, "ask", fake.ask)
    monkeypatch.setattr(haproxy, "PAUSE", 0)
    return fake


def test_server_is_drained_after_its_requests(run_module, balancer):
    answer = run_module(haproxy_server, state="drained", server="web1")
    assert answer["changed"]
    assert balancer.told == ["set server app_shop/web1 state drain"]
    assert [one["requests"] for one in answer["servers"] if one["server"] == "web1"] == [0]
    assert not run_module(haproxy_server, state="drained", server="web1")["changed"]


def test_only_server_of_an_app_is_not_drained(run_module, balancer):
    answer = run_module(haproxy_server, state="drained", server="web2")
    assert answer["failed"]
    assert "web2 is the only host that serves blog now" in answer["msg"]
    assert balancer.told == []


def test_server_that_is_alone_stays_for_that_app_only(run_module, balancer):
    answer = run_module(haproxy_server, state="drained", server="web2", alone="stay")
    assert balancer.told == ["set server app_shop/web2 state drain"]
    assert answer["apps"] == ["shop"]


def test_app_that_was_down_before_is_drained_and_not_named(run_module, balancer):
    balancer.status["app_blog", "web1"] = "DOWN"
    answer = run_module(haproxy_server, state="drained", server="web1")
    assert len(balancer.told) == 2
    assert answer["apps"] == ["shop"]


@pytest.mark.parametrize("apps", [[], ["shop"]])
def test_server_is_ready_when_the_apps_asked_for_are_up(run_module, balancer, monkeypatch, apps):
    balancer.status["app_shop", "web2"] = "DRAIN"
    balancer.status["app_blog", "web2"] = "DOWN"
    told = balancer.told
    balancer.back = {"ready": "UP"}
    ask = balancer.ask

    def down(command, path=""):
        answer = ask(command, path)
        balancer.status["app_blog", "web2"] = "DOWN"
        return answer

    monkeypatch.setattr(haproxy, "ask", down)
    answer = run_module(haproxy_server, state="ready", server="web2", apps=apps, wait=0)
    assert not answer["failed"]
    assert told == ["set server app_shop/web2 state ready", "set server app_blog/web2 state ready"]
    assert answer["apps"] == ["shop"]  # blog is down


def test_check_mode_sends_the_balancer_no_command(run_module, balancer):
    assert run_module(haproxy_server, check=True, state="drained", server="web1")["changed"]
    assert balancer.told == []


def test_server_is_ready_when_its_checks_pass(run_module, balancer):
    balancer.status["app_shop", "web1"] = "DRAIN"
    assert run_module(haproxy_server, state="ready", server="web1")["changed"]
    assert not run_module(haproxy_server, state="ready", server="web1")["changed"]


def test_drained_server_that_is_also_down_is_set_to_ready(run_module, balancer):
    balancer.status["app_shop", "web1"] = "DOWN"
    run_module(haproxy_server, state="ready", server="web1")
    assert balancer.told == ["set server app_shop/web1 state ready"]


def test_server_of_weight_0_comes_back_like_any_other(run_module, balancer):
    balancer.status["app_shop", "web1"] = "DRAIN"
    balancer.weights["web1"] = 0
    answer = run_module(haproxy_server, state="ready", server="web1")
    assert balancer.told == ["set server app_shop/web1 state ready"]
    assert [one["takes"] for one in answer["servers"] if one["server"] == "web1"] == [False]


def test_server_beside_which_others_have_weight_0_is_not_drained(run_module, balancer):
    balancer.weights["web2"] = 0
    assert (
        "web1 is the only host that serves shop now"
        in run_module(haproxy_server, state="drained", server="web1")["msg"]
    )


def test_server_that_stays_down_is_a_failure_that_says_why(run_module, balancer):
    balancer.status["app_shop", "web1"] = balancer.back["ready"] = "DOWN"
    answer = run_module(haproxy_server, state="ready", server="web1", wait=0)
    assert answer["failed"]
    assert "sends no requests to web1 after 0 s: shop is DOWN (L7OK 200)" in answer["msg"]


def test_server_unknown_to_the_balancer_changes_nothing(run_module, balancer):
    assert not run_module(haproxy_server, state="drained", server="web9")["changed"]


def test_draining_succeeds_while_the_balancer_is_stopped(run_module, tmp_path):
    answer = run_module(haproxy_server, state="drained", server="web1", socket=str(tmp_path / "none"))
    assert not answer["failed"]
    assert not answer["changed"]


def test_stopped_balancer_is_named(run_module, tmp_path):
    answer = run_module(haproxy_server, state="seen", socket=str(tmp_path / "none"))
    assert answer["failed"]
    assert "HAProxy does not answer" in answer["msg"]


@pytest.fixture
def installed(tmp_path, program, monkeypatch):
    """A directory of HAProxy, which refuses what has the word wrong in it and starts a new process on each reload."""
    program("haproxy", 'grep -q wrong "$3" && { echo "line 1: wrong" >&2; exit 1; }; exit 0')
    program("systemctl", f"echo $1 >> {tmp_path}/did")
    root = tmp_path / "haproxy"
    (root / "certificates").mkdir(parents=True)
    (root / "haproxy.cfg").write_text("old\n")
    units = {"haproxy.service": {"there": True, "active": True, "enabled": True, "stale": False}}
    monkeypatch.setattr(system, "units", lambda names: units)
    monkeypatch.setattr(system, "outdated", lambda unit, paths: False)
    pids = iter(range(1, 1000))
    monkeypatch.setattr(haproxy, "process", lambda: next(pids))
    monkeypatch.setattr(haproxy, "ask", lambda command, path="": "1\n")
    return root


@pytest.fixture
def configure(run_module, installed, tmp_path):
    def run(content, **more):
        return run_module(haproxy_config, content=content, root=str(installed), states=str(tmp_path / "states"), **more)

    return run


def test_new_configuration_is_reloaded(configure, installed, tmp_path):
    answer = configure("new\n", certificates={"shop.pem": "KEY"})
    assert answer["done"] == ["reload"]
    assert (installed / "haproxy.cfg").read_text() == "new\n"
    assert (installed / "certificates/shop.pem").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "did").read_text() == "reload\n"
    assert (tmp_path / "states").read_text() == "1\n", "a later reload would bring back old states"
    assert not configure("new\n", certificates={"shop.pem": "KEY"})["changed"]


def test_certificate_that_is_no_longer_named_is_removed(configure, installed):
    (installed / "certificates/old.pem").write_text("KEY")
    assert configure("old\n")["changed"]
    assert not (installed / "certificates/old.pem").exists()


def test_refused_configuration_is_never_in_place(configure, installed, tmp_path):
    answer = configure("wrong\n")
    assert answer["failed"]
    assert "line 1: wrong" in answer["msg"]
    assert (installed / "haproxy.cfg").read_text() == "old\n"
    assert not (tmp_path / "did").exists()


def test_changed_certificate_is_tested_before_it_is_in_place(configure, installed, program):
    program("haproxy", """grep -rq wrong "$(sed -n 's/^crt //p' "$3")" && { exit 1; }; exit 0""")
    text = f"crt {installed}/certificates/\n"
    assert not configure(text, certificates={"shop.pem": "KEY"})["failed"]
    assert "HAProxy refuses" in configure(text, certificates={"shop.pem": "wrong"})["msg"]
    assert (installed / "certificates/shop.pem").read_text() == "KEY"
    assert os.listdir(installed / "certificates") == ["shop.pem"]


@pytest.fixture
def serving(installed, balancer, monkeypatch):
    """A balancer that runs, with web1 and web2 for shop and web2 for blog."""
    balancer.running = [1, 1, 0]
    monkeypatch.setattr(haproxy, "ask", balancer.ask)
    return balancer


def lines(**apps):
    return "".join(
        f"backend app_{app}\n" + "".join(f"    server {one} x\n" for one in them) for app, them in apps.items()
    )


def test_server_that_leaves_an_app_is_drained_before_the_reload(configure, serving):
    assert configure(lines(shop=["web2"], blog=["web2"]))["done"] == ["reload"]
    assert serving.told == ["set server app_shop/web1 state drain"]
    assert serving.running == [0], "the reload did not wait for its requests"


def test_server_whose_app_has_no_other_yet_is_not_drained(configure, serving):
    configure(lines(shop=["web3"], blog=["web3"]))
    assert serving.told == []


def test_server_that_left_in_vain_gets_requests_again(configure, serving, monkeypatch):
    monkeypatch.setattr(haproxy, "process", lambda: 7)
    assert configure(lines(shop=["web2"], blog=["web2"]), wait=0)["failed"]
    assert serving.told[-1] == "set server app_shop/web1 state ready"


def test_configuration_that_no_process_takes_is_rolled_back(configure, installed, monkeypatch):
    monkeypatch.setattr(haproxy, "process", lambda: 7)
    answer = configure("new\n", wait=0)
    assert answer["failed"]
    assert "does not run the new configuration" in answer["msg"]
    assert (installed / "haproxy.cfg").read_text() == "old\n"
