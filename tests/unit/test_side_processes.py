"""Side processes: what is wrong in their settings, what is in their units, and how they follow a switch."""

import json
import os
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import confined, system
from ansible_collections.flaskops.emperor.plugins.module_utils.releases.registry import Releases
from ansible_collections.flaskops.emperor.plugins.module_utils.sides import states, store, units
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.config import Config
from ansible_collections.flaskops.emperor.plugins.modules import side_processes as module
from ansible_collections.flaskops.emperor.plugins.plugin_utils import side_processes, vassal_options
from ansible_collections.flaskops.emperor.plugins.plugin_utils.checkup import status
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.apps import complete_apps
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused
from fake_systemd import Systemd

WORKER = {"command": "rq worker", "start_seconds": 1}
TICK = {"command": "flask tick", "calendar": "daily"}


def app(**changes):
    return complete_apps([{"name": "shop", "app": "shop:app", "source": {"path": "."}, **changes}])[0]


def sides(release="aaa", once=True, secret="hunter2 is secret", **changes):
    settings = {"background": {"worker": WORKER}, "schedule": {"tick": TICK}, **changes}
    return side_processes.sides(app(environment={"KEY": secret}, **settings), release, once)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"background": ["rq"]}, "flask_apps[shop].background is ['rq'], but must be a dict"),
        ({"background": {"Rq": WORKER}}, "flask_apps[shop].background.Rq is 'Rq', but must be a name of lower-case"),
        ({"background": {"rq": "rq worker"}}, "flask_apps[shop].background.rq is 'rq worker', but must be a dict"),
        ({"background": {"rq": {}}}, "flask_apps[shop].background.rq.command must be one command, as text"),
        (
            {"background": {"rq": {"command": "a 'b"}}},
            'flask_apps[shop].background.rq.command has "a \'b", which cannot',
        ),
        ({"background": {"rq": WORKER | {"instance": 2}}}, "flask_apps[shop].background.rq has instance, which is no"),
        ({"background": {"rq": WORKER | {"instances": 0}}}, "flask_apps[shop].background.rq.instances is 0, but must"),
        ({"background": {"rq": WORKER | {"stop_seconds": "1"}}}, "flask_apps[shop].background.rq.stop_seconds is '1'"),
        ({"schedule": {"rq": {"command": "true"}}}, "flask_apps[shop].schedule.rq.calendar is None, but must say when"),
        (
            {"schedule": {"rq": TICK | {"calendar": "daily\n[Service]"}}},
            "flask_apps[shop].schedule.rq.calendar is 'daily",
        ),
        ({"schedule": {"rq": TICK | {"once_per_fleet": "no"}}}, "flask_apps[shop].schedule.rq.once_per_fleet is 'no'"),
        ({"background": {"rq": WORKER}, "schedule": {"rq": TICK}}, "flask_apps[shop].schedule.rq has the name of a"),
    ],
)
def test_wrong_setting_is_refused_with_a_sentence(settings, sentence):
    with pytest.raises(Refused) as refusal:
        app(**settings)
    assert str(refusal.value).startswith(sentence)


def test_two_processes_of_one_name_in_the_journal_are_refused():
    shop = {"name": "shop", "app": "shop:app", "source": {"path": "."}, "background": {"rq": WORKER}}
    other = {"name": "shop-rq", "app": "shop:app", "source": {"path": "."}, "domains": ["rq.test"]}
    with pytest.raises(Refused, match=r"background.rq would be shop-rq in the journal, as the app shop-rq is"):
        complete_apps([shop, other])


def test_calendar_that_systemd_does_not_know_is_refused():
    with pytest.raises(
        Refused, match=r"schedule.tick.calendar is 'daily', but systemd does not understand that \(what"
    ):
        side_processes.check_calendars(app(schedule={"tick": TICK}), {"daily": "what?"})


def test_job_that_runs_once_per_fleet_is_on_one_host():
    assert set(sides(once=False)) == {"worker"}
    assert set(sides(once=False, schedule={"tick": TICK | {"once_per_fleet": False}})) == {"worker", "tick"}


def found(jobs, **changes):
    parts = {name: {"digest": units.digest(job), "sound": True, "told": name} | changes for name, job in jobs.items()}
    return {"parts": parts, "unfinished": False}


@pytest.mark.parametrize(
    ("there", "differs"),
    [
        (found(sides()), {}),
        (found({}), {"sides": "side processes: worker new, tick new"}),
        (found(sides(secret="other")), {"sides": "side processes: worker changed, tick changed"}),
        (
            found(sides(), sound=False),
            {"sides": "side processes: worker does not run as it should, tick does not run as it should"},
        ),
        (found(sides() | {"old": sides()["tick"]}), {"sides": "side processes: old to be removed"}),
        (found(sides()) | {"unfinished": True}, {"sides": "side processes: interrupted run"}),
    ],
)
def test_plan_names_what_differs(there, differs):
    settings = {"background": {"worker": WORKER}, "schedule": {"tick": TICK}}
    wanted = app(environment={"KEY": "hunter2 is secret"}, **settings)
    assert side_processes.differ(wanted, "aaa", True, there, new=False) == differs


