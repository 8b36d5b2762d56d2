"""The figures of docs/reload_modes.md: kept in docs/reload_modes.json, shown as a table in the page."""

import itertools
import json
import math
import os
import re
from datetime import UTC, datetime
from pathlib import Path

from load_report import KINDS, NO_RELEASE, SHORT
from modes import MODES

DOCS = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"]) / "docs"
KEPT, PAGE = DOCS / "reload_modes.json", DOCS / "reload_modes.md"
APART = 10  # seconds; two switches of an app are longer apart
BEGIN, END = "<!-- measured:begin -->", "<!-- measured:end -->"


def lost(window):
    """What a window lost, as the table says it."""
    told = f"{window['failed']} of {window['total']}"
    return told if not window["post"] else f"{told} ({window['post']} POST)"


def waited(window):
    return f"{window['worst']:.1f} s"


# Row by row: its title, the measurement it shows, and how.
ROWS = []
for title, measurement in {"Switches": "switches", "Switches without a processor to spare": "soak"}.items():
    ROWS += [
        (f"**{title}**", measurement, lambda one: f"**{one['switches']}**"),
        ("failed requests", measurement, lost),
        ("longest wait", measurement, waited),
        ("old and new release answer side by side, at most", measurement, lambda one: f"{one['mixed']:.1f} s"),
        ("most memory, compared to one instance", measurement, lambda one: f"{one['memory']:.1f} x"),
    ]
ROWS += [
    ("**A release that breaks only where it serves**", "late fault", lambda _one: ""),
    ("failed requests", "late fault", lost),
    ("longest wait", "late fault", waited),
    ("**Faults:** failed requests, longest wait", "late fault", lambda _one: ""),
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
    ROWS += [(fault, fault, lambda one: f"{lost(one)}, {waited(one)}")]


def targets_of(report, mode):
    return [target for target in report.targets if target.endswith(f" {mode}")]


def side_by_side(report, target):
    """Seconds for which, around one switch, clients met now the old release and now the new one, at most.

    Clients with short requests: nginx hands an upload on when it has all of it, seconds after it began.
    """
    columns = zip(report.begun, report.target, report.kind, report.release, strict=True)
    answers = sorted(
        (begun, release)
        for begun, to, kind, release in columns
        if release != NO_RELEASE and report.targets[to] == target and KINDS[kind] in SHORT
    )
    changes = [after[0] for before, after in itertools.pairwise(answers) if before[1] != after[1]]
    longest, first = 0.0, -math.inf
    for number, moment in enumerate(changes):
        if moment - changes[number - 1] > APART or number == 0:
            first = moment
        longest = max(longest, moment - first)
    return longest


def window(report, targets):
    """What happened to all requests to several targets."""
    seen = [report.window(target=target) for target in targets]
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
    kept.setdefault("dates", {})[measurement] = datetime.now(UTC).date().isoformat()
    kept["processors"] = os.cpu_count()
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
    first, last = min(kept["dates"].values()), max(kept["dates"].values())
    when = f"on {first}" if first == last else f"from {first} to {last}"
    lines += ["", f"Measured {when}: Debian 12 and 13 in containers, which share {kept['processors']} processors with "
              "Ansible and the clients."]  # fmt: skip
    return "\n".join(lines)
