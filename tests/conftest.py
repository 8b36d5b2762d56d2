"""For all tests: this checkout is the collection flaskops.emperor, and whatever is slow comes last."""

import os
import sys
from pathlib import Path

from ansible.plugins.loader import init_plugin_loader
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]

# As the Makefile sets them, for a pytest started by hand
os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
os.environ.setdefault("ANSIBLE_HOME", str(ROOT / ".ansible"))
os.environ.setdefault("MOLECULE_GLOB", "molecule/*/molecule.yml")

# From here on `import ansible_collections.flaskops.emperor.plugins...` finds plugins/.
init_plugin_loader([str(ROOT / ".config/collections")])

# No file of examples beside the sources, and no verdict by the clock on a busy machine.
settings.register_profile("here", database=None, deadline=None)
settings.load_profile("here")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: "tests/scenarios" in item.nodeid)
