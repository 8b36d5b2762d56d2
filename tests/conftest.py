"""For all tests: this checkout is the collection flaskops.emperor, and whatever is slow comes last."""

import os
import sys
from pathlib import Path

import pytest
from ansible.plugins.loader import init_plugin_loader
from hypothesis import settings
from lanes import Lanes  # type: ignore[import-not-found]  # pytest puts this directory in sys.path

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


@pytest.fixture(scope="session", autouse=True)
def lanes(request):
    """The scenarios among the chosen tests; they begin with the first test, and the unit tests run beside them."""
    tests = [item for item in request.session.items if "tests/scenarios" in item.nodeid]
    with Lanes([item.callspec.params["scenario"] for item in tests]) as started:
        yield started
