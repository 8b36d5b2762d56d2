"""The memory guard and its module as they are installed on hosts, for its tests."""

import importlib.util
import os
import sys
from pathlib import Path

from ansible_collections.flaskops.emperor.plugins.module_utils import host as host_library

FILES = Path(__file__).parents[3] / "roles/uwsgi/files"


def load(name):
    """A program or module as it is installed on hosts."""
    specification = importlib.util.spec_from_file_location(name, FILES / f"{name}.py")
    assert specification
    assert specification.loader
    module = sys.modules[name] = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


sys.modules["emperor_host"] = host_library
guard_host = load("guard_host")
memory_guard = load("memory_guard")
MIB = memory_guard.MIB
TICKS = os.sysconf("SC_CLK_TCK")
UID = 1001  # of the app
NOW = 1000.0  # seconds since boot
