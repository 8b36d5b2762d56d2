"""Run a module of this collection on a host that keeps its files: `kept.py NAME`, with the arguments on stdin.

Started by plugins/plugin_utils/host_action.py. This file is part of what the host keeps; so are the libraries of
ansible-core that the modules import.
"""

from __future__ import annotations

import importlib
import json
import shutil
import sys
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[5]
MODULES = "ansible_collections.flaskops.emperor.plugins.modules"
GONE = 96  # exit status: what is kept here is of no use


def loaded(name: str) -> Any:
    """The module, with its arguments where Ansible's own wrapper would put them."""
    sys.path.insert(0, str(ROOT))
    basic: Any = importlib.import_module("ansible.module_utils.basic")
    basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = sys.stdin.buffer.read(), "legacy"
    return importlib.import_module(f"{MODULES}.{name}")


def main() -> None:
    """Run the module, and tell how it ended."""
    try:
        module = loaded(sys.argv[1])
    except Exception:
        # Damaged, as by a disk that was full or failed: it is brought anew.
        shutil.rmtree(ROOT, ignore_errors=True)
        sys.exit(GONE)
    try:
        module.main()
    except Exception as error:
        # A module that ends well leaves by SystemExit.
        print(json.dumps({"failed": True, "msg": f"Module failed: {error}", "exception": traceback.format_exc()}))
        sys.exit(1)


if __name__ == "__main__":
    main()
