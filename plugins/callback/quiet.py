"""Callback: Ansible's own output, with less of what did not change; with `-e format=json` only the JSON of a report."""

from __future__ import annotations

import gc
import sys
from typing import Any

from ansible import context
from ansible.parsing.splitter import parse_kv
from ansible.playbook.task_include import TaskInclude
from ansible.plugins.callback.default import CallbackModule as Default
from ansible.plugins.loader import filter_loader, test_loader

VALIDATION = ("validate_argument_spec", "ansible.builtin.validate_argument_spec")
DOCUMENTATION = r"""
name: quiet
type: stdout
short_description: Ansible's own output, or only JSON
version_added: 1.0.0
description:
  - With C(-e format=json) nothing but the report of status.yml or doctor.yml goes to the standard output. Errors go to
    the standard error.
  - In all other runs it is the callback C(default), which also says nothing of included tasks when C(display_ok_hosts)
    is off, and does not list all settings of a role when one is wrong (it does with C(-v)).
extends_documentation_fragment:
  - default_callback
  - result_format_callback
author:
  - flaskops maintainers (@flaskops)
"""


def json_only() -> bool:
    """Whether this run was asked for JSON on its command line."""
    given = context.CLIARGS.get("extra_vars") or ()
    return any(parse_kv(one).get("format") == "json" for one in given if not one.startswith(("@", "{", "[")))


class Silence:
    """Takes the place of the display: what is an error goes to the standard error, the rest nowhere."""

    def __init__(self, display: Any) -> None:
        self._own = display

    def display(self, text: str, *_rest: Any, stderr: bool = False, color: str | None = None, **_more: Any) -> None:
        """Print errors only."""
        if stderr or text.startswith(("fatal:", "failed:")):
            print(text, file=sys.stderr)

    def _error(self, *rest: Any, **more: Any) -> None:
        """Print an error that a task ended with."""
        self._own._error(*rest, **{**more, "stderr": True})

    def banner(self, *_rest: Any, **_more: Any) -> None:
        """Print nothing."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)


class CallbackModule(Default):
    """Ansible's entry point."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "flaskops.emperor.quiet"

    def __init__(self) -> None:
        super().__init__()
        # Ansible forks a process for every task on every host: each that uses a template would load all of these anew.
        for loader in (filter_loader, test_loader):
            list(loader.all())
        # What is loaded by now is needed to the end: the garbage collector leaves it alone, here and in all processes
        # that are forked, which copy fewer pages. (Measured: 0.4 s of the 1.9 s of a run without changes.)
        gc.freeze()
        gc.set_threshold(100_000, 50, 100)
        if json_only():
            self._display: Any = Silence(self._display)

    def v2_runner_on_ok(self, result: Any) -> None:
        """Print a result; that tasks were included is one, too. Warnings are printed in any case."""
        if self.get_option("display_ok_hosts") or not isinstance(result.task, TaskInclude):
            super().v2_runner_on_ok(result)
        if not self.get_option("display_ok_hosts") and not result.result.get("changed"):
            self._handle_warnings_and_exception(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Print what failed; where it is a wrong setting of a role, the sentence and not all settings there are."""
        if result.task.action in VALIDATION and self._display.verbosity == 0:
            for name in ("argument_errors", "argument_spec_data", "validate_args_context"):
                result.result.pop(name, None)
        super().v2_runner_on_failed(result, ignore_errors)

    def v2_playbook_on_include(self, included_file: Any) -> None:
        """Print which tasks were included, unless results without a change are hidden."""
        if self.get_option("display_ok_hosts"):
            super().v2_playbook_on_include(included_file)
