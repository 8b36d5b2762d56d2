"""playbooks/audit.yml: what is asked of a vulnerability source, and what is said of its answer."""

import json
import os
import sys

import pytest
from ansible_collections.flaskops.emperor.plugins.action.audit import refusal, report, write
from ansible_collections.flaskops.emperor.plugins.plugin_utils import audit

FLASK = {"name": "Flask_X", "version": "3.1.0", "sha256": "ab", "metadata": "Name: Flask_X\nVersion: 3.1.0\n"}
OWN = {"name": "shop", "version": "0.1", "local": True, "metadata": "Name: shop\nVersion: 0.1\n"}
VULNERABILITY = {
    "id": "PYSEC-1",
    "aliases": ["PYSEC-1", "CVE-2"],
    "description": "Reads\nfiles.",
    "fix_versions": ["3.2"],
}


def told(*packages, release="abc", app="shop"):
    return {app: {"release": release, "label": "v1", "packages": list(packages)}}


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """Put a program in the place of one of this machine; it writes down its arguments and the file it was given."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    def make(name, output, code=0, error=""):
        (tmp_path / "output").write_text(output)
        script = (
            f'echo "$*" > {tmp_path}/arguments\nfor last; do :; done\ncp "${{last#*=}}" {tmp_path}/given 2>/dev/null\n'
        )
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}cat {tmp_path}/output\necho '{error}' >&2\nexit {code}\n")
        (tmp_path / name).chmod(0o755)
        return tmp_path

    return make


def test_same_packages_on_several_hosts_are_one_group():
    found = audit.groups({"b": told(FLASK), "a": told(FLASK), "c": told(FLASK, OWN), "d": {}})
    assert [(one.hosts, one.asked) for one in found] == [
        (["a", "b"], ("Flask_X==3.1.0",)),
        (["c"], ("Flask_X==3.1.0",)),  # what is in the app's own source is no package of an index
    ]


@pytest.mark.parametrize(
    ("source", "arguments"),
    [("pypi", "--vulnerability-service=pypi "), ("https://osv.test/q", "-s osv --osv-url=https://osv.test/q ")],
)
def test_source_is_asked_for_the_very_versions(source, arguments, tool):
    answer = {
        "dependencies": [
            {"name": "flask-x", "version": "3.1.0", "vulns": [VULNERABILITY]},
            {"name": "b", "version": "1"},
        ]
    }
    place = tool("pip-audit", json.dumps(answer), code=1)
    assert audit.vulnerabilities(["Flask_X==3.1.0"], source, ["PYSEC-9"]) == {"flask-x==3.1.0": [VULNERABILITY]}
    assert (place / "arguments").read_text().startswith(arguments)
    assert "--ignore-vuln=PYSEC-9" in (place / "arguments").read_text()
    assert (place / "given").read_text() == "Flask_X==3.1.0\n"


@pytest.mark.parametrize(("output", "code"), [("", 1), ("", 0), ("{}", 0), ("{}", 2), ("not json", 1)])
def test_source_that_cannot_be_asked_is_no_good_news(output, code, tool):
    tool("pip-audit", output, code, error="Trace\nConnectionError: refused")
    with pytest.raises(audit.Failed, match="no report" if output and code < 2 else r"\(ConnectionError: refused\)"):
        audit.vulnerabilities(["a==1"], "osv", [])


def test_missing_program_is_named_with_its_package(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        audit.Failed,
        match="cyclonedx-py is not on this machine: install it, for example with `pipx install cyclonedx-bom`",
    ):
        audit.program("cyclonedx-py")


@pytest.mark.parametrize(
    ("vulnerability", "sentence"),
    [
        (VULNERABILITY, "Flask_X 3.1.0 has PYSEC-1 (CVE-2): Reads files. Update it to 3.2."),
        ({"id": "X-1"}, "Flask_X 3.1.0 has X-1. No version without it is known yet."),
        (
            {"id": "X-1", "description": "ab" * 200},
            f"Flask_X 3.1.0 has X-1: {'ab' * 80}... No version without it is known yet.",
        ),
    ],
)
def test_finding_is_a_sentence_with_a_cure(vulnerability, sentence):
    assert audit.sentence(FLASK, vulnerability) == sentence


def test_report_counts_findings_and_changed_files():
    groups = audit.groups({"web1": told({**FLASK, "changed": True}, {**OWN, "name": "flask-x", "version": "3.1.0"})})
    lines, count = report(groups, {groups[0].asked: {"flask-x==3.1.0": [VULNERABILITY]}})
    assert count == 2
    assert lines[0] == "shop on web1, release abc (v1): 2 packages"
    assert "its files changed since the release was built" in lines[1]
    assert "PYSEC-1" in lines[2]


@pytest.mark.parametrize("source", ["oss", "osv.example.com", "ftp://a/b", "https://", "http://a b/c"])
def test_source_that_is_none_is_refused(source):
    assert refusal(source).startswith(f"source is {source!r}: choose osv, pypi, or the address of a service like it")


@pytest.mark.parametrize("source", ["", "osv", "pypi", "http://127.0.0.1:80/v1/query"])
def test_source_is_taken(source):
    assert refusal(source) == ""


BOM = {"components": [{"name": "flask-x", "version": "3.1.0"}, {"name": "other", "version": "1"}]}


def test_sbom_has_the_digests_and_is_written_once(tool, tmp_path):
    place = tool("cyclonedx-py", json.dumps(BOM))
    groups = audit.groups({"a": told(FLASK, OWN)})
    target = tmp_path / "out"
    assert write(groups, str(target)) == ([f"SBOM of shop: {target}/shop-abc.cdx.json"], True)
    components = json.loads((target / "shop-abc.cdx.json").read_text())["components"]
    assert components[0]["properties"] == [{"name": "flaskops:files:sha256", "value": "ab"}]
    assert "properties" not in components[1]
    assert "environment --output-reproducible --pyproject=" in (place / "arguments").read_text()
    assert write(groups, str(target))[1] is False
    write(audit.groups({"a": told(FLASK), "b": told(OWN)}), str(target))
    assert sorted(os.listdir(target)) == ["shop-abc-a.cdx.json", "shop-abc-b.cdx.json", "shop-abc.cdx.json"]
