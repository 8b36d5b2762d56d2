"""The filter `worker_plan`: what it computes, that it stays within the memory, and what it refuses."""

import math
from typing import Any

import pytest
from ansible_collections.flaskops.emperor.plugins.filter import worker_plan as filter_plugin
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings import apps
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings import workers as planning
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused
from hypothesis import given
from hypothesis import strategies as st

MIB = 1024 * 1024
SMALL = {"total": 50 * MIB, "private": 10 * MIB, "rss": 45 * MIB}  # base 40, shared 35


def listed(*entries):
    """Apps as a user lists them, completed."""
    return apps.complete_apps(
        [
            {"name": f"app{number}", "app": "a:b", "source": {"path": "."}, "domains": [f"{number}.test"], **entry}
            for number, entry in enumerate(entries)
        ]
    )


def plan(*entries, name="app0", cpus=2, memory=24000, size=None, **more):
    return planning.worker_plan(listed(*(entries or ({},))), name, cpus, memory, size=size, **more)


def workers(**options):
    return {"workers": options}


@pytest.mark.parametrize(
    ("profile", "cpus", "processes", "threads"),
    [
        ("web", 1, 2, 8),
        ("web", 2, 4, 8),
        ("web", 8, 16, 8),
        ("slow_io", 4, 8, 32),
        ("inference", 1, 2, 4),
        ("inference", 8, 8, 4),
    ],
)
def test_workers_follow_from_the_processors_and_the_profile(profile, cpus, processes, threads):
    found = plan({"profile": profile}, cpus=cpus, size=SMALL)
    assert (found["processes"], found["threads"], found["minimum"]) == (processes, threads, processes)
    assert found["why"].startswith(f"{processes} x {threads}: profile {profile}, ")


def test_sentence_has_the_numbers_of_the_plan():
    assert plan(size=SMALL, memory=1464)["why"] == (
        "4 x 8: profile web, 2 per processor (2); a fresh worker of 45 MiB is recycled at 127 to 175 MiB, which "
        "keeps two copies of the app within its 1200 MiB."
    )
    assert plan(memory=1464)["why"] == (
        "4 x 8: profile web, 2 per processor (2); a fresh worker (assumed to have 64 MiB until it is measured) is "
        "recycled at 142 to 166 MiB, which keeps two copies of the app within its 1200 MiB."
    )
    assert "profile web, at least 2;" not in plan(cpus=1)["why"]
    assert "profile inference, 1 per processor, at least 2;" in plan({"profile": "inference"}, cpus=1)["why"]
    assert plan(workers(processes=3), size=SMALL)["why"].startswith("3 x 8: workers.processes is 3; ")


def test_memory_bounds_the_processes():
    # Half of 400 for a copy: 40 of base, then 10 + 32 for each.
    found = plan(size=SMALL, memory=664)
    assert (found["processes"], found["share"]) == (3, 400)
    assert found["why"].startswith("3 x 8: more do not fit into its memory; profile web, 2 per processor (2); ")
    assert found["recycle_rss"] == (200 - 40) // 3 + 35
    # Twice its size is more than 32 MiB: a copy of 360 has 40, then 50 + 50 for each.
    large = {"total": 90 * MIB, "private": 50 * MIB, "rss": 85 * MIB}
    assert plan(size=large, memory=264 + 720)["processes"] == 3
    assert plan(size=large, memory=264 + 678)["processes"] == 2


@pytest.mark.parametrize(("set_by_user", "found", "lazy"), [
    (None, True, True), (None, False, False), (False, True, False), (True, False, True),
])  # fmt: skip
def test_trial_start_decides_whether_workers_load_the_app_themselves_unless_the_user_does(set_by_user, found, lazy):
    size = {"total": 240 * MIB, "private": 200 * MIB, "rss": 210 * MIB, "lazy": found}
    planned = plan(workers(lazy_apps=set_by_user), size=size, memory=264 + 1820)
    assert planned["lazy_apps"] is lazy
    assert planned["recycle_rss"] == plan(workers(lazy_apps=lazy), size=size, memory=264 + 1820)["recycle_rss"]


def test_workers_that_load_the_app_themselves_share_nothing():
    size = {"total": 240 * MIB, "private": 200 * MIB, "rss": 210 * MIB}
    # A copy of 910: 40 of base, then 210 + 210 for each.
    assert plan(workers(lazy_apps=True), size=size, memory=264 + 1820)["processes"] == 2
    assert plan(workers(lazy_apps=True), size=size, memory=264 + 1820)["recycle_rss"] == (910 - 40) // 2
    # As little as the master has, it gets 32.
    light = {**size, "total": 210 * MIB}
    assert plan(workers(lazy_apps=True), size=light, memory=264 + 1820)["recycle_rss"] == (910 - 32) // 2
    heavy = {**size, "total": 290 * MIB}  # its master has 90
    assert plan(workers(lazy_apps=True), size=heavy, memory=264 + 1820)["processes"] == 1


