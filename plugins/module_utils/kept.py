"""Run modules of this collection on a host that keeps their files: `kept.py NAME ...`, with the arguments on stdin.

Started by plugins/plugin_utils/host_action.py. This file is part of what the host keeps; so are the libraries of
ansible-core that the modules import.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import shutil
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[5]
MODULES = "ansible_collections.flaskops.emperor.plugins.modules"
GONE = 96  # exit status: what is kept here is of no use
NEXT = "--- next module ---"  # a line between the answers of two modules


def loaded(names: Sequence[str]) -> tuple[Any, list[Any]]:
    """Ansible's library for modules, and the modules."""
    # Nothing that is loaded here becomes garbage: a fifth of the time of a short module went into looking for some,
    # here and when it ended.
    gc.disable()
    sys.path.insert(0, str(ROOT))
    basic = importlib.import_module("ansible.module_utils.basic")
    modules = [importlib.import_module(f"{MODULES}.{name}") for name in names]
    gc.freeze()
    gc.enable()
    return basic, modules


def run(basic: Any, module: Any, arguments: bytes) -> None:
    """Run a module, with its arguments where Ansible's own wrapper would put them. It leaves this process by itself."""
    basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = arguments, "legacy"
    try:
        module.main()
    except Exception as error:
        print(json.dumps({"failed": True, "msg": f"Module failed: {error}", "exception": traceback.format_exc()}))
        sys.exit(1)


def main() -> None:
    """Run the modules one after the other, each with its line of arguments, until one of them fails."""
    try:
        basic, modules = loaded(sys.argv[1:])
    except Exception:
        # Damaged, as by a disk that was full or failed: it is brought anew.
        shutil.rmtree(ROOT, ignore_errors=True)
        sys.exit(GONE)
    *before, last = zip(modules, sys.stdin.buffer.read().split(b"\n"))
    for one in before:
        child = os.fork()
        if not child:
            run(basic, *one)
            return
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status != 0:
            sys.exit(status if status > 0 else 128 - status)  # killed by a signal: as a shell tells it
        print(f"\n{NEXT}", flush=True)
    run(basic, *last)


if __name__ == "__main__":
    main()
