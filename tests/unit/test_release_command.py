"""The module `release_command`: an app's own command, in its release, as its user; nothing of it is left or leaks."""

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import as_user, exclusive
from ansible_collections.flaskops.emperor.plugins.modules import release_command

# Tells all that a process can find out about how it was started.
TELL = """
import json, os, sys
json.dump({"arguments": sys.argv[1:], "directory": os.getcwd(), "environment": dict(os.environ),
           "input": sys.stdin.read(), "session": os.getsid(0) == os.getpid(), "umask": os.umask(0)}, open("told", "w"))
"""


@pytest.fixture
def home(tmp_path):
    root = tmp_path / "home"
    (root / "releases/aaa/src").mkdir(parents=True)
    (root / "releases/aaa/venv/bin").mkdir(parents=True)
    return root


@pytest.fixture
def source(home):
    return home / "releases/aaa/src"


@pytest.fixture
def path(home):
    """The PATH an app has."""
    return f"{home}/releases/aaa/venv/bin:/usr/bin:/bin"


@pytest.fixture
def install(home):
    """Put a program into the release's virtualenv."""

    def make(name, text, interpreter="/bin/sh"):
        file = home / "releases/aaa/venv/bin" / name
        file.write_text(f"#!{interpreter}\n{text}")
        file.chmod(0o755)

    return make


@pytest.fixture
def typed():
    """Standard input as a person's, who has typed something."""
    before, (reader, writer) = os.dup(0), os.pipe()
    os.write(writer, b"yes\n")
    os.close(writer)
    os.dup2(reader, 0)
    yield
    os.dup2(before, 0)
    os.close(before)
    os.close(reader)


@pytest.fixture
def run(run_module, home, path, deeds, sandboxed):
    """Run a command through the module."""

    def command(text, environment=None, **more):
        environment = {"PATH": path, **(environment or {})}
        arguments = {"name": "shop", "id": "aaa", "home": str(home), "command": text, **more}
        return run_module(release_command, environment=environment, **arguments)

    return command


def sh(script):
    return f"sh -c {shlex.quote(script)}"


def gone(source, seconds=5):
    """Whether the process that wrote its number into the file `child` ends within so many seconds."""
    pid = int((source / "child").read_text())
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] in "ZX":  # dead, nobody asked for its exit code
                    return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


# --- how it is run


def test_a_command_runs_in_the_release_with_the_apps_environment(run, install, source, path, typed):
    install("flask", TELL, sys.executable)
    answer = run("flask db 'two words' \"$HOME\" a;b", {"KEY": "é 'quoted'\n", "NUMBER": "7"})
    assert (answer["failed"], answer["changed"]) == (False, True)
    told = json.loads((source / "told").read_text())
    assert told.pop("environment").items() >= {"KEY": "é 'quoted'\n", "NUMBER": "7", "PATH": path}.items()
    assert told == {
        "arguments": ["db", "two words", "$HOME", "a;b"],
        "directory": str(source),
        "input": "",
        "session": True,
        "umask": 0o027,
    }


def test_command_gets_no_variable_of_roots_environment(run, source, monkeypatch):
    monkeypatch.setenv("TOKEN", "root's")
    run(sh("env > told"))
    names = {line.split("=")[0] for line in (source / "told").read_text().splitlines()}
    assert names <= {"PATH", "PWD", "SHLVL", "OLDPWD", "_"}


def test_command_runs_as_the_apps_user_in_the_sandbox(run, deeds, source):
    assert not run("true hunter2", {"KEY": "hunter3"})["failed"]
    command = next(what[0] for what in deeds.of("run as") if "systemd-run" in what[0])
    assert (command[1:4], command[4]) == (["--no-new-privs", "--pdeathsig=KILL", "--"], "/bin/sh")
    assert {"--property=User=shop", f"--gid={os.getgid()}", f"--property=WorkingDirectory={source}",
            "--property=NoNewPrivileges=yes", "--property=UMask=0027", "--property=CapabilityBoundingSet=",
            "--property=TasksMax=512",
            "--property=OOMScoreAdjust=500",
            "--property=ReadWritePaths=/srv/flask_apps"} <= set(command)  # fmt: skip
    assert "hunter" not in str(command)  # every user can see it


