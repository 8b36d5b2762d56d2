"""The memory guard: which worker it asks to end, on a host in memory."""

import pytest
from guard_programs import memory_guard
from guard_world import World
from hypothesis import given, settings
from hypothesis import strategies as st


def test_with_enough_memory_no_app_is_looked_at(monkeypatch):
    world = World(shop=[100, 300])
    monkeypatch.setattr(world, "instances", None)
    world.rest = 900
    assert world.guard.look() == 2
    assert not world.asked


def test_with_little_memory_the_largest_idle_worker_is_replaced_after_two_looks():
    world = World(shop=[100, 200], blog=[50, 250])
    world.look()
    assert not world.asked
    world.look(30)
    assert world.victims() == [250]
    assert world.said == [
        "asked the idle worker 2 of blog (pid 104, 250 MiB of its own) to end after its requests: 400 MiB of memory "
        "are available, twice the floor is 500 MiB",
        "worker 2 of blog is replaced (pid 105, 0 MiB of its own): available memory went from 400 to 650 MiB",
    ]


def test_no_more_workers_than_needed_are_replaced_one_after_the_other():
    world = World(shop=[60, 90, 80], blog=[110, 100, 20])
    world.rest = 800
    world.look(60)
    assert world.victims() == [110, 100]  # 340 MiB, 450 MiB, and then 550 MiB


def test_worker_with_a_request_at_one_of_two_looks_is_not_idle():
    world = World(shop=[400, 250])
    world.places["shop.blue"][0].requests = 1
    world.rest = 1100
    world.look()
    world.places["shop.blue"][0].requests, world.places["shop.blue"][1].requests = 0, 1
    world.look()
    assert not world.asked
    world.look()
    assert world.victims() == [400]


@pytest.mark.parametrize("why", ["memory", "pressure"])
def test_when_it_is_urgent_and_none_is_idle_the_largest_worker_is_replaced_at_once(why):
    world = World(shop=[300, 100], blog=[200, 100])
    for one in world.workers:
        one.requests = 1
    world.look(30)
    assert not world.asked
    if why == "memory":
        world.rest = 900
    else:
        world.stalled = memory_guard.STALLED
    world.look()
    assert world.victims() == [300]


def test_idle_worker_is_replaced_before_a_larger_busy_one():
    world = World(shop=[300, 300], blog=[100, 150])
    for one in world.places["shop.blue"]:
        one.requests = 1
    world.rest = 1050
    world.look()
    assert world.victims() == [150]


@pytest.mark.parametrize("state", ["starting", "dead"])
def test_no_worker_is_replaced_of_an_app_that_lacks_one(state):
    world = World(shop=[300, 300, 0], blog=[100, 50])
    world.places["shop.blue"][2].state = state
    world.rest = 900
    world.guard.look()
    world.guard.look()
    assert world.victims() == [100]


def test_only_worker_of_an_app_is_never_replaced():
    world = World(shop=[600])
    world.rest = 700
    world.look(120)
    assert not world.asked


def test_a_cheap_worker_does_not_count_as_another_one():
    world = World(shop=[600, 0])
    world.places["shop.blue"][1].state = "cheap"
    world.rest = 700
    world.look(120)
    assert not world.asked


def test_young_worker_is_not_replaced():
    world = World(shop=[300, 300])
    for one in world.workers:
        one.started = world.clock
    world.look(memory_guard.YOUNG - 3)
    assert not world.asked
    world.look(6)
    assert len(world.asked) == 1


def test_during_a_deploy_workers_are_replaced_only_when_it_is_urgent():
    world = World(shop=[300, 300])
    world.locked = True
    world.look(60)
    assert not world.asked
    world.rest = 800
    world.look()
    assert world.victims() == [300]


def test_app_during_a_switch_is_left_alone():
    world = World(shop=[400, 350], blog=[20, 30])
    world.switches.add("shop")
    world.look(60)
    assert world.victims()[0] == 30
    assert max(world.victims()) == 30


