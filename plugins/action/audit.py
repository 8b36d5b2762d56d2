"""Action plugin: print what is known against the packages of all hosts, write SBOMs, fail when something is wrong."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.flaskops.emperor.plugins.plugin_utils import audit

OPTIONS: dict[str, dict[str, Any]] = {
    "hosts": {"type": "dict", "required": True},
    "source": {"type": "str", "default": ""},
    "ignore": {"type": "list", "elements": "str", "default": []},
    "to": {"type": "str", "default": ""},
}


def plural(count: int, what: str) -> str:
    """A number of things."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def refusal(source: str) -> str:
    """Why a vulnerability source cannot be asked; empty when it can."""
    if not source or source in audit.SOURCES or re.fullmatch(r"https?://[^/\s]+/\S*", source):
        return ""
    addresses = "the address of a service like it, such as https://osv.example.com/v1/query"
    return f"source is {source!r}: choose {', '.join(audit.SOURCES)}, or {addresses}."


def write(groups: Sequence[audit.Group], directory: str) -> tuple[list[str], bool]:
    """Write the SBOM of each group. Returns a line for each, and whether a file changed."""
    several = Counter((one.app, one.release) for one in groups)
    lines, changed = [], False
    Path(directory).mkdir(parents=True, exist_ok=True)
    for one in groups:
        # Hosts that installed other versions for the same release have files of their own.
        host = f"-{one.hosts[0]}" if several[(one.app, one.release)] > 1 else ""
        file, text = Path(directory, f"{one.app}-{one.release}{host}.cdx.json"), audit.sbom(one)
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")
            changed = True
        lines.append(f"SBOM of {one.app}: {file}")
    return lines, changed


def report(groups: Sequence[audit.Group], known: Mapping[tuple[str, ...], Any]) -> tuple[list[str], int]:
    """The report for a person, and how many findings are in it."""
    lines, count = [], 0
    for one in groups:
        found = audit.findings(one, known.get(one.asked, {}))
        called = f"{one.release} ({one.label})" if one.label else one.release
        lines.append(f"{one.app} on {', '.join(one.hosts)}, release {called}: {plural(len(one.packages), 'package')}")
        lines += [f"  {number}. {text}" for number, text in enumerate(found, 1)]
        count += len(found)
    return lines, count


class ActionModule(ActionBase):
    """Ansible's entry point."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask, print, write, then fail or not."""
        super().run(tmp, task_vars)
        _result, options = self.validate_argument_spec(OPTIONS)
        if reason := refusal(options["source"]):
            return {"failed": True, "changed": False, "msg": reason}
        blind = sorted(host for host, told in options["hosts"].items() if not told)
        groups = audit.groups({host: told["apps"] for host, told in options["hosts"].items() if told})
        known, changed = {}, False
        try:
            if options["source"]:
                for asked in dict.fromkeys(one.asked for one in groups if one.asked):
                    known[asked] = audit.vulnerabilities(asked, options["source"], options["ignore"])
            lines, count = report(groups, known)
            if options["to"] and not self._task.check_mode:
                written, changed = write(groups, options["to"])
                lines += ["", *written]
        except (audit.Failed, OSError) as error:
            return {"failed": True, "changed": False, "msg": str(error)}
        if not options["source"]:
            lines += ["", "No vulnerability source was asked: add `-e source=osv`, `-e source=pypi` or an address."]
        elif not count:
            lines += ["", f"Nothing is known against them (asked: {options['source']})."]
        self._display.display("\n".join(lines))
        if not count and not blind:
            return {"changed": changed}
        told = f"{', '.join(blind)} could not be looked at." if blind else ""
        said = f"{plural(count, 'finding')}, see above. {told}".strip() if count else told
        return {"changed": changed, "failed": True, "msg": said}
