"""Modules are executed from files that the host keeps, or in Ansible's own way."""

import concurrent.futures
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from unittest import mock

import pytest
import yaml
from ansible.plugins.action import ActionBase
from ansible_collections.flaskops.emperor.plugins.plugin_utils import host_action

NAME = "flaskops.emperor.nginx_config"
USUAL = {"msg": "in Ansible's own way"}


class Plugin(host_action.HostAction):
    """A plugin without anything of its own."""

    def run(self, **variables):
        """Execute the module of the task."""
        self.commands = []
        return self._execute_module(task_vars={"ansible_python_interpreter": sys.executable, **variables})

    def _low_level_execute_command(self, command, in_data):
        self.commands.append(command)
        done = subprocess.run(["/bin/sh", "-c", command], input=in_data, capture_output=True, check=False)
        return {"rc": done.returncode, "stdout": done.stdout.decode(), "stderr": done.stderr.decode()}

    def _compute_environment_string(self):
        return ""


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host that is this machine; what it keeps is below tmp_path. `host.run()` executes a module there."""
    kept = tmp_path / "cache/kept"
    monkeypatch.setattr(host_action, "KEPT", str(kept))
    monkeypatch.setattr(ActionBase, "_execute_module", mock.Mock(return_value=USUAL))
    monkeypatch.setattr(ActionBase, "_update_module_args", lambda *_arguments: None)
    connection = mock.Mock(_remote_is_local=False)
    task = mock.Mock(args={"surprise": "option"}, action=NAME, async_val=0, check_mode=False, delegate_to=None)
    plugin = Plugin(task, connection, *(mock.Mock() for _number in range(4)))
    plugin._templar.template = lambda value: value
    plugin.kept, plugin.commands = kept, []
    return plugin


def refused(answer):
    """Whether the module itself answered, which needs some option."""
    return "one of the following is required: files, path" in answer["msg"]


def test_all_modules_start_with_nothing_but_what_is_kept(tmp_path):
    with tarfile.open(fileobj=io.BytesIO(host_action.packed())) as archive:
        archive.extractall(tmp_path)
    code = f"""
import importlib, json, pkgutil, sys
sys.path.insert(0, {str(tmp_path)!r})
modules = importlib.import_module("ansible_collections.flaskops.emperor.plugins.modules")
names = [found.name for found in pkgutil.iter_modules(modules.__path__)]
for name in names:
    importlib.import_module(f"{{modules.__name__}}.{{name}}")