def test_the_size_of_a_chain_may_differ_a_little_and_its_plan_stays_the_same():
    # Else the vassal file would change with every release, and no deploy would be a chain.
    sizes = [{"total": one * MIB, "private": (one - 12) * MIB, "rss": (one + 9) * MIB} for one in (50, 53)]
    first, second = (plan({"reload": "chain"}, size=size, memory=1464) for size in sizes)
    assert {**first, "why": ""} == {**second, "why": ""}
    assert first["recycle_rss"] == (600 - planning.MASTER) // 4


def test_on_a_roomy_host_another_app_changes_no_limit():
    one, two = plan({}, size=SMALL), plan({}, {}, size=SMALL)
    assert one["recycle_rss"] == two["recycle_rss"] == 256
    assert one["processes"] == two["processes"]
    big = {"total": 400 * MIB, "private": 300 * MIB, "rss": 390 * MIB}
    assert plan(size=big, memory=48000)["recycle_rss"] == 2048


def test_memory_left_by_limits_is_shared():
    three: tuple[dict[str, Any], ...] = ({"memory": {"limit": "1G"}}, {}, {"memory": {}})
    assert [plan(*three, name=f"app{number}", memory=4264)["share"] for number in range(3)] == [1024, 1488, 1488]
    assert plan({}, {"state": "absent"}, memory=4264)["share"] == 4000
    assert plan({}, memory=4264, reserve=1064)["share"] == 3000


def sides(instances=1, **memory):
    return {"background": {"w": {"command": "x", "instances": instances}}, "memory": memory}


@pytest.mark.parametrize(
    ("entries", "shares"),
    [
        ((sides(2), {}), [2000 - 192, 2000]),  # a size for each process
        ((sides(100), {}), [1000, 2000]),  # at most half, as it is a guess
        ((sides(2, side_processes="1G"), {}), [1488, 1488]),  # what the user says
        ((sides(2, limit="1G"), {}), [1024, 2976 - 192]),
        ((sides(2, limit="1G", side_processes=976), {}), [1024, 2000]),
    ],
)
def test_memory_of_side_processes_is_kept_for_them(entries, shares):
    assert [plan(*entries, name=f"app{number}", memory=4264)["share"] for number in range(2)] == shares


def test_memory_of_side_processes_that_is_not_there_is_refused():
    with pytest.raises(Refused, match=r"^flask_apps\[app0\].memory.side_processes: 5120 MiB in all, but of the host's"):
        plan(sides(side_processes="5G"), memory=4264)


def test_a_limit_of_the_user_is_kept_and_counted():
    entry = {"memory": {"worker_recycle": 135}}
    assert plan(entry, size=SMALL)["recycle_rss"] == 135
    # A copy of 400: 40 of base, then 100 for each.
    assert plan(entry, size=SMALL, memory=264 + 800)["processes"] == 3


def test_adaptive_workers_are_complete_after_two_steps():
    assert (plan()["minimum"], plan()["step"]) == (4, 0)
    found = plan(workers(minimum=1), cpus=4)
    assert (found["processes"], found["minimum"], found["step"]) == (8, 1, 4)
    assert plan(workers(minimum=3, processes=4))["step"] == 1


def test_without_limits_of_the_user_no_worker_is_replaced_for_its_age():
    found = plan()
    assert {found[key] for key in found if key.startswith(("max_requests", "max_lifetime"))} == {0}


TIGHT = {"memory": 600, "size": SMALL}  # a copy of 168: 40 of base, then 42 for each, so 3