def test_new_release_takes_its_side_processes_with_it_unnamed():
    wanted = app(environment={"KEY": "hunter2 is secret"}, background={"worker": WORKER})
    assert side_processes.differ(wanted, "bbb", True, found(sides(schedule={})), new=True) == {"sides": ""}


def test_units_hold_no_secret_and_no_command():
    for name, job in sides(background={"worker": WORKER | {"command": "rq worker --url=redis://:pass@x"}}).items():
        text = "".join(units.files("shop", name, {**job, "sandbox": ["ProtectHome=yes"]}).values())
        assert "hunter2" not in text
        assert "pass@" not in text
        assert "ProtectHome=yes" in text
        assert f"SyslogIdentifier=shop-{name}" in text
        assert "hunter2" not in units.shown(name, job)


def test_slice_of_an_app_is_in_that_of_no_other_app():
    assert units.slice_of("shop") == "emperor-shop-side.slice"
    assert units.slice_of("shop-eu") == r"emperor-shop\x2deu-side.slice"
    assert units.slice_of("side") == "emperor-side-side.slice"


def test_slice_of_version_1_0_is_removed(bring, systemd):
    bring("started", sides())
    (former := systemd.root / "emperor-side-shop.slice").touch()
    assert bring("committed", sides())["changed"]
    assert not former.exists()
    assert (systemd.root / "emperor-shop-side.slice").exists()


SAID = "key hunter2 is secret, s3cret of a file\n"  # by a process, in the journal


@pytest.fixture
def systemd(tmp_path, monkeypatch, deeds):
    fake = Systemd(tmp_path / "units")
    fake.root.mkdir()
    (fake.root / "emperor.service").write_text("[Service]\nProtectHome=yes\n")
    monkeypatch.setattr(units, "UNITS", str(fake.root))
    monkeypatch.setattr(confined, "EMPEROR", str(fake.root / "emperor.service"))
    monkeypatch.setattr(store, "JOBS", str(tmp_path / "jobs"))
    monkeypatch.setattr(store, "LIMITS", str(tmp_path))
    monkeypatch.setattr(states, "systemctl", fake)
    monkeypatch.setattr(system, "show", fake.show)
    monkeypatch.setattr(states, "LOOK", 0.01)
    now = [time.monotonic()]
    clock = SimpleNamespace(
        time=time.time, monotonic=lambda: now[0], sleep=lambda _seconds: now.__setitem__(0, now[0] + 1)
    )
    monkeypatch.setattr(states, "time", clock)

    def run(command, **_more):
        fake.calls.append(tuple(command))
        return subprocess.CompletedProcess(command, 0, SAID, "")

    monkeypatch.setattr(subprocess, "run", run)
    return fake


@pytest.fixture
def bring(run_module, tmp_path, systemd):
    """Bring the side processes into a state."""
    return lambda state, jobs=None, **more: run_module(
        module, name="shop", home=str(tmp_path), state=state, sides=jobs or {}, **more
    )


def running(systemd, part="worker"):
    return sorted(name for name, state in systemd.running.items() if f".{part}@" in name and state == "active")


def switch(bring, jobs):
    assert not bring("started", jobs)["failed"]
    return bring("committed", jobs)


def test_new_ones_start_beside_the_old_ones_which_end_at_the_commit(bring, systemd):
    switch(bring, sides())
    old = running(systemd)
    assert len(old) == 1
    new = sides("bbb", background={"worker": WORKER | {"instances": 2}})
    assert bring("started", new)["changed"]
    assert len(running(systemd)) == 3
    assert store.observe("shop")["unfinished"]
    assert bring("committed", new)["changed"]
    assert len(running(systemd)) == 2
    assert not set(running(systemd)) & set(old)
    assert not store.observe("shop")["unfinished"]
    assert ("stop", "--no-block", *old) in systemd.calls
    assert systemd.running["emperor-side-shop.tick.timer"] == "active"


def test_second_time_changes_nothing(bring, systemd):
    switch(bring, sides())
    calls = len(systemd.calls)
    assert not bring("started", sides(), check=True)["changed"]
    assert not bring("committed", sides(), check=True)["changed"]
    assert not bring("started", sides())["changed"]
    assert not bring("committed", sides())["changed"]
    assert len(systemd.calls) == calls
    assert side_processes.differ(
        app(environment={"KEY": "hunter2 is secret"}, background={"worker": WORKER}, schedule={"tick": TICK}),
        "aaa", True, store.observe("shop"), new=False,
    ) == {}  # fmt: skip


