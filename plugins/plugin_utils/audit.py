"""Packages of releases: an SBOM of them (cyclonedx-py), and what a vulnerability source says of them (pip-audit)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name, canonicalize_version

SOURCES = ("osv", "pypi")
PACKAGES = {"pip-audit": "pip-audit", "cyclonedx-py": "cyclonedx-bom"}  # which bring the programs


class Failed(Exception):
    """A program is missing or failed; the text is a sentence."""


@dataclass
class Group:
    """The same packages of a release on some hosts."""

    app: str
    release: str
    label: str
    packages: Sequence[Mapping[str, Any]]
    hosts: list[str]

    @property
    def asked(self) -> tuple[str, ...]:
        """What a vulnerability source is asked. Not of what is in the app's own source: its name may be another's."""
        return tuple(f"{one['name']}=={one['version']}" for one in self.packages if not one.get("local"))


def groups(hosts: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[Group]:
    """What is to be looked at, each once.

    :param hosts: what the module `app_packages` says of each host.
    """
    found: dict[str, Group] = {}
    for host, apps in sorted(hosts.items()):
        for app, told in sorted(apps.items()):
            same = json.dumps([app, told["release"], told["packages"]], sort_keys=True)
            group = found.setdefault(same, Group(app, told["release"], told["label"], told["packages"], []))
            group.hosts.append(host)
    return sorted(found.values(), key=lambda one: (one.app, one.hosts))


def program(name: str) -> str:
    """Where a program of this machine is: beside the Python of Ansible, or in the PATH."""
    beside = os.path.dirname(sys.executable)
    found = shutil.which(name, path=os.pathsep.join([beside, os.environ.get("PATH", os.defpath)]))
    if not found:
        raise Failed(f"{name} is not on this machine: install it, for example with `pipx install {PACKAGES[name]}`.")
    return found


def run(name: str, *arguments: str, good: Sequence[int] = (0,)) -> str:
    """Run a program to its end and return its output."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run([program(name), *arguments], capture_output=True, text=True, env=clean, check=False)
    if done.returncode not in good or not done.stdout.strip():
        last = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise Failed(f"{name} failed ({last}): nothing is known of the packages that it did not look at.")
    return done.stdout


def called(package: Mapping[str, Any]) -> str:
    """A package as indexes compare it."""
    return (
        f"{canonicalize_name(package['name'])}=={canonicalize_version(package['version'], strip_trailing_zero=False)}"
    )


def vulnerabilities(asked: Sequence[str], source: str, ignored: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """What a source knows of some packages, by ``NAME==VERSION``.

    :param source: one of `SOURCES`, or the address of a service like OSV's.
    :param ignored: IDs of vulnerabilities.
    :raises Failed: when it cannot be asked.
    """
    service = [f"--vulnerability-service={source}"] if source in SOURCES else ["-s", "osv", f"--osv-url={source}"]
    skipped = [f"--ignore-vuln={one}" for one in ignored]
    with tempfile.TemporaryDirectory() as place:
        file = Path(place, "requirements.txt")
        file.write_text("".join(f"{one}\n" for one in asked), encoding="utf-8")
        options = ["--format=json", "--progress-spinner=off", "--disable-pip", "--no-deps", "--strict"]
        # 1: it found something.
        told = run("pip-audit", *service, *options, *skipped, f"--requirement={file}", good=(0, 1))
    try:
        found = json.loads(told)["dependencies"]
    except (ValueError, KeyError) as error:
        raise Failed(f"pip-audit said something that is no report: {told.strip()[:200]}") from error
    return {called(one): one["vulns"] for one in found if one.get("vulns")}


def sentence(package: Mapping[str, Any], one: Mapping[str, Any]) -> str:
    """A vulnerability of a package as a sentence, and what to do."""
    others = ", ".join(name for name in one.get("aliases", []) if name != one["id"])
    named = f"{one['id']} ({others})" if others else one["id"]
    about = " ".join(str(one.get("description") or "").split())
    about = f"{about[:160]}..." if len(about) > 160 else about.rstrip(".") + "."
    about = f": {about}" if about not in (".", "N/A.") else "."
    fixes = one.get("fix_versions") or []
    cure = f"Update it to {' or '.join(fixes)}." if fixes else "No version without it is known yet."
    return f"{package['name']} {package['version']} has {named}{about} {cure}"


def findings(group: Group, known: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """A sentence for everything that is wrong in a group.

    :param known: by ``NAME==VERSION``, see `vulnerabilities`.
    """
    found = []
    for package in group.packages:
        if package.get("changed"):
            what = f"{package['name']} {package['version']} is not as it was installed"
            cure = "Find out who did that, and deploy a new release."
            found.append(f"{what}: its files changed since the release was built. {cure}")
        for one in () if package.get("local") else known.get(called(package), ()):
            found.append(sentence(package, one))
    return found


def sbom(group: Group) -> str:
    """The SBOM of a group, a text in CycloneDX's JSON; the same packages, the same text.

    :raises Failed: when it cannot be made.
    """
    with tempfile.TemporaryDirectory() as place:
        # cyclonedx-py looks at a virtualenv: here is one which has what the packages of the host say of themselves.
        root = Path(place, "venv")
        venv.EnvBuilder(symlinks=True).create(root)
        library = next(root.glob("lib/python3*/site-packages"))
        for number, one in enumerate(group.packages):
            directory = library / f"package{number}-{one['version']}.dist-info"
            directory.mkdir()
            (directory / "METADATA").write_text(one["metadata"], encoding="utf-8")
            if one.get("source"):
                (directory / "direct_url.json").write_text(one["source"], encoding="utf-8")
        project = Path(place, "pyproject.toml")
        # What TOML and JSON write alike.
        project.write_text(
            f"[project]\nname = {json.dumps(group.app)}\nversion = {json.dumps(group.release)}\n", "utf-8"
        )
        told = run("cyclonedx-py", "environment", "--output-reproducible", f"--pyproject={project}", str(root))
    digests = {canonicalize_name(one["name"]): one["sha256"] for one in group.packages if one.get("sha256")}
    bom = json.loads(told)
    for component in bom.get("components", []):
        if digest := digests.get(canonicalize_name(component["name"])):
            # Of the installed files, not of the archive they came in: so it is none of CycloneDX's `hashes`.
            component.setdefault("properties", []).append({"name": "flaskops:files:sha256", "value": digest})
    return json.dumps(bom, indent=2) + "\n"
