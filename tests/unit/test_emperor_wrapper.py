"""The program that starts vassals: which uWSGI it runs, with which arguments, in which environment."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from role_program import load

WRAPPER = Path(__file__).parents[2] / "roles/uwsgi/files/emperor_wrapper.py"

# Stands for uWSGI: what it was started with, and the very bytes of its environment (a shell would change some).
UWSGI = r"""#!/bin/sh
printf '%s\0' "$0" "$@" > "${0%/*}/arguments"
cat "/proc/$$/environ" > "${0%/*}/environment"
cat "/proc/$$/limits" > "${0%/*}/limits"
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """A directory with a fake uWSGI in it."""
    root = tmp_path_factory.mktemp("host")
    (root / "uwsgi").write_text(UWSGI)
    (root / "uwsgi").chmod(0o755)
    return root


def vassal(host, environment, *more):
    file = host / "shop.ini"
    lines = [
        "; Ansible managed",
        "[launch]",
        f"binary = {host}/uwsgi",
        f"environment = {json.dumps(environment)}",
        *more,
    ]
    file.write_text(
        "\n".join([*lines, "", "[uwsgi]", "module = a:b", "mime-file = a", "mime-file = b = %c $(d) ; e", ""])
    )
    return file


def start(host, file, around=None):
    """Run the wrapper as the Emperor does; return arguments and environment of the uWSGI it became."""
    command = [sys.executable, "-IS", str(WRAPPER), "--ini", str(file)]
    subprocess.run(command, env=around or {}, check=True, cwd="/")
    arguments = (host / "arguments").read_bytes().decode().split("\0")[:-1]
    pairs = (host / "environment").read_bytes().split(b"\0")[:-1]
    return arguments, dict(pair.split(b"=", 1) for pair in pairs)


def test_wrapper_becomes_the_uwsgi_of_the_vassal_and_its_binary_path(host):
    # At a reload uWSGI executes its binary path: so the wrapper reads the new file.
    file = vassal(host, {})
    arguments, _environment = start(host, file)
    assert arguments == [f"{host}/uwsgi", "--ini", str(file), "--binary-path", str(WRAPPER)]


def test_environment_holds_only_variables_of_vassal_and_emperor(host):
    around = {"UWSGI_EMPEROR_FD": "7", "UWSGI_RELOADS": "2", "SECRET": "of the Emperor", "A": "his", "PATH": "/bin"}
    _arguments, environment = start(host, vassal(host, {"A": "mine"}), around)
    assert environment == {b"A": b"mine", b"UWSGI_EMPEROR_FD": b"7", b"UWSGI_RELOADS": b"2"}


VALUES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])) | st.binary().map(
    lambda raw: raw.replace(b"\0", b"").decode("utf-8", "surrogateescape")
)


@settings(max_examples=25)  # two processes each, thirty values a time
@given(values=st.lists(VALUES, min_size=1, max_size=30))
def test_every_value_arrives_byte_for_byte(host, values):
    wanted = {f"V{number}": value for number, value in enumerate(values)}
    _arguments, environment = start(host, vassal(host, wanted))
    assert environment == {os.fsencode(name): os.fsencode(value) for name, value in wanted.items()}


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "50%",
        "%(x)s",
        "$(id)",
        "@(file)",
        "a;b",
        "# c",
        "[uwsgi]",
        "a = b",
        '"\\',
        "\n[x]\ny=1\n",
        "\u2028",
        "é",
        "\x7f",
    ],
)
def test_values_that_other_formats_would_change_arrive_byte_for_byte(value, host):
    _arguments, environment = start(host, vassal(host, {"VALUE": value}))
    assert environment[b"VALUE"] == value.encode()


@pytest.fixture
def executed(monkeypatch):
    """Load the wrapper; collect what it would execute."""
    wrapper = load(WRAPPER)
    calls = []
    monkeypatch.setattr(os, "execve", lambda *arguments: calls.append(arguments))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["/usr/local/libexec/emperor-wrapper", *arguments])
        wrapper.main()
        return calls[-1]

    return run


