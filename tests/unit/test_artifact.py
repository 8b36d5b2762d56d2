"""The artifact of the collection holds what it needs, and nothing else that lies in a checkout."""

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHIPPED = ["CHANGELOG.md", "LICENSE", "README.md", "changelogs", "docs", "inventory/example", "meta", "playbooks",
           "plugins", "roles", "sample_app"]  # fmt: skip
# What users have in a checkout and nobody else may get.
PLANTED = ["inventory/mine/hosts.yml", "inventory/mine/group_vars/all/vault.yml", "inventory/vault.yml", "id_ed25519",
           "roles/uwsgi/files/server.key", "secrets.yml", "playbooks/password.txt", ".vault_pass", "docs/notes.txt",
           "plugins/modules/__pycache__/x.pyc", ".env"]  # fmt: skip


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    """The names in the artifact of a checkout in which secrets lie about."""
    checkout = tmp_path_factory.mktemp("checkout") / "emperor"
    listed = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0")
    for name in filter(None, listed):
        if not (ROOT / name).is_symlink() and (ROOT / name).exists():
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, checkout / name)
    for name in PLANTED:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text("secret\n")
    target = tmp_path_factory.mktemp("target")
    command = ["ansible-galaxy", "collection", "build", "--output-path", str(target), str(checkout)]
    subprocess.run(command, check=True, capture_output=True, cwd=target, env={**os.environ, "ANSIBLE_NOCOLOR": "1"})
    (file,) = target.glob("*.tar.gz")
    with tarfile.open(file) as archive:
        return {member.name for member in archive if member.isfile()}


def test_every_file_of_the_collection_is_in_the_artifact(artifact):
    listed = subprocess.check_output(["git", "ls-files", "-z", "--", *SHIPPED], cwd=ROOT, text=True).split("\0")
    wanted = {name for name in listed if name and (ROOT / name).exists() and not name.startswith("sample_app/tests/")}
    assert wanted | {"MANIFEST.json", "FILES.json"} == artifact


@pytest.mark.parametrize("name", PLANTED)
def test_secrets_in_a_checkout_are_not_in_the_artifact(name, artifact):
    assert name not in artifact


@pytest.mark.parametrize("name", PLANTED[:3])
def test_git_ignores_inventories_of_users(name):
    assert subprocess.run(["git", "check-ignore", "--quiet", name], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("name", ["inventory/example/hosts.yml", "inventory/demo/hosts.yml"])
def test_git_keeps_our_own_inventories(name):
    assert subprocess.run(["git", "check-ignore", "--quiet", name], cwd=ROOT, check=False).returncode == 1
