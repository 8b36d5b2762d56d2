"""The figures of docs/reload_modes.md: kept in docs/reload_modes.json, shown as a table in the page."""

import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path

from modes import MODES

DOCS = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"]) / "docs"
KEPT, PAGE = DOCS / "reload_modes.json", DOCS / "reload_modes.md"
BEGIN, END = "<!-- measured:begin -->", "<!-- measured:end -->"


def lost(window):
    """What a window lost, as the table says it."""
    told = f"{window['failed']} of {window['total']}"
    return told if not window["post"] else f"{told} ({window['post']} POST)"


def waited(window):
    return f"{window['worst']:.1f} s"


# Row by row: its title, the measurement it shows, and how.
ROWS = [
    ("deploys: failed requests", "deploys", lost),
    ("deploys: longest wait", "deploys", waited),
    ("deploys: old and new answer side by side", "deploys", lambda one: f"{one['mixed']:.1f} s"),
    ("deploys: most memory, of what one instance uses", "deploys", lambda one: f"{one['memory']:.1f} x"),
    ("a release that breaks only where it serves: failed", "late fault", lost),
    ("the same: longest wait", "late fault", waited),
]
FAULTS = [
    "kill -9 of one worker",
    "kill -9 of all workers",
    "kill -9 of the master",
    "kill -9 of the Emperor",
    "kill -9 of the socket holder",
    "restart of the Emperor",
    "reload of the Emperor",
    "reload of nginx",
]
for fault in FAULTS:
    ROWS += [(f"{fault}: failed, longest wait", fault, lambda one: f"{lost(one)}, {waited(one)}")]
for debian in ("12", "13"):
    ROWS += [
        (f"switches under pressure, Debian {debian}: failed, longest wait", f"soak {debian}",
         lambda one: f"{one['switches']} switches: {lost(one)}, {waited(one)}"),
    ]  # fmt: skip


def window(report, begin, end, targets):
    """What happened to requests that were under way from `begin` to `end`, over several targets."""
    seen = [report.window(begin, end, target) for target in targets]
    return {
        "total": sum(one.total for one in seen),
        "failed": sum(one.failed for one in seen),
        "post": sum(one.failed_other for one in seen),
        "worst": round(max(one.worst for one in seen), 2),
    }


def keep(measurement, mode, found):
    """Keep a figure, and show all there are."""
    print(measurement, mode, found)
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    kept.setdefault(measurement, {})[mode] = found
    kept["machine"] = {"processors": os.cpu_count(), "date": datetime.now(UTC).date().isoformat()}
    KEPT.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
    before, _old, after = re.split(f"({BEGIN}.*{END})", PAGE.read_text(), flags=re.DOTALL)
    PAGE.write_text(f"{before}{BEGIN}\n{table(kept)}\n{END}{after}")


def table(kept):
    lines = ["| | " + " | ".join(f"`{mode}`" for mode in MODES) + " |", "|---" * (len(MODES) + 1) + "|"]
    for title, measurement, show in ROWS:
        found = kept.get(measurement, {})
        if found:
            cells = [show(found[mode]) if mode in found else "" for mode in MODES]
            lines.append(f"| {title} | " + " | ".join(cells) + " |")
    machine = kept["machine"]
    lines += ["", f"Measured on {machine['date']}: Debian 12 and 13 in containers, which share {machine['processors']} "
              "processors with Ansible and the visitors."]  # fmt: skip
    return "\n".join(lines)
