"""What modules are told that is secret is neither in what they answer, at -vvv too, nor in the journal of the host."""

import ast
import importlib
import json
from pathlib import Path

import pytest
from ansible.module_utils.basic import AnsibleModule

MODULES = Path(__file__).parents[2] / "plugins/modules"
PLANTED = "planted-secret"
SECRET = {"KEY": PLANTED}
APP = {"name": "shop", "home": "/nowhere"}
# Of each module its secret options, and others with which it ends before it does anything.
OPTIONS = {
    "app_archive": ({"settings": SECRET}, {**APP, "state": "restored"}),
    "certificates": ({"contents": SECRET, "eab_hmac_key": PLANTED}, {}),
    "haproxy_config": ({"certificates": {"a.pem": PLANTED}}, {"content": "", "root": "/nowhere"}),
    "release": (
        {
            "archive": PLANTED, "environment": SECRET, "credentials": [SECRET], "pip_arguments": [f"--x={PLANTED}"],
            "files": [{"at": "a", "content": PLANTED}],
        },
        {"home": "/nowhere", "state": "built", "id": "!", "user": "shop"},
    ),
    "release_command": ({"environment": SECRET}, {**APP, "id": "!", "command": "true"}),
    "side_processes": ({"sides": {"worker": {"environment": SECRET}}}, {**APP, "state": "absent"}),
    "tool_virtualenv": ({"arguments": [f"--x={PLANTED}"]}, {"path": "/nowhere", "package": "x==1"}),
    "vassal": (
        {"config": {"launch": {"environment": SECRET}, "options": []}},
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
    assert PLANTED not in json.dumps(answer) + "".join(journal)


def test_no_secret_option_is_missing_here():
    found = set()
    for file in MODULES.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Dict) and any(
                isinstance(key, ast.Constant) and key.value == "no_log" for key in node.keys
            ):
                found.add((file.stem, node.lineno))
    assert len(found) == sum(len(secret) for secret, _others in OPTIONS.values())
    assert {name for name, _line in found} == set(OPTIONS)
