"""What brings the requirements of an app into its virtualenv: the commands of uv for each kind of file."""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import tomllib
from ansible_collections.flaskops.emperor.plugins.module_utils.releases import kinds, locks

PIP_SETTINGS = ("/etc/pip.conf", "/etc/xdg/pip/pip.conf")
# Options of pip that name an index, and may hold a password: as variables, which no other user can read.
INDEXES = {"--index-url": "UV_DEFAULT_INDEX", "-i": "UV_DEFAULT_INDEX", "--extra-index-url": "UV_INDEX"}
# Of pip's own settings on the host what uv knows under another name.
SETTINGS = {"index-url": "UV_DEFAULT_INDEX", "extra-index-url": "UV_INDEX", "find-links": "UV_FIND_LINKS",
            "trusted-host": "UV_INSECURE_HOST", "cert": "SSL_CERT_FILE"}  # fmt: skip


def pip_settings(files: Sequence[str] = PIP_SETTINGS) -> dict[str, str]:
    """What the host's own settings of pip mean for uv, which does not read them."""
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read(files)
    except configparser.Error:
        return {}
    found = {}
    for section in ("global", "install"):
        for name, variable in SETTINGS.items():
            if parser.has_option(section, name):
                found[variable] = " ".join(parser.get(section, name).split())
    if "UV_FIND_LINKS" in found:
        found["UV_FIND_LINKS"] = found["UV_FIND_LINKS"].replace(" ", ",")
    return found


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The arguments for every installation without those that name an index, and these as variables."""
    words, rest = list(arguments), []
    found: dict[str, str] = {}
    while words:
        word = words.pop(0)
        option, equals, value = word.partition("=")
        if option in INDEXES and (equals or words):
            variable = INDEXES[option]
            value = value if equals else words.pop(0)
            found[variable] = f"{found[variable]} {value}" if variable == "UV_INDEX" and variable in found else value
        elif word != "--prefer-binary":  # pip's; uv knows no such thing
            rest.append(word)
    return rest, found


def project_of(directory: str) -> dict[str, Any]:
    """The pyproject.toml of a directory; empty without one that can be read."""
    try:
        with open(os.path.join(directory, "pyproject.toml"), "rb") as file:
            return tomllib.load(file)
    except (OSError, ValueError):
        return {}


def options(params: Mapping[str, Any], kind: str) -> list[str]:
    """The extras and groups of a project as options."""
    found = [f"--extra={one}" for one in params["extras"] if kind in kinds.WITH_EXTRAS]
    return found + [f"--group={one}" for one in params["groups"] if kind in kinds.WITH_GROUPS]


def required(wanted: bool | None, text: str, which: Callable[[Iterable[bool]], bool]) -> list[str]:
    """The option that refuses whatever has no hash in a requirements file. A hash that is there is always compared.

    :param wanted: what the settings say; None when nothing.
    :param which: how many of the file's requirements must have a hash, when the settings say nothing.
    """
    joined = re.sub(r"(^|\s)#.*", "", text.replace("\\\n", " "), flags=re.MULTILINE)
    lines = [line for line in joined.splitlines() if line.strip() and (" --hash" in line or not line.startswith("-"))]
    found = bool(lines) and which(" --hash" in line for line in lines)
    return ["--require-hashes"] if (found if wanted is None else wanted) else []


def itself(params: Mapping[str, Any]) -> list[str]:
    """The project itself as a requirement, used from where it is: the source of the release."""
    extras = f"[{','.join(params['extras'])}]" if params["extras"] else ""
    return ["--editable", f".{extras}"]


def steps(params: Mapping[str, Any], source: str, scratch: str) -> Iterator[list[str]]:
    """The commands that install what the requirements of a release name.

    :param params: of the module `release`.
    :param source: directory of the release's source.
    :param scratch: a directory for what is needed meanwhile.
    :raises locks.Unusable: for a lock file from which nothing can be installed.
    """
    kind = kinds.kind_of(params["requirements"])
    directory, name = os.path.split(os.path.join(source, params["requirements"]))
    uv = params["installer"]
    common, _indexes = split_arguments(params["pip_arguments"])
    pip = [uv, "pip", "install", *common]
    project = project_of(directory)
    if kind == "uv.lock":
        yield [uv, "sync", "--frozen", "--no-default-groups", *options(params, kind)]
    elif kind == kinds.REQUIREMENTS:
        with open(os.path.join(directory, name), encoding="utf-8", errors="replace") as file:
            hashes = required(params["require_hashes"], file.read(), any)
        yield [*pip, *hashes, "--requirements", name]
    elif kind == "pylock.toml":
        yield [*pip, *options(params, kind), "--requirements", name]
    elif kind in ("poetry.lock", "Pipfile.lock"):
        with open(os.path.join(directory, name), encoding="utf-8") as file:
            text = locks.as_requirements(kind, file.read(), params["extras"], params["groups"])
        file_name = os.path.join(scratch, f"{kind}.txt")
        with open(file_name, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(file_name, 0o644)
        # What comes from a repository or a directory has none.
        hashes = required(params["require_hashes"], text, all)
        yield [*pip, "--no-deps", *hashes, "--requirements", file_name]
        if kind == "poetry.lock" and kinds.installable(project):
            yield [*pip, "--no-deps", "--editable", "."]
    elif kinds.installable(project) or os.path.exists(os.path.join(directory, "setup.py")):
        groups = [f"--group={one}" for one in params["groups"]]
        yield [*pip, *groups, *itself(params)]
    else:
        yield [*pip, *options(params, kind), "--requirements", "pyproject.toml"]


def install(run: Callable[..., str], params: Mapping[str, Any], path: str) -> None:
    """Make the virtualenv of a release and install what it requires.

    :param run: runs a step, see `build`.
    :param path: of the release.
    """
    venv, source = os.path.join(path, "venv"), os.path.join(path, "src")
    uv, interpreter = params["installer"], params["interpreter"]
    make = [uv, "venv", "--quiet", "--allow-existing", "--python", interpreter, venv]
    run(f"making a virtualenv with {interpreter}", *make)
    if params["requirements"]:
        directory = os.path.dirname(os.path.join(source, params["requirements"]))
        for command in steps(params, source, os.path.join(path, "scratch")):
            run(f"installing {params['requirements']}", *command, directory=directory)
    if params["packages"]:
        common, _indexes = split_arguments(params["pip_arguments"])
        run(f"installing {', '.join(params['packages'])}", uv, "pip", "install", *common, *params["packages"])
