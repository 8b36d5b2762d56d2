"""What is installed in a release: written down when it is built, and compared later."""

import base64
import hashlib
import os

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils.releases.distributions import headers, installed
from ansible_collections.flaskops.emperor.plugins.module_utils.releases.registry import Releases
from ansible_collections.flaskops.emperor.plugins.modules import app_packages
from release_home import known

NAME = "Some_Thing-1.5.dist-info"
FILES = {
    "thing.py": "x = 1\n",
    "sub/a,b.txt": "text",
    f"{NAME}/METADATA": "Name: Some_Thing\nVersion: 1.5\n\nLong text\n",
}


def encoded(data):
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


def record(files):
    """The lines of a wheel's RECORD."""
    return [f'"{name}",sha256={encoded(text.encode())},{len(text)}' for name, text in files.items()]


@pytest.fixture
def library(home):
    known(home, "aaa")
    library = home / "releases/aaa/venv/lib/python3.13/site-packages"
    for name, text in FILES.items():
        (library / name).parent.mkdir(parents=True, exist_ok=True)
        (library / name).write_text(text)
    own = ["thing.pyc,,", f"{NAME}/INSTALLER,sha256=x,2", f"{NAME}/RECORD,,", "../../../bin/thing,sha256=x,9"]
    (library / f"{NAME}/RECORD").write_text("\n".join(record(FILES) + own))
    (library / f"{NAME}/INSTALLER").write_text("uv")
    (library / "thing.pyc").write_text("compiled")
    return library


@pytest.fixture
def venv(library):
    return str(library.parents[2])


def test_digest_is_that_of_the_lines_in_the_wheel(venv):
    lines = "".join(sorted(f"{name},sha256={encoded(text.encode())}\n" for name, text in FILES.items()))
    wanted = hashlib.sha256(lines.encode()).hexdigest()
    assert installed(venv) == [{"name": "Some_Thing", "version": "1.5", "sha256": wanted}]


@pytest.mark.parametrize("change", ["thing.py", "sub/a,b.txt", f"{NAME}/METADATA"])
def test_changed_file_changes_the_digest(change, library, venv):
    before = installed(venv)
    with open(library / change, "a") as file:
        file.write("#")
    assert installed(venv) != before


def test_record_leads_nowhere_else(library, venv, tmp_path):
    before = installed(venv)
    (tmp_path / "secret").write_text("of root")
    os.mkfifo(library / "pipe")
    (library / "out").symlink_to(tmp_path / "secret")
    (library / "away").symlink_to(tmp_path)
    with open(library / f"{NAME}/RECORD", "a") as file:
        file.write(f"\npipe,,\nout,,\naway/secret,,\n{tmp_path}/secret,,\n../../../../../../../secret,,\nnone,,\n,,\n")
    assert installed(venv) == before


def test_what_is_used_from_a_directory_is_local_and_one_without_a_record_has_no_digest(library, venv):
    (library / f"{NAME}/direct_url.json").write_text('{"url": "file:///srv/x", "dir_info": {"editable": true}}')
    (library / "old-1.egg-info").mkdir()
    (library / "old-1.egg-info/PKG-INFO").write_text("Name: old\nVersion: 1\n")
    (library / "broken-1.dist-info").mkdir()
    assert installed(venv) == [
        {"name": "old", "version": "1"},
        {"name": "Some_Thing", "version": "1.5", "local": True},
    ]


def test_metadata_is_without_description_and_passwords(library, venv):
    (library / f"{NAME}/direct_url.json").write_text(
        '{"url": "https://me:s3cret@index.test/x.whl", "archive_info": {}}'
    )
    found = installed(venv, metadata=True)[0]
    assert found["metadata"] == "Name: Some_Thing\nVersion: 1.5\n"
    assert found["source"] == '{"url": "https://index.test/x.whl", "archive_info": {}}'
    assert headers("Name: a\r\nHome-page: https://u:p@a.test/\r\n\r\nlong") == "Name: a\nHome-page: https://a.test/\n"


def test_release_lists_its_packages_and_one_that_takes_its_virtualenv_over_does_too(built, home, uv):
    script = (
        f'd="$VIRTUAL_ENV/lib/python3.13/site-packages/{NAME}"; mkdir "$d"; echo "{NAME}/METADATA,," > "$d/RECORD"; '
    )
    with open(uv + ".does", "w") as file:
        file.write(script + "printf 'Name: Some_Thing\\nVersion: 1.5\\n' > \"$d/METADATA\"")
    answer = built("aaa", packages=["a==1"])
    assert "distributions" not in answer["releases"][0], "every run would carry them about"
    os.unlink(uv + ".does")
    built("bbb", packages=["a==1"])
    first, second = ((Releases(str(home)).describe(name) or {})["distributions"] for name in ("aaa", "bbb"))
    assert first == second == installed(str(home / "releases/aaa/venv"))
    assert len(first) == 1


def test_app_packages_tells_what_changed_since_the_build(run_module, home, library, venv):
    os.symlink("releases/aaa", home / "current")
    asked = {"apps": [home.name, "none"], "root": str(home.parent)}
    without = {"release": "aaa", "label": "", "packages": installed(venv)}
    assert run_module(app_packages, **asked)["apps"] == {home.name: without}
    Releases(str(home)).record("aaa", distributions=installed(venv))
    assert run_module(app_packages, **asked)["apps"] == {home.name: without}
    (library / "thing.py").write_text("x = 2\n")
    assert run_module(app_packages, **asked)["apps"][home.name]["packages"][0]["changed"]
    assert not run_module(app_packages, **asked)["changed"]
