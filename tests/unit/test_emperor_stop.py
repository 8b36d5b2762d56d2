"""The program that stops the Emperor, with processes in its place: the Emperor, a vassal, and a worker."""

import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).parents[2] / "roles/uwsgi/files/emperor_stop.py"
HOST = Path(__file__).parents[2] / "plugins/module_utils/host.py"
# The Emperor is told, and waits for its vassal, which waits for its worker. Nobody tells the worker.
EMPEROR = """
import signal, subprocess, sys
signal.signal(signal.SIGQUIT, lambda *_: print("told", flush=True))
vassal = subprocess.Popen([sys.executable, "-c", sys.argv[1]])
print("ready", flush=True)
sys.exit(vassal.wait())
"""
VASSAL = """
import signal, subprocess
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup, in which the tests may run, has it ignored
subprocess.run(["sleep", "60"])
"""


def program(tmp_path):
    """The program, with the module it shares beside it."""
    (tmp_path / "emperor_host.py").write_bytes(HOST.read_bytes())
    text = (
        PROGRAM.read_text("utf-8").replace("/usr/local/lib/emperor", str(tmp_path)).replace("AGAIN = 2", "AGAIN = 0.5")
    )
    (tmp_path / "emperor_stop.py").write_text(text, "utf-8")
    return [sys.executable, "-IS", str(tmp_path / "emperor_stop.py")]


def test_worker_that_lost_the_signal_gets_it_again(tmp_path):
    command = [sys.executable, "-c", EMPEROR, VASSAL]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as emperor:
        assert emperor.stdout
        assert emperor.stdout.readline() == "ready\n"
        subprocess.run([*program(tmp_path), str(emperor.pid)], check=True, timeout=30)
        assert emperor.stdout.readline() == "told\n"
        assert emperor.wait() == 0


def test_emperor_that_ended_by_itself_is_no_error(tmp_path):
    done = subprocess.run(program(tmp_path), check=False, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