def test_without_a_sandbox_no_command_runs(run, tmp_path, source):
    (tmp_path / "emperor.service").unlink()
    message = run(sh("touch told"))["msg"]
    assert message.endswith("is not on this host, so an app's code has no sandbox: run playbooks/site.yml.")
    assert not (source / "told").exists()


def test_a_command_whose_module_is_gone_does_not_start():
    command = as_user.with_parent(["echo", "started"])
    assert subprocess.check_output(command, text=True) == "started\n"
    other = [*command[: command.index(str(os.getpid()))], "1", "echo", "started"]
    assert subprocess.run(other, capture_output=True, text=True, check=False).stdout == ""


def test_no_line_of_a_configuration_file_is_returned(run, home):
    (home / "files/aaa").mkdir(parents=True)
    (home / "files/aaa/shop.cfg").write_text("[shop]\npassword = hunter2-and-more\n")
    message = run(sh("echo 'cannot use hunter2-and-more'; exit 1"))["msg"]
    assert message.endswith("cannot use ********")


def test_output_is_returned(run):
    assert run(sh("seq 30; echo oops >&2"))["output"].splitlines() == [*map(str, range(7, 31)), "oops"]


def test_module_waits_for_another_module(run, source, monkeypatch):
    monkeypatch.setattr(exclusive, "SECONDS", 0)
    with exclusive.exclusive():
        answer = run(sh("touch told"))
    assert answer["msg"].startswith("Another module of a run is still running on this host")
    assert not (source / "told").exists()


def test_check_mode_runs_nothing(run, source):
    answer = run(sh("touch told"), check=True)
    assert (answer["failed"], answer["changed"]) == (False, True)
    assert not (source / "told").exists()


def test_check_mode_on_a_bare_host_works(run, tmp_path):
    assert run("flask db upgrade", check=True, home=str(tmp_path / "none"))["changed"]


# --- how it ends


def test_a_failure_names_the_command_the_release_the_code_and_the_last_lines(run):
    answer = run(sh("seq 30; exit 3"))
    first, *lines = answer["msg"].splitlines()
    assert first == "`sh -c 'seq 30; exit 3'` in release aaa of shop ended with exit code 3:"
    assert lines == [str(number) for number in range(6, 31)]
    assert answer["failed"]


def test_a_command_that_may_not_reach_all_is_told_so_where_something_did_not_answer(run):
    first = run(sh("echo 'connect: Network is unreachable'; exit 3"), network="local")["msg"].splitlines()[0]
    assert "ended with exit code 3 (network is local: what it asks elsewhere gets no answer, unless" in first
    assert "network is" not in run(sh("echo no; exit 3"), network="local")["msg"]


def test_failure_without_output_is_reported_in_a_sentence(run):
    assert run("false")["msg"] == "`false` in release aaa of shop ended with exit code 1 without a word."


def test_killed_command_is_reported_as_killed(run):
    assert "was killed by signal 9" in run(sh("kill -9 $$"))["msg"]


def test_missing_program_is_named(run):
    message = run("flaskk db upgrade")["msg"]
    assert message.startswith("`flaskk db upgrade` in release aaa of shop ended with exit code 127:")
    assert message.endswith("flaskk: not found")


@pytest.fixture
def lacking(install, source, monkeypatch):
    """A release whose package lacks several modules, and a flask that imports it."""
    monkeypatch.setattr(release_command, "MODULES", str(Path(__file__).parents[2] / "roles/uwsgi/files"))
    install("python", f'exec {sys.executable} "$@"')
    install("flask", "import sys; sys.path.insert(0, '.'); import shop.wsgi", sys.executable)
    (source / "shop").mkdir()
    (source / "shop/__init__.py").write_text("import nothing_a.part, json\nfrom . import pages\n")
    (source / "shop/pages.py").write_text("import nothing_b, shop\nTEXT = '\\d'\n")
    (source / "shop/wsgi.py").write_text("import nothing_c\n")


def test_command_that_lacks_several_python_modules_is_told_of_all(run, lacking):
    message = run("flask db upgrade")["msg"]
    assert "exit code 1: the modules nothing_a, nothing_b are missing: add" in message.replace(" and ", ", ")
    assert "\nModuleNotFoundError: No module named 'nothing_a'\nAlso missing: nothing_b" in message