def test_journal_names_the_app_when_an_identifier_is_set(executed, host):
    file = vassal(host, {"A": "x"}, "identifier = shop")
    path, command, environment = executed("--ini", str(file))
    assert path == "/usr/bin/systemd-cat"
    assert command[:2] == ["/usr/bin/systemd-cat", "--identifier=shop"]
    assert command[2:] == [f"{host}/uwsgi", "--ini", str(file), "--binary-path", "/usr/local/libexec/emperor-wrapper"]
    assert environment[b"A"] == b"x"


def test_arguments_of_the_emperor_are_passed_on(executed, host):
    # uWSGI adds options of its own to the command line.
    file = vassal(host, {})
    _path, command, _environment = executed("--emperor-fd", "7", "--ini", str(file), "--inherit", "x")
    assert command == [f"{host}/uwsgi", "--ini", str(file), "--binary-path", "/usr/local/libexec/emperor-wrapper"]


PLACE = "/run/emperor-sockets/shop"
HELD = [f"socket = {PLACE}/app.sock", f"holder = {PLACE}/holder.sock"]


def test_a_first_start_asks_the_holder_for_the_apps_socket(host):
    file = vassal(host, {}, *HELD)
    arguments, _environment = start(host, file, {"UWSGI_EMPEROR_FD": "7"})
    assert arguments[3:] == ["--binary-path", str(WRAPPER), "--zerg", f"{PLACE}/holder.sock"]


def test_a_reload_keeps_the_apps_socket_by_its_name(host):
    # uWSGI does not ask again, and has it open still.
    file = vassal(host, {}, *HELD)
    arguments, environment = start(host, file, {"UWSGI_RELOADS": "1"})
    assert arguments[3:] == ["--binary-path", str(WRAPPER), "--socket", f"{PLACE}/app.sock"]
    assert environment == {b"UWSGI_RELOADS": b"1"}


@pytest.mark.parametrize(("lines", "limit"), [(["tasks = 77"], "77"), (["tasks = many"], ""), ([], "")])
def test_processes_of_an_app_are_limited(lines, limit, host):
    start(host, vassal(host, {}, *lines))
    found = [(host / "limits").read_text(), Path("/proc/self/limits").read_text()]
    now, mine = (re.findall(r"^Max processes +(\S+) +(\S+)", text, re.MULTILINE) for text in found)
    assert now == ([(limit, limit)] if limit else mine)


@pytest.mark.parametrize(
    ("around", "sockets"),
    [
        ({"UWSGI_EMPEROR_FD": "7"}, ["--zerg", f"{PLACE}/green.holder"]),
        ({"UWSGI_RELOADS": "1"}, ["--socket", f"{PLACE}/app.sock", "--socket", f"{PLACE}/green.sock"]),
    ],
)
def test_instance_gets_the_socket_of_its_slot_where_slots_have_one(around, sockets, host):
    file = vassal(host, {}, *HELD, "clients = slot")
    arguments, _environment = start(host, file.rename(file.with_name("shop.green.ini")), around)
    assert arguments[3:] == ["--binary-path", str(WRAPPER), *sockets]


@pytest.mark.parametrize("around", [{}, {"UWSGI_RELOADS": "1"}])
@pytest.mark.parametrize("lines", [["clients = slot"], HELD[:1], [HELD[0], "holder ="]])
def test_without_a_holder_the_sockets_of_the_file_are_used(lines, around, host):
    arguments, _environment = start(host, vassal(host, {}, *lines), around)
    assert arguments[3:] == ["--binary-path", str(WRAPPER)]


def test_environment_of_the_app_cannot_turn_a_start_into_a_reload(host):
    # The filter refuses such a name; a person may write one.
    arguments, _environment = start(host, vassal(host, {"UWSGI_RELOADS": "1"}, *HELD))
    assert "--zerg" in arguments


def test_journal_and_holder_work_together(executed, host):
    file = vassal(host, {}, "identifier = shop", *HELD)
    _path, command, _environment = executed("--ini", str(file))
    assert command[:3] == ["/usr/bin/systemd-cat", "--identifier=shop", f"{host}/uwsgi"]
    assert command[-2:] == ["--zerg", f"{PLACE}/holder.sock"]


def test_program_needs_only_the_standard_library():
    assert WRAPPER.read_text().startswith("#!/usr/bin/python3 -IS\n")
