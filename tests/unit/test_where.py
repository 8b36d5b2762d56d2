"""docs/where.md: every file that it names is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_file_named_in_where_md_exists():
    named = re.findall(
        r"`((?:roles|plugins|playbooks|\.config|tests|molecule)/[\w./*@-]+)`", (ROOT / "docs/where.md").read_text()
    )
    assert len(named) > 12
    assert [name for name in named if not list(ROOT.glob(name.rstrip("/")))] == []
