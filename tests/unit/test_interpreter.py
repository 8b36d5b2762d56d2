"""The Python of a release: an upgrade of the host that takes it away is noticed."""

import os

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils.releases.registry import Releases, python_runs


@pytest.fixture
def venv(tmp_path):
    """A virtualenv whose Python is python3.11, by way of a link without a version."""
    venv = tmp_path / "shop/releases/aaa/venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "lib/python3.11").mkdir(parents=True)
    for version in ("python3.11", "python3.13", "pypy3"):
        (tmp_path / version).touch(mode=0o755)
    (tmp_path / "python3").symlink_to("python3.11")
    (venv / "bin/python").symlink_to(tmp_path / "python3")
    return venv


def leads_to(tmp_path, version):
    (tmp_path / "python3").unlink()
    (tmp_path / "python3").symlink_to(version)


@pytest.mark.parametrize(
    ("version", "runs"), [("python3.11", True), ("python3.13", False), ("python3.12", False), ("pypy3", True)]
)
def test_python_must_be_there_and_find_its_packages(version, runs, venv, tmp_path):
    leads_to(tmp_path, version)
    assert python_runs(str(venv)) is runs


def test_release_without_its_python_is_none_to_return_to(venv, tmp_path):
    releases = Releases(str(tmp_path / "shop"))
    releases.record("aaa", id="aaa", created=1, activated=2)
    assert releases.previous() == "aaa"
    leads_to(tmp_path, "python3.13")
    assert releases.previous() == ""
    assert releases.broken() == ["aaa"]
    os.unlink(venv / "bin/python")  # one that is not made yet
    assert releases.broken() == []
