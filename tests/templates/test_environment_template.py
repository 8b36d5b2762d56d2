"""The environment of an app, from the user's list to the bytes that a process has."""

import json
import os
import subprocess
import sys

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultLib, VaultSecret, VaultSecretsContext
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.config import Config
from hypothesis import given, settings
from hypothesis import strategies as st
from rendering import RELEASE, ROLES, ini, render, value


def test_variables_of_the_role_win_and_variables_of_the_app_win_over_defaults():
    environment = json.loads(
        ini(render("vassal.ini", {"environment": {"LANG": "de_DE.UTF-8", "N": 1}}), "launch")["environment"]
    )
    release = "/srv/flask_apps/shop/releases/3f2a9c01d4e5"
    assert environment == {
        "N": "1",
        "LANG": "de_DE.UTF-8",
        "PATH": f"{release}/venv/bin:/usr/local/bin:/usr/bin:/bin",
        "HOME": "/srv/flask_apps/shop/shared",
        "USER": "shop",
        "LOGNAME": "shop",
        "VIRTUAL_ENV": f"{release}/venv",
        "RELEASE_ID": "3f2a9c01d4e5",
        "EMPEROR_APP": "shop:create_app()",
    }


def test_environment_of_a_chain_uses_the_link_and_names_the_app():
    text = render("vassal.ini", {"reload": "chain", "environment": {"PATH": "/opt", "A": "b"}})
    environment = json.loads(ini(text, "launch")["environment"])
    serving = "/srv/flask_apps/shop/serving"
    assert environment == {
        "A": "b",
        "LANG": "C.UTF-8",
        "PATH": "/opt",
        "HOME": "/srv/flask_apps/shop/shared",
        "USER": "shop",
        "LOGNAME": "shop",
        "VIRTUAL_ENV": f"{serving}/venv",
        "EMPEROR_SERVING": serving,
        "EMPEROR_APP": "shop:create_app()",
    }
    own = json.loads(ini(render("vassal.ini", {"reload": "chain"}), "launch")["environment"])
    assert own["PATH"] == f"{serving}/venv/bin:/usr/local/bin:/usr/bin:/bin"


@pytest.mark.parametrize("mode", ["zerg", "graceful", "upstream"])
def test_environment_without_a_chain_names_the_release_and_no_link(mode):
    environment = json.loads(ini(render("vassal.ini", {"reload": mode}), "launch")["environment"])
    assert environment["RELEASE_ID"] == RELEASE
    assert [name for name in environment if name.startswith("EMPEROR")] == ["EMPEROR_APP"]


VALUES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])) | st.binary().map(
    lambda raw: raw.replace(b"\0", b"").decode("utf-8", "surrogateescape")
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A root of apps where the release has a uWSGI that only writes down its environment."""
    root = tmp_path_factory.mktemp("root")
    binary = root / "shop/releases/3f2a9c01d4e5/venv/bin/uwsgi"
    binary.parent.mkdir(parents=True)
    binary.write_text(f'#!/bin/sh\ncat "/proc/$$/environ" > "{root}/environment"\n')
    binary.chmod(0o755)
    return root


def through_the_chain(root, environment):
    """From the list of the user through filter, template, module and wrapper to the bytes a process has."""
    data = value("__release_instance.config", {"environment": environment}, flask_apps_root=str(root))
    content = Config.of(data).trial(str(root)).render()
    (root / "shop.ini").write_text(content, encoding="utf-8", errors="surrogateescape")
    wrapper = ROLES / "uwsgi/files/emperor_wrapper.py"
    subprocess.run([sys.executable, "-IS", str(wrapper), "--ini", str(root / "shop.ini")], env={}, check=True)
    pairs = (root / "environment").read_bytes().split(b"\0")[:-1]
    return dict(pair.split(b"=", 1) for pair in pairs)


@settings(max_examples=20)  # each with many values, two processes and all of the Templar
@given(values=st.lists(VALUES, min_size=1, max_size=30))
def test_every_value_arrives_in_the_process_byte_for_byte(root, values):
    wanted = {f"V{number}": value for number, value in enumerate(values)}
    found = through_the_chain(root, wanted)
    assert {name: found[os.fsencode(name)] for name in wanted} == {
        name: os.fsencode(one) for name, one in wanted.items()
    }


def test_values_that_look_like_templates_stay_unchanged(root):
    wanted = {"A": "{{ 7 * 7 }}", "B": "{% raw %}", "C": "%(a)s $(id) @(f)", "D": "line\nline", "E": "'\"\\"}
    found = through_the_chain(root, wanted)
    assert {name: found[name.encode()].decode() for name in wanted} == wanted


@pytest.fixture
def password():
    """A vault password, as ansible-playbook has it after asking for it."""
    secrets = [("default", VaultSecret(b"password"))]
    VaultSecretsContext.initialize(VaultSecretsContext(secrets))
    yield secrets[0][1]
    VaultSecretsContext._current = None


def test_values_from_a_vault_arrive_decrypted(tmp_path, password):
    encrypted = VaultLib().encrypt("s3cret %(x)s", password).decode()
    lines = ["vault_key: !vault |", *(f"  {line}" for line in encrypted.splitlines())]
    lines += [
        "there:",
        '  NAMED: "{{ vault_key }}"',
        "  INLINE: !vault |",
        *(f"    {line}" for line in encrypted.splitlines()),
    ]
    (tmp_path / "vars.yml").write_text("\n".join(lines) + "\n")
    changes = DataLoader().load_from_file(str(tmp_path / "vars.yml"), trusted_as_template=True)
    text = render("vassal.ini", {"environment": changes["there"]}, **changes)
    environment = json.loads(ini(text, "launch")["environment"])
    assert environment["NAMED"] == environment["INLINE"] == "s3cret %(x)s"
