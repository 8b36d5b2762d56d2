"""The module `vassal`: its answers, check mode, diffs, and no secrets."""

import json
import os
import pwd
from pathlib import Path

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import (
    exclusive,
)
from ansible_collections.flaskops.emperor.plugins.module_utils.processes import Memory
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal import states, trial
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.health import Unhealthy
from ansible_collections.flaskops.emperor.plugins.modules import app_benchmark, vassal
from vassal_host import EMPTY, MIB, complete, generation

SIZE = {"total": 30 * MIB, "private": 10 * MIB, "rss": 25 * MIB, "lazy": False}


def kept(host):
    return json.loads(Path(host.params["size"]).read_text())


def test_module_deploys_and_returns_the_generation(module, host):
    answer = module("1")
    assert answer["changed"]
    assert answer["generation"] == generation(host, "1")
    again = module("1")
    assert (again["changed"], again["generation"]) == (False, answer["generation"])


def test_vassal_file_which_has_the_environment_is_for_the_app_alone(module, host):
    module("1", {"KEY": "s3cret"})
    (file,) = Path(host.params["directory"]).glob("shop.*.ini")
    assert file.stat().st_mode & 0o777 == 0o400


def test_a_committed_switch_can_not_be_rolled_back(module, host):
    module("1")
    assert not module(state="committed")["changed"]
    module("2")
    assert module(state="committed")["changed"]
    assert not module(state="committed")["changed"]
    answer = module(state="rolled_back")
    assert not answer["changed"]
    assert answer["msg"] == "Nothing was to be taken back"
    assert answer["generation"] == generation(host, "2")


def test_a_switch_that_is_committed_at_once_leaves_one_instance(module, host):
    assert module("1", commit=True)["changed"]
    assert not module("1", commit=True, check=True)["changed"]
    assert not module("1", commit=True)["changed"]
    assert module("2", commit=True)["changed"]
    assert list(host.runs().values()) == [complete(host, "2")]
    module("3")
    assert module("3", commit=True, check=True)["changed"], "an instance is left to end"
    assert module("3", commit=True)["changed"]
    assert list(host.runs().values()) == [complete(host, "3")]
    assert not module(state="rolled_back")["changed"]


def test_a_switch_that_fails_is_not_committed(module, host):
    module("1", commit=True)
    assert module("broken", commit=True)["failed"]
    assert list(host.runs().values()) == [complete(host, "1")]


def test_unfinished_instance_of_a_killed_run_is_removed(module, host):
    module("1")
    module(state="committed")
    vassals = host.params["directory"]
    leftovers = [f"{host.run}/trial.{kind}" for kind in ("ini", "sock", "stats")]
    leftovers += [f"{vassals}/shop.{kind}.new" for kind in ("blue.ini", "green.ini", "before", "limit")]
    leftovers.append(host.params["upstream"] + ".new")
    for leftover in leftovers:
        os.symlink("nowhere", leftover)
        assert module(state="committed", check=True)["changed"], leftover
        assert os.path.lexists(leftover)
        assert module(state="committed")["changed"], leftover
        assert not os.path.lexists(leftover)
    assert not module(state="committed")["changed"]
    assert host.runs() == {"blue": complete(host, "1")}


def test_a_switch_that_is_not_committed_is_rolled_back(module, host):
    module("1")
    module(state="committed")
    module("2")
    answer = module(state="rolled_back")
    assert answer["changed"]
    assert answer["msg"] == "The earlier release serves again"
    assert answer["generation"] == generation(host, "1")
    assert host.runs() == {"blue": complete(host, "1")}


def test_a_first_deploy_that_is_rolled_back_leaves_nothing(module, host):
    module("1")
    answer = module(state="rolled_back")
    assert answer["changed"]
    assert answer["generation"] == ""
    assert host.runs() == {}
    assert os.listdir(Path(host.params["upstream"]).parent) == []


def test_check_mode_reports_a_switch_and_changes_nothing(module, host):
    answer = module("1", check=True)
    assert answer["changed"]
    assert host.runs() == {}
    assert not os.path.lexists(host.params["upstream"])
    assert not module(state="absent", check=True)["changed"]
    assert not module(state="rolled_back", check=True)["changed"]
    module("1")
    assert not module("1", check=True)["changed"]
    assert module("2", check=True)["changed"]
    assert module("2", check=True)["generation"] == generation(host, "2")
    assert module(state="absent", check=True)["changed"]
    assert not module(state="committed", check=True)["changed"]
    assert module(state="rolled_back", check=True)["changed"]
    module(state="committed")
    assert not module(state="rolled_back", check=True)["changed"]
    module("2")
    assert module(state="committed", check=True)["changed"]
    assert len(host.runs()) == 2
    assert len(host.tried) == 2
    assert host.signals == []


