"""Sources in git: a tag, branch or commit brings its content."""

import os
import subprocess

import pytest
from ansible_collections.flaskops.emperor.plugins.plugin_utils import sources
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused
from guarded import Watch, serving  # type: ignore[import-not-found]  # as in test_load_client.py
from packed import members, read


@pytest.fixture
def repository(shop, tmp_path, monkeypatch):
    """The source as a git repository: tags v1 (annotated) and light, then a commit more on the branch main."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")

    def git(*arguments):
        command = [
            "git",
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@example.com",
            "-c",
            "init.defaultBranch=main",
            *arguments,
        ]
        return subprocess.run(command, cwd=shop, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message=one")
    git("tag", "--annotate", "--message=x", "v1")
    git("tag", "light")
    (shop / "shop/__init__.py").write_text("app = 2\n")
    git("commit", "--quiet", "--all", "--message=two")
    return git


@pytest.mark.parametrize("version", ["v1", "light", "refs/tags/light", "the commit"])
def test_a_commit_or_a_tag_brings_that_commit_and_its_label(version, repository, shop, bundle):
    commit = repository("rev-parse", "HEAD~1")
    answer = bundle(git={"repo": str(shop), "version": commit if version == "the commit" else version})
    assert answer["label"] == commit
    assert read(answer["file"], "shop/__init__.py") == b"app = 1\n"
    assert not [name for name in members(answer["file"]) if ".git" in name]


def test_a_branch_brings_its_last_commit(repository, shop, bundle):
    first = bundle(git={"repo": str(shop), "version": "main"})
    assert first["label"] == repository("rev-parse", "HEAD")
    repository("commit", "--quiet", "--allow-empty", "--message=three")
    second = bundle(git={"repo": str(shop), "version": "main"})
    assert second["label"] == repository("rev-parse", "HEAD") != first["label"]
    assert second["digest"] == first["digest"]  # the same content: nothing to deploy


def test_checkout_and_its_repository_have_the_same_digest(repository, shop, bundle):
    assert bundle(git={"repo": str(shop), "version": "main"})["digest"] == bundle(path="shop")["digest"]


def test_a_tag_wins_over_a_branch_of_its_name(repository, shop):
    repository("branch", "both", "HEAD")
    repository("tag", "both", "HEAD~1")
    assert sources.resolve(str(shop), "both") == repository("rev-parse", "HEAD~1")


def test_missing_version_is_refused(repository, shop, bundle):
    with pytest.raises(Refused, match=r"has no tag or branch 'v9': correct source.git.version"):
        bundle(git={"repo": str(shop), "version": "v9"})
    with pytest.raises(Refused, match="could not be read: `git checkout` says"):
        bundle(git={"repo": str(shop), "version": "0" * 40})
    with pytest.raises(Refused, match="could not be read: `git ls-remote` says"):
        bundle(git={"repo": str(shop / "typo"), "version": "v1"})


def test_repository_that_lacks_a_file_is_refused(repository, shop, bundle):
    # git says so, and ends as if nothing had happened.
    lost = repository("rev-parse", "HEAD:shop/__init__.py")
    os.unlink(shop / ".git/objects" / lost[:2] / lost[2:])
    with pytest.raises(Refused, match=r"is damaged: git cannot read shop/__init__.py of [0-9a-f]{12}: see `git fsck`"):
        bundle(git={"repo": str(shop), "version": "main"})


def test_machine_without_git_is_refused_with_the_cure(repository, shop, bundle, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused, match="needs git on the machine that runs Ansible: install it there"):
        bundle(git={"repo": str(shop), "version": "v1"})


@pytest.fixture
def guarded(repository, shop, tmp_path):
    """The address of the repository on a server that wants a password, with one in it."""
    repository("clone", "--quiet", "--bare", str(shop), str(tmp_path / "web/shop.git"))
    repository("-C", str(tmp_path / "web/shop.git"), "update-server-info")
    with serving(tmp_path / "web", "robot", "s3c@ret", "none") as place:
        yield f"http://robot:{{}}@{place}/shop.git"


def test_password_in_the_address_works_and_is_in_no_argument(guarded, bundle, repository, monkeypatch):
    commands, real = [], subprocess.run

    def run(command, **options):
        commands.append(command)
        return real(command, **options)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "credential.helper")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "!echo password=of-the-user; false")
    with Watch(rb"s3c(@|%40)ret") as watch:
        answer = bundle(git={"repo": guarded.format("s3c%40ret"), "version": "v1"})
    assert answer["label"] == repository("rev-parse", "HEAD~1")
    assert len(commands) > 3
    assert "s3c" not in str(commands)
    assert watch.seen == set()


def test_message_of_git_shows_no_password_of_an_address_in_it(repository, bundle, program):
    program("git", 'echo "fatal: cannot reach https://robot:s3cret@git.test/shop.git?token=s3cret" >&2; exit 1')
    with pytest.raises(Refused, match=r"cannot reach https://\*+@git\.test/shop\.git\?\*+$"):
        bundle(git={"repo": str(repository), "version": "v1"})


def test_wrong_password_is_in_no_message(guarded, bundle):
    with pytest.raises(Refused, match=r"`git ls-remote` says: .*127\.0\.0\.1") as refusal:
        bundle(git={"repo": guarded.format("wr0ng"), "version": "v1"})
    assert "wr0ng" not in str(refusal.value)
