"""What the tests of modules share: running one as Ansible would, and doing root's work without being root."""

import contextlib
import io
import json
import os
import pwd
import signal
import subprocess
import threading
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.flaskops.emperor.plugins.module_utils import confined, exclusive


@pytest.fixture(autouse=True)
def a_test_that_hangs_fails():
    def stop(number, frame):
        raise AssertionError("the test hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def a_test_that_leaves_a_thread_fails():
    """What a thread of one test still does would happen to another: a descriptor that it waits on is soon another's."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(20)
        assert not thread.is_alive(), f"{thread.name} goes on"


@pytest.fixture(autouse=True)
def lock_file(tmp_path, monkeypatch):
    """The file by which modules wait for each other: one of this test alone."""
    path = tmp_path / "flask_apps.flock"
    monkeypatch.setattr(exclusive, "PATH", str(path))
    return path


@pytest.fixture
def run_module(tmp_path):
    """Run a module's main() with arguments; return what it answered, with `failed` always there."""

    def run(module, *, check=False, diff=False, **arguments):
        arguments.update(_ansible_check_mode=check, _ansible_diff=diff, _ansible_remote_tmp=str(tmp_path / "remote"))
        output = io.StringIO()
        with patch_module_args(arguments), contextlib.redirect_stdout(output), pytest.raises(SystemExit):
            module.main()
        return {"failed": False, **json.loads(output.getvalue().splitlines()[-1])}

    return run


class Deeds(list[tuple[Any, ...]]):
    """What was done that only root may do: ("own", PATH, UID, GID) and ("run as", COMMAND, UID, GID)."""

    def of(self, kind):
        return [rest for one, *rest in self if one == kind]


@pytest.fixture
def deeds(monkeypatch):
    """Owners stay and programs run as whoever runs the tests, root or not; what was asked for is noted.

    Every user name means that person, too.
    """
    done = Deeds()

    def own(path, uid, gid):
        path = os.readlink(f"/proc/self/fd/{path}") if isinstance(path, int) else os.path.normpath(path)
        done.append(("own", path, uid, gid))

    class Popen(subprocess.Popen[str]):
        def __init__(self, command, *rest, user=None, group=None, extra_groups=None, **options):
            done.append(("run as", command, user, group))
            super().__init__(command, *rest, **options)

    for name in ("chown", "lchown", "fchown"):
        monkeypatch.setattr(os, name, own)
    for name in ("setgroups", "setgid", "setuid"):
        monkeypatch.setattr(os, name, lambda _number: None)
    monkeypatch.setattr(subprocess, "Popen", Popen)
    me = pwd.struct_passwd(("shop", "x", os.getuid(), os.getgid(), "", "/", "/bin/false"))
    monkeypatch.setattr(pwd, "getpwnam", lambda name: me)
    return done


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Put a shell script first in PATH; return its path."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")

    def make(name, text):
        file = directory / name
        file.write_text("#!/bin/sh\n" + text)
        file.chmod(0o755)
        return str(file)

    return make


# Runs a command as systemd would, except as whom and in which sandbox; its number is in a file until it has ended.
SYSTEMD_RUN = """
while [ "$1" != -- ]; do
  case "$1" in
    --unit=*) unit=${1#*=} ;;
    --property=WorkingDirectory=*) directory=${1#--property=WorkingDirectory=} ;;
    --property=UMask=*) umask "${1#--property=UMask=}" ;;
  esac
  shift
done
shift
echo "$unit" >> "$0.units"
cd "$directory"
exec 3<&0
setsid env -i sh -c 'echo $$ > "$0"; exec "$@" 3<&-' "$0.$unit.pid" "$@" <&3 &
exec 2> /dev/null
wait $!
code=$?
read -r pid < "$0.$unit.pid"
kill -KILL "-$pid"
rm -f "$0.$unit.pid"
test $code -le 128 || { echo "Id=$unit\nExecMainCode=2\nExecMainStatus=$((code - 128))" > "$0.$unit.state"; exit 255; }
exit $code
"""
SYSTEMCTL = """
for unit; do :; done
here=$(dirname "$0")/systemd-run.$unit
case "$*" in
  show*) cat "$here.state" 2> /dev/null ;;
  kill*) ! read -r pid < "$here.pid" || kill -KILL "-$pid" ;;
  stop*)
    read -r pid < "$here.pid" || exit 0
    kill -TERM "$pid"
    for _try in $(seq "${STOP_TRIES:-100}"); do test -e "$here.pid" || exit 0; sleep 0.02; done
    kill -KILL "-$pid" ;;
esac
"""


@pytest.fixture
def sandboxed(program, tmp_path, monkeypatch):
    """A host with a sandbox for an app's code, and with a systemd that runs it; returns where its units are noted."""
    unit = tmp_path / "emperor.service"
    unit.write_text("[Service]\nNoNewPrivileges=yes\nUMask=0027\nReadWritePaths=/srv/flask_apps\n")
    monkeypatch.setattr(confined, "EMPEROR", str(unit))
    program("systemctl", SYSTEMCTL)
    return program("systemd-run", SYSTEMD_RUN) + ".units"