def test_check_mode_reports_an_unfinished_chain(module, host, releases):
    link = {"reload": "chain", "link": host.params["serving"]}
    module("chain", **link, release=releases("r1"))
    assert not module("chain", **link, release=releases("r1"), check=True)["changed"]
    assert module("chain", **link, release=releases("r2"), check=True)["changed"]
    assert host.leads_to == releases("r1")


@pytest.mark.parametrize("check", [True, False])
def test_the_diff_shows_the_change_without_values(check, module, host):
    module("1", {"KEY": "s3cret one"})
    module(state="committed")
    answer = module("2", {"KEY": "s3cret two"}, check=check, diff=True)
    assert "module = 1:app" in answer["diff"]["before"]
    assert "module = 2:app" in answer["diff"]["after"]
    assert "environment = KEY (values: " in answer["diff"]["after"]
    assert answer["diff"]["before_header"] == answer["diff"]["after_header"] == f"{host.params['directory']}/shop"
    assert "s3cret" not in json.dumps(answer)


@pytest.mark.parametrize("check", [True, False])
def test_the_diff_of_a_removal_shows_what_goes_without_values(check, module, host):
    module("1", {"KEY": "s3cret one"})
    answer = module(state="absent", check=check, diff=True)
    assert answer["changed"]
    assert "module = 1:app" in answer["diff"]["before"]
    assert answer["diff"]["after"] == ""
    assert "s3cret" not in json.dumps(answer)
    assert bool(host.runs()) is check


def test_failure_names_the_app_and_shows_no_value(impatient, module, program):
    program("journalctl", "echo 'KeyError: s3cret value'")
    answer = module("broken", {"KEY": "s3cret value"})
    assert answer["failed"]
    assert answer["msg"].startswith("The app shop did not start: after 1 s it answers /healthz with status 500")
    assert answer["msg"].endswith("KeyError: ********")
    assert "s3cret" not in json.dumps(answer)
    assert answer["generation"]


def test_a_failure_shows_no_value_of_the_release_before_either(module, host, program):
    program("journalctl", "echo 'KeyError: s3cret of old, s3cret of new'")
    module("1", {"KEY": "s3cret of old"})
    module(state="committed")
    answer = module("dies", {"KEY": "s3cret of new"})
    assert answer["msg"].endswith("KeyError: ********, ********")


def test_value_with_the_prefix_of_another_is_hidden_completely(module, host, program):
    program("journalctl", "echo 'KeyError: s3cret and more'")
    module("1", {"KEY": "s3cret and more"})
    module(state="committed")
    assert module("dies", {"KEY": "s3cret"})["msg"].endswith("KeyError: ********")


def test_common_values_of_all_apps_are_shown(module, program):
    program("journalctl", "echo 'in /srv/flask_apps/shop/shared'")
    answer = module("dies", {"KEY": "s3cret", "HOME": "/srv/flask_apps/shop/shared"})
    assert answer["msg"].endswith("in /srv/flask_apps/shop/shared")


def file_with_a_secret(params):
    """A configuration file of the app."""
    file = Path(params["serving"]).with_name("files") / "aaa/shop.cfg"
    file.parent.mkdir(parents=True)
    file.write_text("password = s3cret of a file\n")


def test_failure_shows_no_line_of_a_configuration_file(module, params, program):
    file_with_a_secret(params)
    program("journalctl", "echo 'cannot use s3cret of a file'")
    assert module("dies", link=params["serving"], release="/nowhere")["msg"].endswith("cannot use ********")


def test_failed_benchmark_shows_no_value_and_no_line_of_a_file(module, params, run_module, monkeypatch):
    def fail(*_arguments):
        raise Unhealthy("did not start: s3cret value, s3cret of a file")

    module("1", {"KEY": "s3cret value"})
    module(state="committed")
    file_with_a_secret(params)
    home = str(Path(params["serving"]).with_name("shared"))
    user = pwd.struct_passwd(("shop", "x", os.getuid(), os.getgid(), "", home, "/bin/false"))
    monkeypatch.setattr(pwd, "getpwnam", lambda _name: user)
    monkeypatch.setattr(app_benchmark, "benchmark", fail)
    where = {"directory": params["directory"], "run": os.path.dirname(params["run"])}
    answer = run_module(app_benchmark, name="shop", path="/", at_a_time=[1], **where)
    assert answer["msg"] == "The instance for the benchmark of shop did not start: ********, ********"


def test_unhealthy_rollback_is_reported_without_values(impatient, module, host):
    module("1", {"KEY": "s3cret value"})
    module(state="committed")
    module("2")
    host.instance("blue").ill = True
    answer = module(state="rolled_back")
    assert answer["msg"].startswith(
        "The earlier vassal file was put back, but after 1 s it answers /healthz with status 500"
    )
    assert "********" in answer["msg"]
    assert "s3cret" not in json.dumps(answer)


def test_rollback_that_fails_shows_no_value(module, monkeypatch):
    def fail(_app):
        raise Unhealthy("cannot go back to s3cret value")

    module("1", {"KEY": "s3cret value"})
    monkeypatch.setattr(states, "roll_back", fail)
    assert module(state="rolled_back")["msg"] == "The app shop cannot go back to ********"