REFUSED = [
    (
        ({},),
        {"memory": 0},
        "The host does not tell its memory, from which workers follow: let /proc/meminfo be",
    ),
    (
        (workers(processes=4),),
        TIGHT,
        "flask_apps[app0].workers.processes is 4, but of the app's share of 336 MiB each of the two copies during a "
        "deploy has 168 MiB, the app needs 40 MiB and each process 42 MiB to grow into, so that 3 fit: set it to 3.",
    ),
    (
        (workers(processes=1),),
        {"size": SMALL, "memory": 400},
        "so that 0 fit: set memory.limit higher, or give the host more memory.",
    ),
    (
        ({"memory": {"limit": 150}},),
        {"size": SMALL},
        "flask_apps[app0].memory.limit does not hold 1 worker process: of the app's share of 150 MiB each",
    ),
    (
        ({"reload": "chain"},),
        {"size": SMALL, "memory": 500},
        "flask_apps[app0].memory.limit does not hold 2 worker processes: of the app's share of 236 MiB",
    ),
    (
        ({"memory": {"limit": 400}}, {"memory": {"limit": "1G"}}),
        {"memory": 1200},
        "flask_apps[app0].memory.limit, flask_apps[app1].memory.limit: 1424 MiB in all, but of the host's 1200 MiB "
        "936 MiB are for apps (200 MiB are for the system, 64 MiB for flask_apps_memory_reserve): lower them",
    ),
    (
        ({}, {"memory": {"limit": 936}}),
        {"memory": 1200},
        "flask_apps[app0].memory.limit is not set, and nothing is left for it: of the host's 1200 MiB 936 MiB are",
    ),
    (({},), {"memory": 200}, "of the host's 200 MiB 0 MiB are for apps"),
    (
        ({"memory": {"worker_recycle": 45}},),
        {"size": SMALL},
        "flask_apps[app0].memory.worker_recycle is 45 MiB, but a fresh worker has 45 MiB, so that each would be "
        "recycled at once: set it to 77 or more.",
    ),
    (
        (workers(minimum=5),),
        {},
        "flask_apps[app0].workers.minimum is 5, but the app has 4 processes: profile web, 2 per processor (2). Set",
    ),
    (
        (workers(minimum=4),),
        TIGHT,
        "workers.minimum is 4, but the app has 3 processes: more do not fit into its memory",
    ),
    (
        (workers(max_requests=7),),
        {},
        "flask_apps[app0].workers.max_requests is 7, but must be a whole number of requests from 8 (two per process)",
    ),
    (
        (workers(max_lifetime_seconds=119),),
        {},
        "flask_apps[app0].workers.max_lifetime_seconds is 119, but must be a whole number of seconds from 120 (twice",
    ),
    (({**workers(max_lifetime_seconds=59), "max_request_seconds": 1},), {}, "whole number of seconds from 60 "),
]


@pytest.mark.parametrize(("entries", "more", "sentence"), REFUSED)
def test_workers_that_do_not_fit_are_refused_with_a_sentence(entries, more, sentence):
    with pytest.raises(Refused) as refusal:
        plan(*entries, **more)
    assert sentence in str(refusal.value)
    assert str(refusal.value).endswith(".")


def test_unknown_size_refuses_nothing():
    assert plan(workers(processes=4), memory=400)["processes"] == 4
    assert plan(memory=400)["processes"] == 1
    assert plan({"reload": "chain"}, memory=400)["processes"] == 2
    assert plan({"memory": {"worker_recycle": 1}}, memory=400)["processes"] >= 1
    assert plan({"profile": "inference"}, memory=700)["processes"] == 1


# --- whatever the host and its apps are

SIZES = st.tuples(st.integers(1, 900 * MIB), st.integers(0, 300 * MIB), st.integers(0, 100 * MIB)).map(
    # What a worker has alone, what it shares with its master, and what the master has alone.
    lambda parts: {"total": sum(parts), "private": parts[0], "rss": parts[0] + parts[1]}
)
MEMORY = st.fixed_dictionaries({}, optional={"limit": st.integers(100, 4000), "worker_recycle": st.integers(100, 2000)})
WORKERS = st.fixed_dictionaries(
    {},
    optional={
        "processes": st.integers(2, 12),
        "max_requests": st.integers(1000, 10**6),
        "max_lifetime_seconds": st.integers(200, 10**6),
    },
)
ENTRIES = st.fixed_dictionaries(
    {
        "reload": st.sampled_from(["zerg", "chain", "graceful", "upstream", "exclusive"]),
        "profile": st.sampled_from(["web", "slow_io", "inference"]),
    },
    optional={"memory": MEMORY, "workers": WORKERS},
)
HOSTS = st.tuples(
    st.lists(st.tuples(ENTRIES, SIZES), min_size=1, max_size=4), st.integers(1, 64), st.integers(300, 64000)
)


def planned(host):
    """The plan of each app with its entry and its size; None for one that is refused."""
    entries, cpus, memory = host
    completed = listed(*(entry for entry, _size in entries))
    result = []
    for app, (entry, size) in zip(completed, entries, strict=True):
        try:
            found = planning.worker_plan(completed, app["name"], cpus, memory, size=size)
        except Refused:
            found = None
        result.append((found, entry, size))
    return result


