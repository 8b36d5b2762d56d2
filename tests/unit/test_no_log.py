"""What plugins are told that is secret is for those alone who need it.

What modules are told is neither in what they answer, at -vvv too, nor in the journal of the host.
"""

import ast
import base64
import hashlib
import importlib
import json
from pathlib import Path
from unittest import mock

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flaskops.emperor.plugins.action import app_archive, apps_plan
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.apps import complete_apps

MODULES = Path(__file__).parents[2] / "plugins/modules"
APP = {"name": "shop", "home": "/nowhere"}


def planted(option):
    """Another one for each option: what is hidden for one of them would be hidden for all."""
    return f"planted-secret-{option}"


def variables(option):
    return {"KEY": planted(option)}


# Of each module its secret options, and others with which it ends before it does anything.
OPTIONS = {
    "app_archive": ({"settings": variables("settings")}, {**APP, "state": "restored"}),
    "certificates": (
        {
            "contents": variables("contents"), "eab_hmac_key": planted("eab"), "credentials": planted("credentials"),
            "environment": variables("environment of a plugin"),
        },
        {},
    ),
    "haproxy_config": ({"certificates": {"a.pem": planted("certificate")}}, {"content": "", "root": "/nowhere"}),
    "release": (
        {
            "archive": planted("archive"), "environment": variables("environment"),
            "credentials": [variables("credentials")], "pip_arguments": [f"--x={planted('arguments')}"],
            "files": [{"at": "a", "content": planted("files")}],
        },
        {"home": "/nowhere", "state": "built", "id": "!", "user": "shop"},
    ),
    "release_command": ({"environment": variables("environment")}, {**APP, "id": "!", "command": "true"}),
    "side_processes": ({"sides": {"worker": {"environment": variables("sides")}}}, {**APP, "state": "absent"}),
    "tool_virtualenv": ({"arguments": [f"--x={planted('arguments')}"]}, {"path": "/nowhere", "package": "x==1"}),
    "vassal": (
        {
            "config": {"launch": {"environment": variables("config")}, "options": []},
            "lazily": [["set-placeholder", planted("lazily")]],
        },
        {"name": "shop", "directory": "/nowhere", "run": "/nowhere", "reload": "upstream"},
    ),
}  # fmt: skip


@pytest.fixture
def journal(monkeypatch):
    """What modules write to the journal of the host."""
    found: list[str] = []
    monkeypatch.setattr(AnsibleModule, "log", lambda _self, *rest, **more: found.append(f"{rest} {more}"))
    return found


@pytest.mark.parametrize("name", OPTIONS)
def test_secret_is_neither_in_the_answer_nor_in_the_journal(name, run_module, journal):
    secret, others = OPTIONS[name]
    module = importlib.import_module(f"ansible_collections.flaskops.emperor.plugins.modules.{name}")
    answer = run_module(module, check=True, **secret, **others)
    assert "invocation" in answer
    assert journal
    assert "planted-secret" not in json.dumps(answer) + "".join(journal)


def test_no_secret_option_is_missing_here():
    found = []
    for file in MODULES.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Dict) and "no_log" in [getattr(key, "value", None) for key in node.keys]:
                found.append(file.stem)
    assert sorted(found) == sorted(name for name, (secret, _others) in OPTIONS.items() for _option in secret)


@pytest.mark.parametrize("mount", [False, True])
def test_site_of_an_app_is_made_without_its_secrets(mount, monkeypatch):
    given = []
    monkeypatch.setattr(apps_plan, "render", lambda _plugin, _template, variables: given.append(variables))
    app = {
        "name": "shop", "app": "shop:app", "source": {"path": "."}, "domains": ["shop.test"],
        "environment": variables("environment"), "files": [{"path": "a", "content": planted("file")}],
        "build_environment": variables("build"), "tls": {"mode": "provided", "certificate": "x", "key": planted("key")},
        "build_credentials": [{"host": "git.test", "user": "x", "password": planted("password")}],
    }  # fmt: skip
    completed = complete_apps([app])[0]
    assert json.dumps(completed).count("planted-secret") >= 5
    plugin = apps_plan.ActionModule(*(mock.Mock() for _number in range(6)))
    plugin._site(completed, mount, {})
    assert given[0]["__flask_apps_app"]["domains"] == ["shop.test"]
    assert "planted-secret" not in json.dumps(given)


def test_backup_on_this_machine_is_for_its_owner_alone(tmp_path, monkeypatch):
    content = b"an archive"
    packed = {"size": len(content), "digest": hashlib.sha256(content).hexdigest(), "path": "/x", "problems": []}
    answers = {"packed": packed, "read": {"piece": base64.b64encode(content).decode()}, "absent": {}}
    target = tmp_path / "backups/shop.tar.gz"
    task = mock.Mock(args={"state": "packed", "to": str(target)}, check_mode=False, async_val=0)
    plugin = app_archive.ActionModule(task, *(mock.Mock() for _number in range(5)))
    monkeypatch.setattr(plugin, "_execute_module", lambda *_rest, module_args, **_more: answers[module_args["state"]])
    plugin._remove_tmp_path = lambda _path: None
    assert plugin.run(task_vars={})["changed"]
    assert target.read_bytes() == content
    assert [path.stat().st_mode & 0o777 for path in (target, target.parent)] == [0o600, 0o700]
