"""What the tests of sources share: a small app, and packing it."""

import pytest
from ansible_collections.flaskops.emperor.plugins.plugin_utils import sources


@pytest.fixture
def shop(tmp_path):
    """The source of a small app."""
    root = tmp_path / "shop"
    (root / "shop/static").mkdir(parents=True)
    (root / "shop/__init__.py").write_text("app = 1\n")
    (root / "shop/static/style.css").write_text("b {}\n")
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "style").symlink_to("shop/static")
    return root


@pytest.fixture
def bundle(tmp_path):
    """Pack a source; relative paths start in tmp_path."""

    def pack(**source):
        kind = next(iter(source))
        return sources.bundle({"kind": kind, **source}, str(tmp_path), str(tmp_path / "cache"))

    return pack