@pytest.mark.parametrize("without", ["program", "source"])
def test_command_that_lacks_one_python_module_is_told_of_it(run, lacking, monkeypatch, source, without):
    if without == "program":  # as on a host that an older version has prepared
        monkeypatch.setattr(release_command, "MODULES", "/nowhere")
    else:
        (source / "shop/pages.py").write_text("")
    message = run("flask db upgrade")["msg"]
    assert "exit code 1: the module nothing_a is missing: add" in message
    assert "Also" not in message
    assert "emperor_missing" not in message


def test_command_that_takes_too_long_ends_with_its_children(run, source):
    begin = time.monotonic()
    limits = {"timeout": 1, "setting": "flask_apps[shop].max_hook_seconds"}
    answer = run(sh("echo begun; sleep 60 & echo $! > child; wait"), **limits)
    assert answer["msg"].endswith("did not end within 1 s (flask_apps[shop].max_hook_seconds):\nbegun")
    assert time.monotonic() - begin < 10
    assert gone(source)


def test_command_that_ignores_sigterm_is_killed(run, source, monkeypatch):
    monkeypatch.setenv("STOP_TRIES", "15")
    answer = run(sh("trap '' TERM; echo $$ > child; while :; do sleep 1; done"), timeout=1)
    assert "did not end within 1 s" in answer["msg"]
    assert gone(source)


def test_command_may_clean_up_after_its_timeout(run, source):
    run(sh("trap 'touch cleaned; exit' TERM; while :; do sleep 0.1; done"), timeout=1)
    assert (source / "cleaned").exists()


def test_children_of_a_finished_command_are_ended(run, source):
    begin = time.monotonic()
    assert not run(sh("sleep 60 & echo $! > child"))["failed"]
    assert time.monotonic() - begin < 10  # it holds the output open, which nobody waits for
    assert gone(source)


# The module's own part, in a process that can be killed.
MODULE = """
import os, sys, types
from ansible_collections.flaskops.emperor.plugins.module_utils import confined
from ansible_collections.flaskops.emperor.plugins.modules import release_command

confined.EMPEROR = sys.argv[2]
me = types.SimpleNamespace(pw_name="shop", pw_gid=os.getgid())
release_command.run(["sh", "-c", "echo $$ > child; exec sleep 60"], sys.argv[1], dict(os.environ), me, 60)
"""


@pytest.mark.usefixtures("sandboxed")
def test_a_command_dies_with_the_module(source, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / ".config/collections")}
    command = [sys.executable, "-c", MODULE, source, tmp_path / "emperor.service"]
    module = subprocess.Popen(command, env=environment)
    while not (source / "child").exists() or not (source / "child").read_text():
        assert module.poll() is None
        time.sleep(0.02)
    assert not gone(source, 0.1)
    module.kill()
    module.wait()
    assert gone(source)


# --- secrets


SECRETS = {"DATABASE_URL": "postgres://shop:hunter2@db/shop", "KEY": "line one\nline two", "PIN": "1234"}


@pytest.mark.parametrize("code", [0, 1])
def test_no_value_of_the_environment_is_returned(code, run):
    answer = json.dumps(run(sh(f'echo "$DATABASE_URL $KEY"; exit {code}'), SECRETS))
    assert answer.count("********") == 2
    assert "hunter2" not in answer
    assert "line two" not in answer
    assert "1234" not in answer  # not in the invocation either


def test_a_secret_in_the_command_itself_is_hidden(run):
    message = run("false hunter2!", {"TOKEN": "hunter2!"})["msg"]
    assert message == "`false ********` in release aaa of shop ended with exit code 1 without a word."


def test_common_values_of_all_apps_stay_readable(run, home):
    message = run(sh("echo /data/shop/shared; exit 1"), {"USER": "shop", "RELEASE_ID": "aaa", "HOME": "/data"})["msg"]
    assert "in release aaa of shop ended with exit code 1:\n/data/shop/shared" in message


# --- what is refused


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"id": "../etc"}, "id is '../etc', but must be letters, digits, '.', '_' and '-'."),
        ({"id": "bbb"}, "Release bbb is not on this host: build it first."),
        ({"text": "flask 'db"}, 'command is "flask \'db", which cannot be split into words (No closing quotation)'),
        ({"text": " "}, "command is empty: name a program."),
    ],
)
def test_invalid_command_is_refused(arguments, sentence, run, deeds):
    assert sentence in run(**{"text": "true", **arguments})["msg"]
    assert deeds.of("run as") == []
