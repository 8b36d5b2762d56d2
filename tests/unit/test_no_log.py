"""What modules are told that is secret is neither in what they answer, at -vvv too, nor in the journal of the host."""

import ast
import importlib
import json
from pathlib import Path

import pytest
from ansible.module_utils.basic import AnsibleModule

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
    "certificates": ({"contents": variables("contents"), "eab_hmac_key": planted("eab")}, {}),
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
        {"config": {"launch": {"environment": variables("config")}, "options": []}},
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
