"""What an app requires: which file says it, and locks that uv cannot read as requirements."""

import json

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils.releases import install, kinds, locks
from ansible_collections.flaskops.emperor.plugins.plugin_utils import dependencies
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.apps import complete_apps
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused

PYPROJECT = "[project]\nname = 'shop'\n"


@pytest.fixture
def found(tmp_path):
    def look(*names, left_out=(), **texts):
        for name in names:
            (tmp_path / name).write_text(texts.get("text", PYPROJECT if name == "pyproject.toml" else ""))
        return dependencies.found(str(tmp_path), lambda name: name in left_out)

    return look


def test_first_known_kind_of_file_is_chosen(found):
    for name in reversed(kinds.ORDER):
        assert found(name) == name
    assert found(left_out=["uv.lock"]) == "poetry.lock"


def test_pyproject_with_only_tool_settings_is_no_project(found):
    assert found("pyproject.toml", text="[tool.ruff]\nline-length = 99\n") == ""
    assert found("pyproject.toml", text="[tool.poetry]\nname = 'a'\n") == "pyproject.toml"
    with pytest.raises(Refused, match=r"has a pyproject\.toml that cannot be read \(.*\): correct it"):
        found("pyproject.toml", text="[project")


def settled(auto, **python):
    source = {"package": "shop==1"} if python.pop("package", False) else {"path": "."}
    app = complete_apps([{"name": "shop", "app": "shop:app", "source": source, "python": python}])[0]
    return dependencies.requirements(app, auto)


@pytest.mark.parametrize(
    ("name", "text", "needs"),
    [
        ("requirements.txt", "flask\nshop @ git+https://git.test/shop.git@v1\n", True),
        ("requirements.txt", "gitpython\ngit-remote==1\n", False),
        ("pyproject.toml", 'dependencies = ["shop @ git+ssh://git@git.test/shop"]', True),
        ("pyproject.toml", '[project.urls]\nGit = "https://git.test/shop"', False),
        ("uv.lock", 'source = { git = "https://git.test/shop?rev=v1#abc" }', True),
        ("poetry.lock", '[package.source]\ntype = "git"\nurl = "https://git.test/shop"', True),
        ("Pipfile.lock", '"shop": {"git": "https://git.test/shop.git", "ref": "abc"}', True),
        ("pylock.toml", 'vcs = {type = "git", url = "https://git.test/shop"}', True),
    ],
)
def test_repository_among_the_requirements_needs_git(name, text, needs, tmp_path):
    (tmp_path / name).write_text(text)
    assert dependencies.wants_git(str(tmp_path), name) is needs
    assert not dependencies.wants_git(str(tmp_path), "")


def test_git_is_asked_for_only_by_the_file_that_is_used():
    python: dict[str, object] = {"requirements": "auto", "extras": [], "groups": [], "require_hashes": None}
    app = {"name": "shop", "source": {"kind": "git"}, "python": python}
    source = {"requirements": "requirements.txt", "git": "git"}
    assert dependencies.git(app, source) == "git"
    for other in ("none", "deploy/web.txt"):
        assert dependencies.git({**app, "python": {**python, "requirements": other}}, source) == ""


def test_requirements_file_of_the_source_is_used_unless_another_is_set():
    assert settled("uv.lock") == "uv.lock"
    assert settled("uv.lock", requirements="auto") == "uv.lock"
    assert settled("uv.lock", requirements="none") == ""
    assert settled("uv.lock", requirements="deploy/web.txt") == "deploy/web.txt"
    assert settled("", package=True) == ""


def test_extras_and_groups_without_a_project_are_refused():
    assert settled("uv.lock", extras=["pdf"], groups=["web"]) == "uv.lock"
    with pytest.raises(Refused, match=r"shop\]\.python\.extras needs uv\.lock, .* but requirements\.txt is installed"):
        settled("requirements.txt", extras=["pdf"])
    with pytest.raises(Refused, match=r"python\.groups needs .* but nothing is installed: remove it"):
        settled("", groups=["web"])
    with pytest.raises(Refused, match=r"require_hashes needs a file with hashes, but pyproject\.toml is installed"):
        settled("pyproject.toml", require_hashes=True)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a/uv.lock", "uv.lock"), ("pylock.web.toml", "pylock.toml"), ("web.txt", "requirements.txt"),
     ("requirements.in", "requirements.txt")],
)  # fmt: skip
def test_the_name_of_a_file_tells_its_kind(name, kind):
    assert kinds.kind_of(name) == kind


