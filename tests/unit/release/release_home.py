"""What tests of releases read of an app's directory, and releases that need no build."""

import os
import stat

from ansible_collections.flaskops.emperor.plugins.module_utils.releases import observation
from ansible_collections.flaskops.emperor.plugins.module_utils.releases.registry import Releases


def observe(home, wanted, static=None, keep=5):
    return observation.observe(str(home), wanted, {"/static": "static"} if static is None else static, keep)


def known(home, name, **facts):
    """A complete release, without building it; `created` is its name's place in the alphabet unless given."""
    (home / "releases" / name / "src/static").mkdir(parents=True)
    (home / "releases" / name / "src/static" / f"{name}.css").write_text(name)
    Releases(str(home)).record(
        name, id=name, **{"created": float(ord(name[0])), "label": "", "python": "3.13.5", **facts}
    )


def state(path):
    """What a reader sees of a path; one more link to a file is no change of it."""
    found = os.lstat(path)
    return found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode


def mode(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


def calls(home, name):
    """How uv was called for the virtualenv of a release, and for those it was taken over from."""
    file = home / "releases" / name / "venv/calls"
    return file.read_text().splitlines() if file.exists() else []


PROJECT = "[project]\nname = 'shop'\n[build-system]\n"
POETRY = """
[[package]]
name = "flask"
version = "3.1"
groups = ["main"]
files = [{file = "flask.whl", hash = "sha256:11"}]
[extras]
"""
