"""Side processes that serve a path: their sockets, and the links by which nginx finds them."""

import os
import socket
import time

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import system
from ansible_collections.flaskops.emperor.plugins.module_utils.sides import sockets, states, store, units
from ansible_collections.flaskops.emperor.plugins.plugin_utils import side_processes
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.apps import complete_apps
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused

LIVE = {"command": "uvicorn --uds {socket} live:app", "serve": "/live", "start_seconds": 1}


def app(**changes):
    return complete_apps([{"name": "shop", "app": "shop:app", "source": {"path": "."}, **changes}])[0]


@pytest.fixture
def job(tmp_path):
    """Two processes that serve."""
    where = {"socket": "run/shop", "held": "run-sockets/shop/sides", "link": "home"}
    return {**LIVE, "instances": 2, **{name: f"{tmp_path}/{path}/side.live" for name, path in where.items()}}


@pytest.fixture
def listening(tmp_path):
    """A socket on which a process listens, with both its names."""
    places = [tmp_path / "run/shop", tmp_path / "run-sockets/shop/sides"]
    for place in (*places, tmp_path / "home"):
        place.mkdir(parents=True)
    opened = []

    def make(name, mode=0o770):
        own, held = (place / name for place in places)
        one = socket.socket(socket.AF_UNIX)
        one.bind(str(own))
        one.listen()
        own.chmod(mode)
        held.hardlink_to(own)
        opened.append(one)

    yield make
    for one in opened:
        one.close()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"background": {"ws": LIVE | {"serve": "live"}}}, "flask_apps[shop].background.ws.serve must be a URL prefix"),
        ({"background": {"a": LIVE, "b": LIVE}}, "flask_apps[shop].background.b.serve is /live, which a has too"),
        ({"background": {"a": LIVE}, "static": {"/live": "x"}}, "flask_apps[shop].serve has /live, which static has"),
        ({"background": {"a": LIVE}, "environment": {"EMPEROR_SOCKET": "x"}}, "flask_apps[shop].environment.EMPEROR_S"),
    ],
)
def test_wrong_setting_is_refused_with_a_sentence(settings, sentence):
    with pytest.raises(Refused) as refusal:
        app(**settings)
    assert str(refusal.value).startswith(sentence)


def test_job_knows_its_socket_and_other_jobs_have_none():
    found = side_processes.sides(app(background={"live": LIVE, "worker": {"command": "rq worker"}}), "aaa")
    assert found["live"]["socket"] == "/run/emperor/shop/side.live"
    assert found["live"]["held"] == "/run/emperor-sockets/shop/sides/side.live"
    assert found["live"]["link"] == "/srv/flask_apps/shop/side.live"
    assert not {"socket", "held", "link", "serve"} & set(found["worker"])
    text = "".join(units.files("shop", "live", {**found["live"], "sandbox": []}).values())
    assert "UMask=0007" in text
    assert "-- /usr/local/libexec/emperor-side-socket shop live %i\n" in text


def test_links_lead_to_the_generation_that_serves(job, tmp_path):
    (tmp_path / "home").mkdir()
    assert not sockets.led(job, "aaa")
    assert sockets.lead(job, "aaa")
    assert sockets.led(job, "aaa")
    assert not sockets.lead(job, "aaa")
    assert os.readlink(tmp_path / "home/side.live.2.sock") == f"{tmp_path}/run-sockets/shop/sides/side.live.aaa-2.sock"
    assert sockets.lead(job, "bbb")
    assert not sockets.led(job, "aaa")


def test_process_that_serves_nothing_has_no_link(job):
    del job["serve"]
    assert sockets.led(job, "aaa")
    assert not sockets.lead(job, "aaa")


def test_socket_must_accept_connections_and_be_open_to_nginx(job, listening):
    listening("side.live.aaa-1.sock")
    listening("side.live.aaa-2.sock", 0o750)
    unit = "emperor-side-shop.live@aaa-%d.service"
    assert sockets.closed(job, unit % 1) == ""
    assert "is not open to nginx" in sockets.closed(job, unit % 2)
    assert "it does not accept connections on" in sockets.closed(job, unit % 3)
    assert sockets.closed({"command": "rq worker"}, unit % 3) == ""


def test_what_is_no_more_leaves_no_link_and_no_socket(job, listening, tmp_path):
    for name in ("side.live.aaa-1.sock", "side.live.bbb-1.sock", "side.old.ccc-1.sock", "shop.blue.sock"):
        listening(name)
    sockets.lead(job, "bbb")
    sockets.lead({**job, "link": f"{tmp_path}/home/side.old"}, "ccc")
    assert sockets.forget(str(tmp_path / "home"), str(tmp_path / "run/shop"), [(job, "bbb")])
    for place in ("run/shop", "run-sockets/shop/sides"):
        assert sorted(os.listdir(tmp_path / place)) == ["shop.blue.sock", "side.live.bbb-1.sock"]
    assert sorted(os.listdir(tmp_path / "home")) == ["side.live.1.sock", "side.live.2.sock"]
    assert not sockets.forget(str(tmp_path / "home"), str(tmp_path / "run/shop"), [(job, "bbb")])


def test_one_that_does_not_open_its_socket_is_refused(job, listening, monkeypatch):
    names = dict.fromkeys(units.instances("shop", "live", "aaa", job), "live")
    monkeypatch.setattr(states, "last_words", lambda name, _began: f"words of {name}")
    monkeypatch.setattr(states, "LOOK", 0.1)
    monkeypatch.setattr(
        system, "show", lambda names, _properties: {name: {"ActiveState": "active", "NRestarts": "0"} for name in names}
    )
    listening("side.live.aaa-1.sock")
    with pytest.raises(store.Unfit) as refusal:
        states.watch(names, {"live": job}, 0)
    assert "its side process live does not serve: it does not accept connections on" in str(refusal.value)
    assert str(refusal.value).endswith("words of emperor-side-shop.live@aaa-2.service")
    listening("side.live.aaa-2.sock")
    begun = time.monotonic()
    states.watch(names, {"live": {**job, "start_seconds": 30}}, 0)
    assert time.monotonic() - begun < 5