def test_one_that_does_not_start_leaves_all_as_it_was(bring, systemd, tmp_path):
    switch(bring, sides())
    before = running(systemd), store.observe("shop"), sorted(os.listdir(systemd.root))
    (tmp_path / "files/aaa").mkdir(parents=True)
    (tmp_path / "files/aaa/shop.cfg").write_text("password = s3cret of a file\n")
    systemd.broken = ".other@"
    new = sides("bbb", background={"worker": WORKER, "other": WORKER})
    answer = bring("started", new)
    assert answer["failed"]
    assert answer["msg"] == (
        "The app shop was not changed, because its side process other does not start: it ended with exit code 0\n"
        "key ********, ********"
    )
    assert (running(systemd), store.observe("shop"), sorted(os.listdir(systemd.root))) == before


def test_all_are_replaced_when_their_virtualenv_was_made_anew(bring, systemd):
    switch(bring, sides())
    old = running(systemd)
    assert bring("started", sides(), anew=True)["changed"]
    bring("committed", sides())
    assert len(running(systemd)) == 1
    assert running(systemd) != old


def test_roll_back_ends_the_new_ones(bring, systemd):
    switch(bring, sides())
    old = running(systemd)
    bring("started", sides("bbb"))
    assert bring("rolled_back")["changed"]
    assert running(systemd) == old
    assert not bring("rolled_back")["changed"]


def test_run_that_was_killed_is_healed(bring, systemd):
    switch(bring, sides())
    bring("started", sides("bbb"))
    assert bring("started", sides("ccc"))["changed"]
    bring("committed", sides("ccc"))
    assert len(running(systemd)) == 1
    assert not store.observe("shop")["unfinished"]


@pytest.mark.parametrize(
    "harm",
    [
        lambda systemd, worker: systemd.running.pop(worker),
        lambda systemd, worker: (systemd.root / "multi-user.target.wants" / worker).unlink(),
        lambda systemd, worker: (systemd.root / "emperor-side-shop.worker@.service").write_text("by hand"),
        lambda systemd, worker: (systemd.root / "emperor.service").write_text("[Service]\nProtectHome=no\n"),
    ],
)
def test_what_does_not_run_as_it_should_is_seen_and_replaced(harm, bring, systemd):
    switch(bring, sides())
    harm(systemd, *running(systemd))
    assert not store.observe("shop")["parts"]["worker"]["sound"]
    switch(bring, sides())
    assert len(running(systemd)) == 1
    assert store.observe("shop")["parts"]["worker"]["sound"]


def test_what_is_no_longer_named_goes(bring, systemd):
    switch(bring, sides())
    switch(bring, sides(schedule={}))
    assert "emperor-side-shop.tick.timer" not in systemd.running
    assert not [name for name in os.listdir(systemd.root) if "tick" in name]
    assert switch(bring, {})["changed"]
    assert store.observe("shop") == {"parts": {}, "unfinished": False}
    assert [name for name in os.listdir(systemd.root) if "shop" in name] == []


def test_absent_removes_all(bring, systemd):
    switch(bring, sides())
    systemd.running["emperor-side-shop.tick.service"] = "failed"  # when it last ran
    assert bring("absent", check=True)["changed"]
    assert bring("absent")["changed"]
    assert not systemd.running
    assert [name for name in os.listdir(systemd.root) if "shop" in name] == []
    assert not bring("absent")["changed"]


def test_release_from_which_a_worker_still_runs_is_kept(tmp_path, deeds):
    for number, release in enumerate(("aaa", "bbb", "ccc")):
        (tmp_path / "shop/releases" / release).mkdir(parents=True)
        Releases(str(tmp_path / "shop")).record(release, id=release, created=number, activated=number + 1)
    releases = Releases(str(tmp_path / "shop"))
    assert releases.superfluous("ccc", 1) == ["bbb", "aaa"]
    with subprocess.Popen(["sleep", "60"], env={"RELEASE_ID": "aaa", "PATH": os.environ["PATH"]}) as worker:
        try:
            assert releases.superfluous("ccc", 1) == ["bbb"]
        finally:
            worker.kill()
    assert releases.superfluous("ccc", 1) == ["bbb", "aaa"]


def test_status_tells_how_they_do():
    rows: dict[str, dict[str, dict[str, list[str]]]] = {
        "web1": {"shop": {"side_processes": ["worker 1 of 2 run", "tick waits"]}, "blog": {"side_processes": []}}
    }
    assert status.side_processes(rows) == ["side processes of shop: worker 1 of 2 run, tick waits"]