def test_an_app_with_two_instances_is_left_alone():
    world = World(shop=[300, 300])
    world.places["shop.green"] = [world.worker(200), world.worker(200)]
    world.rest = 1400
    world.look(60)
    assert not world.asked


def test_hanging_worker_delays_other_apps_for_a_while_and_its_own_until_it_ends():
    world = World(shop=[400, 300], blog=[60, 10])
    world.guard.look()
    world.guard.look()
    assert world.victims() == [400]
    world.workers[0].requests = 1  # never ends
    world.look(memory_guard.PATIENCE - 5)
    assert world.victims() == [400]
    world.look(60)
    assert world.victims() == [400, 60]
    world.workers[0].requests, world.rest = 0, 700
    world.look(60)
    assert world.victims() == [400, 60, 300]


def test_an_app_whose_worker_does_not_come_back_is_left_alone():
    world = World(shop=[400, 300], blog=[60, 10])
    world.rest = 800
    world.look(2 * memory_guard.PATIENCE, starts=False)
    assert world.victims() == [400, 60]


def test_worker_that_becomes_cheap_counts_as_replaced():
    world = World(shop=[300, 200, 100])
    world.look()
    world.look()
    first = world.places["shop.blue"][0]
    first.state, first.own, first.replaced = "cheap", 0, True
    world.rest = 700
    world.look(10)
    assert world.victims()[1:] == [200]


def test_when_fresh_workers_are_as_large_the_guard_pauses_and_says_so_once():
    world = World(shop=[300, 300, 300])
    world.rest, world.fresh = 1300, 295
    world.look(500)
    assert world.victims() == [300]
    assert len(world.said) == 3
    assert world.said[-1] == (
        "405 MiB of memory are available, twice the floor is 500 MiB, but replacing a worker would not help: of the 3 "
        "that may be replaced none would give back more than 5 MiB"
    )
    world.look(memory_guard.REMEMBERED)  # then it tries again
    assert len(world.asked) == 2


def test_a_worker_that_grows_after_its_start_is_measured_while_it_is_young():
    world = World(shop=[300, 300, 300])
    world.rest = 1300

    def grow(seconds):
        world.look(seconds)
        for one in world.workers:
            one.own = 300  # what every worker needs once it has worked

    world.look(4)
    assert world.victims() == [300]
    for _second in range(100):
        grow(1)
    assert world.victims() == [300]


def test_guard_says_again_that_it_cannot_help_after_memory_was_enough():
    world = World(shop=[600])
    for _time in range(2):
        world.rest = 700
        world.look(3 * memory_guard.PATIENCE)
        world.rest = 2000
        world.look(10)
    assert len(world.said) == 2


APPS = st.lists(st.lists(st.integers(0, 400), min_size=1, max_size=4), min_size=1, max_size=3)
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["leak", "request", "answer", "die", "rest", "lock", "switch", "cheap", "stall", "fresh", "-"]),
        st.integers(0, 11),
        st.integers(0, 1500),
    ),
    max_size=80,
)


@settings(max_examples=400, deadline=None)
@given(sizes=APPS, events=EVENTS)
def test_no_sequence_of_events_makes_a_replacement_noticeable(sizes, events):
    """`World.ask` has what must never happen; whatever happens to the workers, the guard finds its way."""
    world = World(**{f"app{index}": one for index, one in enumerate(sizes)})
    for event, index, number in events:
        one = world.workers[index % len(world.workers)]
        app = f"app{index % len(sizes)}"
        if event == "leak":
            one.own += number
        elif event == "request":
            one.requests += 1
        elif event == "answer":
            one.requests = 0
        elif event == "die" and one.state == "accepting":
            one.state, one.requests = "dead", 0
        elif event == "cheap" and one.state in ("accepting", "cheap"):
            one.state, one.requests = ("cheap" if one.state == "accepting" else "starting"), 0
            one.started = world.clock
        elif event == "rest":
            world.rest = 4 * number
        elif event == "lock":
            world.locked = not world.locked
        elif event == "switch":
            world.switches ^= {app}
        elif event == "stall":
            world.stalled = number / 100
        elif event == "fresh":
            world.fresh = number // 4
        world.look(number % 7)
