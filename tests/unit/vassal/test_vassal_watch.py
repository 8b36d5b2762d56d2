"""Statistics, and instances that can never come up."""

import json
import signal

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import (
    uwsgi_client,
)
from ansible_collections.flaskops.emperor.plugins.module_utils.processes import Process
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal import (
    health,
    timing,
    watch,
)
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.health import Stop, Unhealthy
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.slots import Slot
from vassal_host import (
    generation,
    later,
)

ABSENT, SILENCE = ConnectionRefusedError(), TimeoutError()


def stats(*workers):
    """What a statistics socket tells of workers, each (id, respawn count, accepting)."""
    return {
        "pid": 1,
        "workers": [
            {
                "id": number,
                "pid": 100 + count,
                "accepting": accepting,
                "status": "idle",
                "respawn_count": count,
                "cores": [],
            }
            for number, count, accepting in workers
        ],
    }


def not_yet(dying, *told):
    for one in told:
        with pytest.raises(Unhealthy, match="none of its workers has loaded the app") as reason:
            dying(one)
        assert not isinstance(reason.value, Stop)


def hopeless(dying, told):
    with pytest.raises(Stop, match="its workers die as soon as they start"):
        dying(told)


def test_workers_that_die_again_and_again_are_hopeless(dying):
    not_yet(dying, *(stats((1, count, 0), (2, 1, 0)) for count in (4, 5, 6)))
    hopeless(dying, stats((1, 7, 0), (2, 1, 0)))


def test_a_worker_that_serves_keeps_waiting(dying):
    for count in (1, 5, 9):
        dying(stats((1, count, 0), (2, 1, 1)))


def test_a_worker_that_serves_and_an_instance_that_only_loads_are_told_apart(dying):
    # An app that is slow to answer gets more time for each check, one that loads is asked again soon.
    assert dying(stats((1, 1, True))) is True
    assert dying(ABSENT) is False


def test_missing_statistics_socket_keeps_waiting(dying):
    for _look in range(20):
        dying(ABSENT)


def test_long_silent_master_is_hopeless(dying):
    # It has its hands full with workers that die.
    not_yet(dying, *[SILENCE] * (timing.SILENCES - 1))
    hopeless(dying, SILENCE)


def test_master_that_is_silent_now_and_then_keeps_waiting(dying):
    for _time in range(3):
        not_yet(dying, *[SILENCE] * (timing.SILENCES - 1))
        dying(stats((1, 1, 1)))


def test_lazy_workers_get_a_request(dying):
    cheap = stats((1, 1, 0), (2, 1, 0))
    for worker in cheap["workers"]:
        worker.update(status="cheap", pid=0)
    for _look in range(5):
        dying(cheap)


def test_a_master_that_answers_between_two_batches_of_dying_workers_is_hopeless(dying):
    for _time in range(timing.SILENCES - 1):
        not_yet(dying, SILENCE)
        not_yet(dying, stats((1, 2, 0), (2, 1, 0)))
    hopeless(dying, SILENCE)


def test_invalid_statistics_keep_waiting(dying, monkeypatch):
    monkeypatch.setattr(uwsgi_client, "statistics", lambda *_arguments, **_more: json.loads(""))
    for _look in range(20):
        dying(ABSENT)


def test_ending_workers_of_a_reload_keep_waiting(host, monkeypatch):
    """A master that reloads is silent while they do, or says that they accept."""
    former = host.put("blue", host.config("1")).workers[0].process
    hopeless = watch.watch(host.app().slots[0])

    def statistics(sock, timeout):
        raise SILENCE

    monkeypatch.setattr(uwsgi_client, "statistics", statistics)
    monkeypatch.setattr(host, "bury", lambda file, instance: None)
    for _look in range(20):
        assert not hopeless()
    with host.lock:
        for worker in host.instance("blue").workers:
            host.alive.discard(worker.process)
    assert former not in host.alive
    for _look in range(timing.SILENCES - 1):
        with pytest.raises(Unhealthy, match="none of its workers has loaded the app"):
            hopeless()
    with pytest.raises(Stop, match="its workers die as soon as they start"):
        hopeless()


@pytest.mark.parametrize(("fault", "killed"), [("dies", True), ("broken", False)])
def test_master_whose_workers_die_is_killed_before_the_rollback(fault, killed, host, impatient):
    host.deploy("1")
    host.commit()
    master = host.instance("blue").master
    with pytest.raises(Unhealthy, match="The earlier release serves again"):
        host.deploy(fault, reload="graceful")
    assert ((signal.SIGKILL, master) in host.signals) is killed
    assert host.answers(f"{host.sockets}/app.sock") == generation(host, "1")


def test_no_request_is_sent_before_a_worker_accepts(host):
    # The question would wait in the queue, and nobody would see meanwhile that the workers die.
    slow = host.put("blue", host.config("1"))
    with host.lock:
        slow.accepting = False
    later(0.3, slow, "accepting", True)
    slot = host.app().slots[0]
    health.wait(host.app(), slot.socket, generation(host, "1"), 20, watch.watch(slot))
    assert len(host.asked) == 1


def test_cheap_worker_does_not_count():
    one, other = stats((1, 1, 1), (2, 1, 1))["workers"]
    assert watch.workers({"workers": [one, {**other, "status": "cheap"}]}) == [one]
    assert watch.workers({"workers": [{**one, "pid": 0}, other]}) == [other]


def test_master_that_restarts_at_every_look_is_hopeless(host, monkeypatch):
    looks: list[None] = []
    monkeypatch.setattr(Slot, "instance", lambda _slot: [Process(len(looks), 7), Process(99, 7)])
    hopeless = watch.watch(host.app().slots[0])
    for _look in range(3):
        looks.append(None)
        hopeless()
    looks.append(None)
    with pytest.raises(Stop, match="it ends as soon as it starts, again and again"):
        hopeless()


def test_slow_master_is_awaited(host, monkeypatch):
    monkeypatch.setattr(Slot, "instance", lambda _slot: [Process(1, 7)])
    hopeless = watch.watch(host.app().slots[0])
    for _look in range(20):
        hopeless()


def test_a_master_that_ended_is_hopeless(host):
    instance = host.put("blue", host.config("1"))
    hopeless = watch.watch(host.app().slots[0])
    hopeless()
    with host.lock:
        host.alive.discard(instance.master)
        with pytest.raises(Stop, match="it ends when it starts"):
            hopeless()


def test_missing_master_keeps_waiting(host):
    hopeless = watch.watch(host.app().slots[0])
    hopeless()


def test_master_that_can_start_no_worker_is_hopeless(dying):
    refused = {"pid": 1, "workers": [{"id": 1, "pid": 0, "accepting": 0, "status": "idle", "respawn_count": 0}]}
    not_yet(dying, refused, refused, stats((1, 1, 0)), refused, refused)
    with pytest.raises(Stop, match="it could start no worker"):
        dying(refused)
