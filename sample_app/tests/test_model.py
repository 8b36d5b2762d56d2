"""The model: as large as asked for, in real memory, and the same in every process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from flask.testing import FlaskClient

ASK = """
from shop import create_app
print(create_app().test_client().get("/model").text)
"""


def ask(megabytes: str) -> subprocess.CompletedProcess[str]:
    """Start the app with a model in a process of its own."""
    source = Path(__file__).resolve().parents[1]
    environment = {**os.environ, "SHOP_MODEL_MB": megabytes}
    return subprocess.run(
        [sys.executable, "-c", ASK], cwd=source, env=environment, check=False, capture_output=True, text=True
    )


def test_no_model_is_loaded_without_a_size(client: FlaskClient) -> None:
    answer = client.get("/model").json
    assert (answer["mb"], answer["checksum"]) == (0, "00000000")


def test_a_model_is_resident_memory() -> None:
    small, large = (json.loads(ask(megabytes).stdout) for megabytes in ("1", "40"))
    assert (small["mb"], large["mb"]) == (1, 40)
    assert large["rss_kb"] - small["rss_kb"] > 35 * 1024


def test_the_checksum_covers_all_of_it() -> None:
    parts = b"".join(bytes([number]) * 1024 * 1024 for number in (1, 2, 3))
    assert json.loads(ask("3").stdout)["checksum"] == f"{zlib.crc32(parts):08x}"


@pytest.mark.parametrize("megabytes", ["", "-1", "1.5", "x", "4097", "٣"])
def test_a_bad_size_is_refused_by_name(megabytes: str) -> None:
    refused = ask(megabytes)
    assert refused.returncode != 0
    assert f"SHOP_MODEL_MB is {megabytes!r}, but must be a whole number of megabytes from 0 to 4096." in refused.stderr