origins = {{name: str(one.__spec__.origin) for name, one in sys.modules.items() if name.startswith("ansible")}}
others = [name for name, path in origins.items() if "/ansible" in path and not path.startswith({str(tmp_path)!r})]
print(json.dumps([names, others]))
"""
    command = [sys.executable, "-IS", "-c", code]
    names, others = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert {"vassal", "apps_state", "certificates"} < set(names)
    assert others == []


def test_files_are_brought_once(host):
    assert refused(host.run())
    assert len(host.commands) == 3, "asked, brought, executed"
    assert refused(host.run())
    assert len(host.commands) == 1
    assert [path.name for path in host.kept.iterdir()] == [host_action.digest()]
    assert host.kept.stat().st_mode & 0o777 == 0o700
    ActionBase._execute_module.assert_not_called()


def test_check_mode_brings_nothing(host):
    host._task.check_mode = True
    assert host.run() == USUAL
    assert not host.kept.exists()


def test_files_of_modules_are_brought_again_when_they_are_damaged(host):
    host.run()
    for file in (host.kept / host_action.digest()).rglob("nginx_config*"):
        file.write_bytes(b"\0" * 20)
    assert refused(host.run())
    assert len(host.commands) == 3
    assert refused(host.run())
    assert len(host.commands) == 1


@pytest.mark.parametrize(
    ("where", "name", "value"),
    [
        pytest.param("_connection", "is_pipelining_enabled", lambda: False, id="no pipelining"),
        pytest.param("_connection", "_remote_is_local", True, id="this machine"),
        pytest.param("_task", "async_val", 60, id="in the background"),
        pytest.param("_task", "action", "ansible.builtin.file", id="not of this collection"),
    ],
)
def test_ansible_does_it_in_its_own_way_where(host, where, name, value):
    setattr(getattr(host, where), name, value)
    assert host.run() == USUAL
    assert host.commands == []


def test_ansible_does_it_in_its_own_way_where_nothing_can_be_kept(host):
    host.kept.parent.write_text("no directory")
    assert host.run() == USUAL


def test_python_that_is_not_there_is_left_for_ansible_to_find(host):
    host.run()
    assert host.run(ansible_python_interpreter="/usr/bin/python-none") == USUAL


@pytest.mark.parametrize("named", ["", "auto_silent", "/usr/bin/env python3"])
def test_python_is_that_of_debian_when_none_is_named(host, named):
    assert host._python({"ansible_python_interpreter": named}) == "/usr/bin/python3"
    assert host._python({"ansible_python_interpreter": "/opt/python"}) == "/opt/python"


def test_python_is_that_of_the_host_to_which_a_task_is_delegated(host):
    host._task.delegate_to = "lb1"
    delegated = {"lb1": {"ansible_python_interpreter": "/opt/python"}}
    assert host._python({"ansible_delegated_vars": delegated}) == "/opt/python"


def test_files_of_the_newest_versions_stay(host):
    host.kept.mkdir(parents=True)
    for number in range(5):
        (host.kept / f"0{number}").mkdir()
        os.utime(host.kept / f"0{number}", (number, number))
    host.run()
    assert {path.name for path in host.kept.iterdir()} == {host_action.digest(), "04", "03"}


def test_what_other_runs_are_at_stays_and_what_they_left_goes(host):
    host.kept.mkdir(parents=True)
    for number in range(5):
        (host.kept / f"new.{number}").mkdir()
    os.utime(host.kept / "new.0", (0, 0))
    host.run()
    assert {path.name for path in host.kept.iterdir()} == {host_action.digest(), *(f"new.{n}" for n in range(1, 5))}


def test_many_runs_that_bring_them_at_once_find_them(host):
    host.run()
    with concurrent.futures.ThreadPoolExecutor(20) as runs:
        place = f"{host.kept}/{host_action.digest()}"
        assert all(runs.map(lambda _number: host._bring(place), range(24)))
        assert (Path(place) / host_action.START).stat().st_size
    assert [path.name for path in host.kept.iterdir()] == [host_action.digest()]


@pytest.mark.parametrize("damage", [lambda file: file.write_text(""), lambda file: file.unlink()])
def test_files_are_brought_again_when_what_starts_them_is_damaged(host, damage):
    host.run()
    damage(host.kept / host_action.digest() / host_action.START)
    assert refused(host.run())
    assert len(host.commands) == 3
    assert refused(host.run())
    assert len(host.commands) == 1


def test_files_that_are_there_stay_while_other_runs_bring_them(host, program):
    host.run()
    place, gone = host.kept / host_action.digest(), []
    shutil.rmtree(place)
    program("rm", 'sleep 0.$(($$ % 5)); exec /bin/rm "$@"')  # long enough for the others to come between
    with concurrent.futures.ThreadPoolExecutor(6) as runs:
        pending = [runs.submit(host._bring, str(place)) for _number in range(6)]
        there = False
        while not all(one.done() for one in pending):
            now = (place / host_action.START).exists()
            gone += [True] if there and not now else []
            there = there or now
            time.sleep(0.005)
    assert all(one.result() for one in pending)
    assert not gone


def test_another_run_that_brings_them_first_is_no_trouble(host):
    host.run()
    assert host._bring(f"{host.kept}/{host_action.digest()}")
    assert [path.name for path in host.kept.iterdir()] == [host_action.digest()]


def test_crash_of_a_module_is_told(host, monkeypatch):
    host.run()
    module = next((host.kept / host_action.digest()).rglob("nginx_config.py"))
    module.write_text("def main():\n    raise ValueError('of a kind that nobody thought of')\n")
    answer = host.run()
    assert answer["failed"]
    assert answer["msg"] == "Module failed: of a kind that nobody thought of"
    assert "Traceback" in str(answer["exception"])


def test_every_module_is_executed_in_this_way():
    plugins = Path(host_action.__file__).parents[1]
    modules = {path.stem for path in plugins.glob("modules/*.py")}
    own = modules & {path.stem for path in plugins.glob("action/*.py")}
    routed = yaml.safe_load((plugins.parent / "meta/runtime.yml").read_text())["plugin_routing"]["modules"]
    assert modules == own | set(routed)
    assert {one["action_plugin"] for one in routed.values()} == {"flaskops.emperor.host_module"}
    assert not own & set(routed)
    for name in own:
        assert "class ActionModule(HostAction):" in (plugins / f"action/{name}.py").read_text(), name


def test_module_that_is_killed_is_told(host):
    host.run()
    module = next((host.kept / host_action.digest()).rglob("nginx_config.py"))
    module.write_text(
        "import os\n\ndef main():\n    print('words of its own', flush=True)\n    os.kill(os.getpid(), 9)\n"
    )
    answer = host.run()
    assert answer["failed"]
    assert re.match("The module ended with status (137|-9) and without an answer: ", answer["msg"])


def replaced(host, name, code):
    """Put this into the place of a module on the host."""
    module = next((host.kept / host_action.digest()).rglob(f"{name}.py"))
    module.write_text(f"import json, os, sys\n\ndef main():\n    {code}\n")


SAID = "print(json.dumps({'name': '%s', 'pid': os.getpid(), **%s})); sys.exit(%d)"
BOTH: list[tuple[str, dict[str, str]]] = [(NAME, {}), ("flaskops.emperor.release", {})]


def test_modules_are_executed_in_one_execution_in_their_order(host):
    host.run()
    replaced(host, "nginx_config", SAID % ("first", "{}", 0))
    replaced(host, "release", SAID % ("second", "{}", 0))
    host.commands.clear()
    first, second = host._execute_modules(BOTH, {"ansible_python_interpreter": sys.executable})
    assert [first["name"], second["name"]] == ["first", "second"]
    assert first["pid"] != second["pid"], "what one of them leaves in its memory is not there for the next"
    assert len(host.commands) == 1


@pytest.mark.parametrize(
    "ends", [SAID % ("first", "{'failed': True, 'msg': 'no'}", 1), "os.kill(os.getpid(), 9)", "raise ValueError('no')"]
)
def test_no_module_follows_one_that_failed(host, ends):
    host.run()
    replaced(host, "nginx_config", ends)
    replaced(host, "release", SAID % ("second", "{}", 0))
    (answer,) = host._execute_modules(BOTH, {"ansible_python_interpreter": sys.executable})
    assert answer["failed"]
    assert re.search(r"\bno\b|The module ended with status 137 and without an answer", answer["msg"])


def test_modules_have_their_own_arguments(host):
    arguments = {"path": "/nowhere", "content": "x"}
    answers = host._execute_modules(
        [(NAME, {"surprise": 1}), (NAME, arguments)], {"ansible_python_interpreter": sys.executable}
    )
    assert [refused(answers[0]), len(answers)] == [True, 1]
    assert arguments == {"path": "/nowhere", "content": "x"}, "they stay as they are"


def test_modules_are_executed_in_turn_in_ansibles_own_way(host):
    host.kept.parent.write_text("no directory")
    assert host._execute_modules(BOTH, {}) == [USUAL, USUAL]
    ActionBase._execute_module.return_value = {"failed": True}
    assert host._execute_modules(BOTH, {}) == [{"failed": True}]