def test_values_are_hidden_when_the_file_is_broken_by_hand(module, host, program):
    program("journalctl", "echo 'KeyError: s3cret value'")
    Path(host.params["directory"], "shop.green.ini").write_text('[launch]\nenvironment = ["x"]\n')
    assert module("dies", {"KEY": "s3cret value"})["msg"].endswith("KeyError: ********")


def test_the_module_removes_the_app(module, host):
    module("1")
    assert module(state="absent")["changed"]
    assert host.runs() == {}
    assert not module(state="absent")["changed"]


@pytest.mark.parametrize("state", vassal.STATES)
def test_module_waits_for_other_modules_in_every_state(state, module, host, lock_file, monkeypatch):
    monkeypatch.setattr(exclusive, "SECONDS", 0.1)
    with exclusive.exclusive(str(lock_file)):
        answer = module(state=state)
    assert answer["failed"]
    assert answer["msg"].startswith("Another module of a run is still running on this host")
    assert host.runs() == {}


def test_a_release_is_measured_once_and_nothing_is_started(module, host, deeds):
    answer = module("1", state="trial")
    assert answer["changed"]
    assert answer["size"] == SIZE
    assert kept(host) == {"digest": answer["tried"], "size": SIZE}
    assert ("own", host.params["size"] + ".new", 0, 0) in deeds
    assert host.runs() == {}
    again = module("1", state="trial")
    assert (again["changed"], again["size"], again["tried"]) == (False, SIZE, "")
    assert len(host.tried) == 1


def test_measured_release_gets_no_second_trial_start_in_the_same_run(module, host):
    tried = module("1", state="trial")["tried"]
    assert module("1", tried=tried)["changed"]
    assert len(host.tried) == 1
    assert host.runs() == {"blue": complete(host, "1")}


def test_release_measured_by_an_earlier_run_gets_a_trial_start(module, host):
    module("1", state="trial")
    module("1", tried=module("1", state="trial")["tried"])
    assert len(host.tried) == 2


def test_release_that_was_not_measured_gets_a_trial_start(module, host):
    tried = module("1", state="trial")["tried"]
    module("2", tried=tried)
    assert len(host.tried) == 2
    Path(host.params["size"]).unlink()
    module("1", tried=tried)
    assert len(host.tried) == 3


def test_second_instance_needs_the_measured_memory(module, host, monkeypatch):
    module("1")
    module(state="committed")
    host.memory = Memory(950 * MIB, 10 * MIB, 945 * MIB)
    tried = module("2", state="trial")["tried"]
    answer = module("2", tried=tried)
    assert "a second instance beside the running one needs about 960 MiB" in answer["msg"]
    host.memory = None  # the kernel does not tell
    tried = module("3", state="trial")["tried"]
    assert module("3", tried=tried)["changed"]


def test_unknown_size_causes_no_second_measurement(module, host):
    host.memory = None
    assert module("1", state="trial")["size"] == {}
    again = module("1", state="trial")
    assert (again["changed"], again["size"]) == (False, {})


def test_failed_trial_start_is_refused_and_leaves_no_size(module, host, monkeypatch):
    def fails(app, config):
        raise Unhealthy("it ends\nKeyError: s3cret value")

    monkeypatch.setattr(trial, "start", fails)
    answer = module("1", {"KEY": "s3cret value"}, state="trial")
    assert answer["failed"]
    assert answer["msg"] == ("The app shop was not changed, because 1:app would not start: it ends\nKeyError: ********")
    assert not os.path.exists(host.params["size"])
    assert host.runs() == {}


def test_check_mode_returns_the_known_size_and_measures_nothing(module, host):
    answer = module("1", state="trial", check=True)
    assert (answer["changed"], answer["size"], answer["tried"]) == (True, {}, "")
    module("1", state="trial")
    assert not module("1", state="trial", check=True)["changed"]
    answer = module("2", state="trial", check=True)
    assert (answer["changed"], answer["size"]) == (True, SIZE)
    assert len(host.tried) == 1


def test_trial_start_without_a_size_file_is_refused(run_module, tmp_path):
    answer = run_module(vassal, name="shop", directory=str(tmp_path), run=str(tmp_path), state="trial", config=EMPTY)
    assert "size" in answer["msg"]


def test_switch_without_a_config_is_refused(run_module, tmp_path):
    answer = run_module(vassal, name="shop", directory=str(tmp_path), run=str(tmp_path))
    assert "config" in answer["msg"]


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"reload": "chain"}, "release and link"),
        ({"release": "/r2"}, "link"),
        ({"link": "/l", "reload": "chain"}, "release"),
    ],
)
def test_chain_without_link_and_release_is_refused(given, missing, run_module, tmp_path):
    answer = run_module(vassal, name="shop", directory=str(tmp_path), run=str(tmp_path), config=EMPTY, **given)
    assert answer["failed"]
    assert missing in answer["msg"]
