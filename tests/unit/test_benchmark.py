"""The benchmark of a user's app: what is refused, what figures mean, the page, and its load on a socket."""

import contextlib
import socket
import struct
import threading
import time

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils.benchmark import instance, load
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.config import Config
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.health import Unhealthy
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.store import App
from ansible_collections.flaskops.emperor.plugins.plugin_utils.benchmark import page, verdict, wanted
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused

APPS = {"shop": {"name": "shop", "domains": ["*.shop.test"], "health": {"path": "/healthz", "status": 204}}}
OPTIONS = {"name": "shop", "path": "", "status": "200", "at_a_time": "", "workers": "", "seconds": "3", "rounds": "2",
           "confirm": True}  # fmt: skip
ASKED = load.Asked("/", "shop.test", 200)


def test_settings_that_are_not_given_follow_from_the_app():
    found = wanted.check(OPTIONS, APPS)
    assert (found["path"], found["host"], found["health_status"]) == ("/healthz", "health.shop.test", 204)
    assert found["at_a_time"] == [1, 2, 4, 8, 16, 32, 64]
    assert wanted.check({**OPTIONS, "at_a_time": "8,1,8", "workers": "2x8, 4x4"}, APPS)["at_a_time"] == [1, 8]


def test_benchmark_of_an_app_that_cannot_run_twice_is_refused():
    with pytest.raises(Refused, match=r"^app is shop, whose reload is exclusive, as it cannot run twice at a time: a"):
        wanted.check(OPTIONS, {"shop": {**APPS["shop"], "reload": "exclusive"}})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"name": ""}, "app is not set: add `-e app=NAME` with one of shop."),
        ({"name": "shopp"}, "app is shopp, which is not in flask_apps: add"),
        ({"confirm": False}, "confirm is not set, but a benchmark takes processors and memory"),
        ({"path": "cart"}, "path is 'cart', but must begin with /"),
        ({"at_a_time": "0,4"}, "at_a_time is 0,4, but must be at most 10 numbers from 1 to 256"),
        ({"at_a_time": ",".join(map(str, range(1, 12)))}, "but must be at most 10 numbers"),
        ({"workers": "4"}, "workers is 4, but must be at most 8 of processes x threads"),
        ({"workers": "64x64"}, "together at most 512 each: -e workers=2x8,4x8."),
        ({"seconds": "0"}, "seconds is 0, but must be a number from 0.2 to 30."),
        ({"rounds": "six"}, "rounds is six, but must be a number from 1 to 5."),
        ({"seconds": "30", "rounds": "5"}, "the load would take 90 minutes, but it may take 30"),
    ],
)
def test_benchmark_without_bounds_or_confirmation_is_refused_with_a_sentence(changes, sentence):
    with pytest.raises(Refused, match=r"^[a-z_]+ is ") as refused:
        wanted.check({**OPTIONS, **changes}, APPS)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def steps(rates, **more):
    """What a round or two found, by requests at a time."""
    base = {"requests": 100, "failed": 0, "p50": 5.0, "p95": 9.0, "busy": 0.5, "client": 0.1}
    return {str(at): [{**base, **more, "rate": rate} for rate in several] for at, several in rates.items()}


def measured(**settings):
    return verdict.settings({name[1:]: {"memory": 1, "steps": found} for name, found in settings.items()})


def test_fewest_requests_at_a_time_that_get_nearly_all_are_the_best():
    (one,) = measured(_2x8=steps({1: [100], 4: [390], 8: [400], 16: [401]}))
    assert one.best.at_a_time == 4


def test_workers_that_serve_clearly_more_are_recommended():
    found = measured(_2x2=steps({1: [10], 4: [40, 41]}), _2x8=steps({1: [10], 16: [150, 151]}))
    assert verdict.chosen(found, "2x2").name == "2x8"
    told = verdict.reasons(found, "2x2")
    assert told[0].startswith("Set `workers: {processes: 2, threads: 8}`: 2 processes of 8 threads serve 150 ")
    assert "-e workers=2x8,4x8,2x16" in told[1]


def test_what_serves_is_kept_when_others_differ_by_less_than_rounds_do():
    found = measured(_2x8=steps({1: [100, 115]}), _4x8=steps({1: [118, 116]}))
    assert verdict.chosen(found, "2x8").name == "2x8"
    assert verdict.reasons(found, "2x8")[0].startswith("Keep 2 processes of 8 threads")


def test_of_equal_workers_those_with_the_fewest_slots_are_recommended():
    found = measured(_1x1=steps({1: [10, 10]}), _4x16=steps({1: [101, 101]}), _2x8=steps({1: [100, 101]}))
    assert verdict.chosen(found, "1x1").name == "2x8"


def test_nothing_is_recommended_when_rounds_differ_too_much():
    found = measured(_2x2=steps({1: [10, 20]}), _2x8=steps({1: [100, 101]}))
    assert verdict.reasons(found, "2x2")[0].startswith("Nothing can be recommended: the rounds differ by 67%.")