def good(host):
    return [one for one in planned(host) if one[0]]


def copy(found, size):
    """MiB of one copy when every worker is as large as it may become."""
    total, private, rss = (size[field] / MIB for field in ("total", "private", "rss"))
    alone = found["recycle_rss"] if found["lazy_apps"] else found["recycle_rss"] - (rss - private)
    return total - private + found["processes"] * alone


@given(HOSTS)
def test_all_apps_with_two_copies_each_never_need_more_than_the_host_has(host):
    assert sum(2 * copy(found, size) for found, _entry, size in good(host)) <= max(0, host[2] - 200 - 64)


@given(HOSTS)
def test_every_plan_has_a_worker_and_room_to_grow(host):
    for found, entry, size in good(host):
        assert found["processes"] >= (2 if entry["reload"] == "chain" else 1)
        if "worker_recycle" not in entry.get("memory", {}):
            own = size["rss"] if found["lazy_apps"] else size["private"]
            assert found["recycle_rss"] >= size["rss"] // MIB + max(own // MIB, 32)


@given(HOSTS)
def test_values_set_by_the_user_are_kept(host):
    for found, entry, _size in good(host):
        workers, memory = entry.get("workers", {}), entry.get("memory", {})
        assert found["processes"] == workers.get("processes", found["processes"])
        assert found["recycle_rss"] == memory.get("worker_recycle", found["recycle_rss"])
        assert found["share"] == memory.get("limit", found["share"])


@given(HOSTS)
def test_no_two_workers_reach_a_limit_together_and_none_exceeds_it(host):
    for found, entry, _size in good(host):
        for kind, delta in (("max_requests", "max_requests_delta"), ("max_lifetime_seconds", "max_lifetime_delta")):
            wanted = entry.get("workers", {}).get(kind)
            if wanted:
                limits = [found[kind] + worker * found[delta] for worker in range(found["processes"])]
                assert len(set(limits)) == len(limits)
                assert wanted / 2 <= min(limits) <= max(limits) == wanted


@given(HOSTS)
def test_no_two_workers_are_recycled_at_the_same_memory_and_all_may_grow(host):
    for found, _entry, size in good(host):
        fresh, delta = math.ceil(size["rss"] / MIB), found["recycle_rss_delta"]
        earliest = found["recycle_rss"] - (found["processes"] - 1) * delta
        assert earliest >= fresh + (found["recycle_rss"] - fresh) / 2
        if found["processes"] > 1 and found["recycle_rss"] - fresh >= 2 * found["processes"]:
            assert delta > 0


@given(HOSTS, SIZES)
def test_the_size_of_another_app_changes_nothing(host, size):
    (first, *rest), cpus, memory = host
    others = ([first, *((entry, size) for entry, _size in rest)], cpus, memory)
    assert planned(host)[0] == planned(others)[0]


@given(HOSTS, st.integers(1, 64000))
def test_more_memory_never_means_fewer_processes(host, more):
    entries, cpus, memory = host
    for (found, _entry, _size), (other, *_same) in zip(
        planned(host), planned((entries, cpus, memory + more)), strict=True
    ):
        assert not found or found["processes"] <= other["processes"]


def test_filter_gives_the_sentence_of_a_plan_that_is_refused():
    (name, found), *others = filter_plugin.FilterModule().filters().items()
    assert (name, others) == ("worker_plan", [])
    assert found(listed({}), "app0", cpus=2, memory=24000)["processes"] == 4
    assert "does not tell its memory" in found(listed({}), "app0", cpus=2, memory=0)["fault"]


def test_more_workers_than_max_tasks_has_room_for_are_refused_also_when_the_trial_start_measured_a_small_app():
    found = filter_plugin.FilterModule().filters()["worker_plan"]
    small = {"total": 44 * MIB, "private": 4 * MIB, "rss": 40 * MIB}
    entry = {"max_tasks": 150, "background": {"rq": {"command": "rq worker"}}}
    assert found(listed(entry), "app0", cpus=4, memory=1024)["processes"] == 4
    refused = found(listed(entry), "app0", cpus=4, memory=1024, size=small)
    said = "flask_apps[app0].max_tasks is 150, but its workers (8 x 8) need 200 and its side processes 2 during"
    assert refused["fault"].startswith(said)
    assert found(listed({**entry, "max_tasks": 202}), "app0", cpus=4, memory=1024, size=small)["processes"] == 8