POETRY = """
[[package]]
name = "flask"
version = "3.1"
groups = ["main"]
files = [{file = "b", hash = "sha256:22"}, {file = "a", hash = "sha256:11"}]
[[package]]
name = "colorama"
version = "0.4"
groups = ["main", "dev"]
markers = {main = "platform_system == \\"Windows\\"", dev = "sys_platform == \\"win32\\""}
[[package]]
name = "pytest"
version = "8"
groups = ["dev"]
[[package]]
name = "reportlab"
version = "4"
optional = true
groups = ["main"]
markers = "extra == \\"pdf\\" and python_version >= \\"3.9\\""
[[package]]
name = "mine"
version = "1"
groups = ["web"]
[package.source]
type = "git"
url = "https://git.test/mine.git"
resolved_reference = "abc"
subdirectory = "py"
"""


def test_a_lock_of_poetry_is_its_main_group_and_what_was_asked_for():
    assert locks.as_requirements("poetry.lock", POETRY, [], []).splitlines() == [
        "flask==3.1 --hash=sha256:11 --hash=sha256:22",
        'colorama==0.4 ; (platform_system == "Windows")',
        'reportlab==4 ; python_version < "0" and python_version >= "3.9"',
    ]
    more = locks.as_requirements("poetry.lock", POETRY, ["pdf"], ["dev", "web"]).splitlines()
    assert more[1] == 'colorama==0.4 ; (sys_platform == "win32") or (platform_system == "Windows")'
    assert more[2:] == [
        "pytest==8",
        'reportlab==4 ; python_version >= "0" and python_version >= "3.9"',
        "mine @ git+https://git.test/mine.git@abc#subdirectory=py",
    ]


PIPFILE = {
    "default": {
        "flask": {
            "version": "==3.1",
            "hashes": ["sha256:11"],
            "extras": ["async"],
            "markers": "python_version >= '3.9'",
        },
        "mine": {"git": "https://git.test/mine.git", "ref": "abc"},
        "shop": {"path": ".", "editable": True},
    },
    "develop": {"pytest": {"version": "==8"}},
}


def test_a_lock_of_pipenv_is_its_default_and_what_was_asked_for():
    text = json.dumps(PIPFILE)
    assert locks.as_requirements("Pipfile.lock", text, [], []).splitlines() == [
        "flask[async]==3.1 ; python_version >= '3.9' --hash=sha256:11",
        "mine @ git+https://git.test/mine.git@abc",
        "-e .",
    ]
    assert locks.as_requirements("Pipfile.lock", text, [], ["develop"]).splitlines()[-1] == "pytest==8"


@pytest.mark.parametrize(
    ("kind", "text", "sentence"),
    [
        ("poetry.lock", "[[package]]\nname = 'a'\nversion = '1'\n", "lock it again with Poetry 2"),
        ("poetry.lock", "[[package]\n", "poetry.lock cannot be read"),
        ("Pipfile.lock", "{", "Pipfile.lock cannot be read"),
        ("Pipfile.lock", "{}", "Pipfile.lock has no packages for default"),
    ],
)
def test_a_lock_that_cannot_be_used_is_refused(kind, text, sentence):
    with pytest.raises(locks.Unusable, match=sentence):
        locks.as_requirements(kind, text, [], [])


def test_pip_settings_of_the_host_are_used(tmp_path):
    file = tmp_path / "pip.conf"
    file.write_text(
        "[global]\nindex-url = https://a.test/simple\nfind-links =\n  /a\n  /b\n[install]\ntrusted-host = a.test\n"
    )
    assert install.pip_settings([str(file)]) == {
        "UV_DEFAULT_INDEX": "https://a.test/simple",
        "UV_FIND_LINKS": "/a,/b",
        "UV_INSECURE_HOST": "a.test",
    }
    file.write_text("broken")
    assert install.pip_settings([str(file)]) == {}
    assert install.pip_settings([str(tmp_path / "none")]) == {}


def test_indexes_are_passed_as_variables_and_other_options_as_arguments():
    arguments = [
        "-i",
        "https://a",
        "--pre",
        "--extra-index-url=https://b",
        "--extra-index-url",
        "https://c",
        "--prefer-binary",
    ]
    assert install.split_arguments(arguments) == (
        ["--pre"],
        {"UV_DEFAULT_INDEX": "https://a", "UV_INDEX": "https://b https://c"},
    )
    assert install.split_arguments(["--index-url"]) == (["--index-url"], {})