def test_one_round_claims_only_what_no_chance_explains():
    small = measured(_2x2=steps({4: [100]}), _2x8=steps({16: [120]}))
    told = verdict.reasons(small, "2x2")
    assert told[0].startswith("Keep 2 processes of 2 threads")
    assert told[-1].startswith("One round cannot tell by how much rounds differ, so differences below 25%")
    large = measured(_2x2=steps({4: [100]}), _2x8=steps({16: [400]}))
    assert verdict.reasons(large, "2x2")[0].startswith("Set `workers: {processes: 2, threads: 8}`")
    assert not any("rounds of the same differ as much" in line for line in verdict.reasons(large, "2x2"))


def test_failed_requests_and_the_limit_are_told():
    told = " ".join(verdict.reasons(measured(_2x2=steps({1: [10], 2: [10]}, failed=3, busy=0.97)), "2x2"))
    assert "6 of 206 requests failed" in told
    assert "97% busy then: they are the limit" in told


def test_page_escapes_and_tells_what_was_left_out():
    answer = {"measured": {"2x2": {"memory": 2**20, "steps": steps({1: [10]})}}, "served": "2x2", "release": "r1",
              "processors": 2, "left_out": {"4x2": "needs about 900 MiB"}, "switched": True}  # fmt: skip
    options = wanted.check({**OPTIONS, "path": "/<b>"}, APPS)
    text = page.page(options, answer, "web1")
    assert "<b>" not in text
    for part in ("4x2 was not measured: it needs about 900 MiB.", "Another release took over meanwhile", "&lt;b&gt;"):
        assert part in text
    assert "2x2 (now)" in "\n".join(page.lines(options, answer, "web1"))


def test_instance_has_other_workers_and_sockets_of_its_own():
    options = (("processes", "2"), ("threads", "8"), ("cheaper", "1"), ("socket", "/run/shop/%n.sock"), ("stats", "x"))
    served = Config({"app": "shop:app", "socket": "/held.sock", "holder": "/h.sock", "identifier": "shop"}, options)
    config = instance.sized(served, "/run/shop", 4, 2)
    assert (config.number("processes"), config.number("threads")) == (4, 2)
    assert [value for name, value in config.options if name in ("socket", "stats")] == [
        "/run/shop/benchmark.sock", "/run/shop/benchmark.stats"]  # fmt: skip
    assert config.socket == ""
    assert not config.value("cheaper")


def test_file_of_the_instance_which_has_the_environment_is_for_the_app_alone(tmp_path, program, deeds, sandboxed):
    program("systemd-run", 'for word; do file=$word; done; stat -c "mode %a" "$file" >&2; exit 1')
    app = App({"name": "shop", "run": str(tmp_path), "directory": str(tmp_path)})
    with pytest.raises(Unhealthy, match="mode 400"), instance.running(app, Config(), 1):
        pass


@pytest.fixture
def server(tmp_path):
    """A server of the uwsgi protocol that answers one request after the other, after a while."""
    path, answers = str(tmp_path / "app.sock"), {"status": 200, "seconds": 0.02, "most": 0}
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen(64)
    running, lock = [], threading.Lock()

    def answer(connection):
        with lock:
            running.append(1)
            answers["most"] = max(answers["most"], len(running))
        size = struct.unpack("<H", connection.recv(4)[1:3])[0]
        assert b"HTTP_HOST\x09\x00shop.test" in connection.recv(size)
        time.sleep(answers["seconds"])
        with lock:
            running.pop()
        with connection, contextlib.suppress(BrokenPipeError):  # of a client that does not wait
            connection.sendall(b"HTTP/1.1 %d OK\r\n\r\nfine" % answers["status"])

    def accept():
        while True:
            try:
                connection = listening.accept()[0]
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield path, answers
    listening.shutdown(socket.SHUT_RDWR)  # ends the waiting of the thread; closing it would not
    thread.join()
    listening.close()


def test_load_keeps_so_many_requests_under_way(server):
    path, answers = server
    found = load.load(path, ASKED, 4, 0.5)
    assert answers["most"] == 4
    assert found["failed"] == 0
    assert 20 <= found["requests"] <= 100
    assert 20 <= found["p50"] <= found["p95"]
    assert found["rate"] == pytest.approx(found["requests"] / 0.52, rel=0.3)


def test_other_status_than_the_wanted_one_is_a_failure(server):
    path, answers = server
    answers["status"] = 500
    found = load.load(path, ASKED, 1, 0.2)
    assert found["requests"] == found["rate"] == found["p95"] == 0
    assert found["failed"] > 0


def test_request_that_does_not_end_is_a_failure(server, monkeypatch):
    path, answers = server
    answers["seconds"] = 3
    monkeypatch.setattr(load, "MERCY", 0.3)
    began = time.monotonic()
    assert load.load(path, ASKED, 2, 0.2)["failed"] == 2
    assert time.monotonic() - began < 2
