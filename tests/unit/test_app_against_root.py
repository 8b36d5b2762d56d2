"""What an app can do to root while root works for it: nothing, at any moment of the work."""

import os
import pwd
import subprocess
import sys
import tarfile
import time

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import processes
from ansible_collections.flaskops.emperor.plugins.module_utils.releases import build

USER = pwd.struct_passwd(("shop", "x", 61234, 61234, "", "/", "/bin/false"))
NAMES = ("alone", "deep/within", "pack/module.py", "pack/sub/module.py")


class Attacker:
    """Changes what it may between any two steps of root: it puts links to `outside` in the place of directories.

    :ivar owned: directories of its own. It may change their entries; another one's it may not.
    """

    def __init__(self, outside):
        self.outside, self.owned, self.touched = outside, set(), []

    def lchown(self, path, uid, _gid):
        self.touched.append(os.path.realpath(os.path.dirname(os.path.abspath(path))))
        if os.path.isdir(path) and not os.path.islink(path):
            (self.owned.add if uid else self.owned.discard)(os.path.abspath(path))
        self.strike()

    def strike(self):
        for folder in self.owned:
            if os.path.realpath(folder) != folder or not os.path.isdir(folder):
                continue  # it has put a link on the way itself
            for name in os.listdir(folder):
                path = os.path.join(folder, name)
                if os.path.isdir(path) and not os.path.islink(path):
                    os.rename(path, f"{path}.away")
                    os.symlink(self.outside, path)


@pytest.fixture
def attacker(tmp_path, monkeypatch):
    outside = tmp_path / "etc"
    outside.mkdir()
    for name in ("shadow", "module.py", "within", "sub"):
        (outside / name).write_text("root's alone")
        (outside / name).chmod(0o600)
    found = Attacker(str(outside))
    monkeypatch.setattr(os, "lchown", found.lchown)
    real = os.scandir

    def scandir(path):
        found.strike()
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    return found


def unharmed(attacker):
    assert not [one for one in attacker.touched if one.startswith(attacker.outside)]
    assert {os.stat(f"{attacker.outside}/{name}").st_mode & 0o777 for name in os.listdir(attacker.outside)} == {0o600}


def test_changing_the_owner_of_a_source_follows_no_link(tmp_path, attacker):
    for name in NAMES:
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / name).touch()
    with tarfile.open(tmp_path / "bundle.tar", "w") as archive:
        archive.add(tmp_path / "source", arcname=".")
    release = str(tmp_path / "release")
    build.lay_out(release, str(tmp_path / "bundle.tar"), USER)
    unharmed(attacker)
    assert f"{release}/src" in attacker.owned
    assert release not in attacker.owned


def test_giving_a_release_to_root_follows_no_link(tmp_path, attacker):
    release = tmp_path / "release"
    for name in NAMES:
        (release / name).parent.mkdir(parents=True, exist_ok=True)
        (release / name).touch()
    attacker.owned = {folder for folder, _folders, _files in os.walk(release)}
    build.own_by_root(str(release), 0)
    unharmed(attacker)
    assert str(release) not in attacker.owned


# Not as fast as it could: others use the processors, too.
FORKS = """
import os, time
while True:
    try:
        os.fork()
    except OSError:
        pass
    time.sleep(0.05)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become another user")
def test_endlessly_forking_processes_are_killed_in_one_step():
    limited = ["prlimit", "--nproc=40", sys.executable, "-c", FORKS]
    with subprocess.Popen(limited, user=USER.pw_uid, group=USER.pw_gid, extra_groups=[], cwd="/"):
        try:
            while len(processes.of_user(USER.pw_uid)) < 30:
                time.sleep(0.01)
        finally:
            processes.kill_user(USER.pw_uid)
    assert [one for one in processes.of_user(USER.pw_uid) if processes.alive(one)] == []


def test_killing_all_processes_of_root_is_refused():
    with pytest.raises(ValueError, match="the host"):
        processes.kill_user(0)
