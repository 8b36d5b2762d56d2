"""The action plugin `app_command`: the command as it was typed, and what is refused."""

from unittest import mock

import pytest
from ansible import context
from ansible.module_utils.common.collections import ImmutableDict
from ansible_collections.flaskops.emperor.plugins.action import app_command


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("command=flask create-user NAME", ["flask", "create-user", "NAME"]),
        ("command=flask --app x --name='Ada L.'", ["flask", "--app", "x", "--name=Ada L."]),
        ("command='flask routes --all'", ["flask", "routes", "--all"]),
        ("command=\"sh -c 'a && b'\"", ["sh", "-c", "a && b"]),
        ("command=true", ["true"]),
    ],
)
def test_command_is_taken_as_it_was_typed(given, words, monkeypatch):
    # Of these, Ansible's own variable has the first word only.
    monkeypatch.setattr(context, "CLIARGS", ImmutableDict(extra_vars=("app=shop", given)))
    assert app_command.words_of(app_command.as_typed("flask")) == words


def test_command_from_a_variables_file_is_taken_unchanged(monkeypatch):
    monkeypatch.setattr(context, "CLIARGS", ImmutableDict(extra_vars=("@vars.yml",)))
    assert app_command.as_typed("flask routes") == "flask routes"


@pytest.mark.parametrize(
    ("changes", "host", "sentence"),
    [
        ({"name": ""}, "web1", "No app was named: add `-e app=NAME` with one of shop, blog."),
        ({"name": "shopp"}, "web1", "app is shopp, which is not in flask_apps: add `-e app=NAME` with one of"),
        ({"command": " "}, "web1", "No command was given: add `-e 'command=flask ...'`."),
        ({}, "web3", "host is web3, which is none of web1, web2: correct `-e host=NAME`."),
        ({}, "web2", ""),
    ],
)
def test_invalid_command_app_or_host_is_refused_with_a_sentence(changes, host, sentence):
    options = {"name": "shop", "command": "true", "hosts": ["web1", "web2"], **changes}
    assert app_command.refusal(options, ["shop", "blog"], host).startswith(sentence)


def test_environment_and_files_are_secret():
    app = {"environment": {"KEY": 12345}, "files": [{"path": "x", "content": "[x]\npassword: 'hunter2'\n"}]}
    assert {"12345", "hunter2"} <= set(app_command.secrets(app).values())


@pytest.mark.parametrize("code", [0, 1])
def test_what_a_command_says_and_its_own_words_show_no_secret(code, monkeypatch):
    monkeypatch.setattr(context, "CLIARGS", ImmutableDict())
    files = [{"path": "x", "content": "password = s3cret of a file\n"}]
    app = {"name": "shop", "environment": {"KEY": "s3cret value"}, "files": files}
    arguments = {"name": "shop", "command": "login 's3cret value'", "hosts": ["web1"], "apps": [app]}
    task = mock.Mock(args=arguments, check_mode=False, async_val=0)
    plugin = app_command.ActionModule(task, *(mock.Mock() for _number in range(5)))
    said = {"rc": code, "stdout": "with s3cret value", "stderr": "and s3cret of a file"}
    monkeypatch.setattr(plugin, "_execute_module", lambda *_rest, **_more: said)
    plugin._display = mock.Mock()
    answer = plugin.run(task_vars={"inventory_hostname": "web1"})
    shown = f"{answer} {plugin._display.mock_calls}"
    assert "with ********" in shown
    assert ("`login '********'` ended" in shown) == bool(code)
    assert "s3cret" not in shown
