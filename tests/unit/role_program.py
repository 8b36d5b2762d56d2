"""Programs, mostly of a role, as modules for tests."""

import importlib.util
from pathlib import Path
from typing import Any


def load(file: Path) -> Any:
    """Run a file as a module, each time anew; no other import gets it."""
    specification = importlib.util.spec_from_file_location(file.stem, file)
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module