def test_job_is_for_the_app_alone(bring, systemd, tmp_path, deeds):
    switch(bring, sides())
    for path in (tmp_path / "jobs/shop").glob("*.json"):
        assert path.stat().st_mode & 0o777 == 0o440
        job = json.loads(path.read_text())
        assert job["environment"]["KEY"] == "hunter2 is secret"
        assert job["command"] in (["rq", "worker"], ["flask", "tick"])
    assert (tmp_path / "jobs/shop").stat().st_mode & 0o777 == 0o750
    again = sides("bbb", secret="another secret", background={"worker": WORKER | {"command": "rq 'another secret'"}})
    told = bring("started", again, check=True, diff=True)
    assert "worker.command = rq '********'" in told["diff"]["after"]
    assert "secret" not in json.dumps(told)
    assert Path(told["diff"]["before_header"]).name == "shop"


def test_memory_of_the_settings_is_the_limit_of_the_slice_and_else_that_of_the_workers(bring, systemd, tmp_path):
    (tmp_path / "shop.limit").write_text("7000")
    switch(bring, sides())
    assert "MemoryMax=7000\n" in (systemd.root / units.slice_of("shop")).read_text()
    switch(bring, sides(memory={"side_processes": "1M"}))
    assert "MemoryMax=1048576\n" in (systemd.root / units.slice_of("shop")).read_text()
    switch(bring, sides())
    assert "MemoryMax=7000\n" in (systemd.root / units.slice_of("shop")).read_text()


def test_side_processes_may_have_together_what_the_web_workers_do_not_need(bring, systemd, tmp_path):
    settings, plan = app(background={"worker": WORKER}, max_tasks=200), {"processes": 4, "threads": 8}
    launch = vassal_options.launch(settings, plan, "aaa", "pyuwsgi")
    assert (launch["tasks"], launch["side_tasks"]) == ("200", str(200 - vassal_options.tasks_needed(plan)))
    assert "side_tasks" not in vassal_options.launch(app(background={}, schedule={}), plan, "aaa", "pyuwsgi")
    switch(bring, sides())
    file = systemd.root / units.slice_of("shop")
    assert "TasksMax" not in file.read_text(), "there is no vassal yet"
    for number, slot in enumerate(("green", "blue")):
        vassal = tmp_path / f"shop.{slot}.ini"
        vassal.write_text(Config(launch | {"side_tasks": str(70 + number)}).render())
        os.utime(vassal, (number, number))
    assert store.observe("shop")["unfinished"]
    switch(bring, sides())
    assert "TasksMax=71\n" in file.read_text()
    started = [call for call in systemd.calls if call[0] == "systemd-run"]
    assert len(started) == 2, "the kernel is not told"
    assert "--slice=emperor-shop-side.slice" in started[-1]
    switch(bring, sides())
    assert [call for call in systemd.calls if call[0] == "systemd-run"] == started
    assert not store.observe("shop")["unfinished"]


def test_those_that_start_have_a_higher_limit_before_the_vassal_file_tells_it(bring, systemd, tmp_path):
    vassal, file = tmp_path / "shop.blue.ini", systemd.root / units.slice_of("shop")

    def leaves(tasks):
        vassal.write_text(Config({"side_tasks": str(tasks)}).render())

    def limit():
        return [line for line in file.read_text().splitlines() if line.startswith("TasksMax=")]

    leaves(70)
    switch(bring, sides())
    assert limit() == ["TasksMax=70"]
    bring("started", sides("bbb"), tasks=300, side_tasks=200)
    assert limit() == ["TasksMax=200"]
    begun = [call[0] for call in systemd.calls if call[0] in ("systemd-run", "start")]
    assert begun[-2:] == ["systemd-run", "start"], "the kernel is told too late"
    bring("rolled_back")
    assert limit() == ["TasksMax=70"]
    systemd.broken = ".worker@"
    assert bring("started", sides("bbb"), tasks=300, side_tasks=200)["failed"]
    assert limit() == ["TasksMax=70"]
    systemd.broken = ""
    bring("started", sides("bbb"), tasks=300, side_tasks=200)
    leaves(200)
    bring("committed", sides("bbb"))
    assert limit() == ["TasksMax=200"]
    assert not store.observe("shop")["unfinished"]
    bring("started", sides("ccc"), tasks=200, side_tasks=100)
    assert limit() == ["TasksMax=200"], "those of before run yet"
    leaves(100)
    bring("committed", sides("ccc"))
    assert limit() == ["TasksMax=100"]


def test_those_that_start_have_a_limit_where_no_vassal_file_tells_one(bring, systemd):
    bring("started", sides(), tasks=300, side_tasks=200)
    assert "TasksMax=200\n" in (systemd.root / units.slice_of("shop")).read_text()
