"""The memory guard as a program: its limits, and how it starts and stops."""

import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import host as host_library
from guard_programs import FILES, MIB, memory_guard


@pytest.mark.parametrize(("text", "size"), [("10%", 200), ("0%", 0), ("300M", 300)])
def test_floor_is_a_percentage_or_a_size_in_mib(text, size):
    assert memory_guard.limit(text, 2000 * MIB) == size * MIB


@pytest.mark.parametrize("text", ["", "10", "10G", "-5%", "1.5%", "10 %", "10%\n"])
def test_invalid_floor_is_refused(text):
    with pytest.raises(ValueError, match="give a percentage like 10%"):
        memory_guard.limit(text, MIB)


def installed(tmp_path):
    """The program and what it shares with others, as the role installs them, below a directory of the test."""
    library = tmp_path / "lib"
    library.mkdir()
    (library / "emperor_host.py").write_text(Path(str(host_library.__file__)).read_text())
    (library / "guard_host.py").write_text((FILES / "guard_host.py").read_text())
    text = (FILES / "memory_guard.py").read_text()
    assert text.startswith("#!/usr/bin/python3 -IS\n")
    (tmp_path / "guard").write_text(text.replace("/usr/local/lib/emperor", str(library)))
    return str(tmp_path / "guard")


def start(tmp_path, floor):
    command = [sys.executable, "-IS", installed(tmp_path), f"--floor={floor}", "--interval=0.1", f"--run={tmp_path}"]
    command += [f"--vassals={tmp_path}", f"--lock={tmp_path}/lock"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_program_with_an_invalid_floor_ends_with_a_sentence(tmp_path):
    with start(tmp_path, "much") as process:
        assert process.communicate(timeout=20)[0] == (
            "the floor is 'much': give a percentage like 10%, or MiB like 300M\n"
        )
    assert process.returncode == 1


def test_program_runs_until_it_is_stopped(tmp_path):
    with start(tmp_path, "1M") as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        process.terminate()
        assert process.communicate(timeout=20)[0] == ""
