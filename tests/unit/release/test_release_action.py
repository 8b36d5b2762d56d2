"""The action plugin `release`: a build and its trial start in one execution; a release that fails is marked."""

from unittest import mock

import pytest
from ansible_collections.flaskops.emperor.plugins.action import release
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.apps import complete_apps

BUILT = {"changed": True, "releases": []}
MIB = 1024 * 1024
SIZE = {"total": 40 * MIB, "private": 10 * MIB, "rss": 35 * MIB}
TRIED = {"changed": True, "size": SIZE, "tried": "0123"}
TRIAL = {"name": "shop", "config": {}}
SHOP = complete_apps([{"name": "shop", "app": "shop:app", "source": {"path": "."}}])
WORKERS = {"apps": SHOP, "name": "shop", "cpus": 2, "memory": 2048, "reserve": 64}
ARGUMENTS = {"home": "/srv/shop", "id": "abc", "state": "built", "trial": TRIAL, "workers": WORKERS, "current": "old"}


@pytest.fixture
def run(monkeypatch):
    """Run the plugin against these answers of modules; returns its answer and the modules that were executed."""

    def play(*answers, facts=None, **changes):
        task = mock.Mock(args={**ARGUMENTS, **changes}, check_mode=False, async_val=0)
        plugin = release.ActionModule(task, *(mock.Mock() for _number in range(5)))
        executed = []

        def modules(wanted, _variables):
            executed.extend(wanted)
            return list(answers)

        def module(name, arguments, **_more):
            executed.append((name, arguments))

        monkeypatch.setattr(plugin, "_execute_modules", modules)
        monkeypatch.setattr(plugin, "_execute_module", module)
        monkeypatch.setattr(plugin, "_remove_tmp_path", lambda _path: None)
        return plugin.run(task_vars={"ansible_facts": facts or {}}), executed

    return play


def test_trial_start_follows_the_build(run):
    answer, executed = run(BUILT, {**TRIED, "changed": False, "warnings": ["slow"]})
    assert executed == [
        (release.MODULE, {"home": "/srv/shop", "id": "abc", "state": "built"}),
        (release.VASSAL, {**TRIAL, "state": "trial"}),
    ]
    assert answer["changed"]
    assert answer["warnings"] == ["slow"]


def test_what_trial_starts_found_is_known_to_later_tasks(run):
    blog = {"release": "1", "tried": "", "size": SIZE}
    old = {**blog, "release": "old"}
    answer, _executed = run(BUILT, TRIED, facts={"flask_apps_trials": {"blog": blog, "shop": old}})
    found = {"release": "abc", "tried": "0123", "size": SIZE}
    assert answer["ansible_facts"] == {"flask_apps_trials": {"blog": blog, "shop": found}}


def test_release_that_was_not_built_is_not_marked(run):
    failed = {"failed": True, "changed": False, "msg": "could not be built"}
    assert run(failed)[0] == failed
    assert len(run(failed)[1]) == 2


def test_release_that_fails_its_trial_start_is_marked(run):
    answer, executed = run(BUILT, {"failed": True, "changed": False, "msg": "The app shop answers 500."})
    assert (answer["failed"], answer["msg"]) == (True, "The app shop answers 500.")
    assert executed[-1] == (release.MODULE, {"home": "/srv/shop", "id": "abc", "state": "failed"})


def test_release_whose_workers_do_not_fit_is_marked(run):
    large = {**SIZE, "total": 4000 * MIB, "private": 3000 * MIB}
    answer, executed = run(BUILT, {**TRIED, "size": large})
    assert answer["failed"]
    assert "flask_apps[shop]" in answer["msg"]
    assert executed[-1][1]["state"] == "failed"


def test_current_release_is_never_marked(run):
    answer, executed = run({"failed": True, "msg": "no"}, id="old", state="tried")
    assert answer["failed"]
    assert [name for name, _arguments in executed] == [release.VASSAL]


def test_trial_start_alone_builds_nothing(run):
    answer, executed = run(TRIED, state="tried")
    assert executed == [(release.VASSAL, {**TRIAL, "state": "trial"})]
    assert answer["tried"] == "0123"


def test_build_alone_starts_nothing(run):
    answer, executed = run(BUILT, trial=None)
    assert answer == BUILT
    assert [name for name, _arguments in executed] == [release.MODULE]
