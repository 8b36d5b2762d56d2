"""host_state and system: what is missing, what runs, and what is there."""

import grp
import os
import pwd

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import system
from ansible_collections.flaskops.emperor.plugins.modules import host_state

SHOW = """
case "$*" in *no-systemd*) exit 1 ;; esac
cat <<'END'
Id=nginx.service
LoadState=loaded
ActiveState=active
UnitFileState=enabled
NeedDaemonReload=no
StateChangeTimestamp=Sun 2026-11-22 11:56:50.500000 UTC

Id=emperor@shop.socket
LoadState=loaded
ActiveState=inactive
UnitFileState=disabled
NeedDaemonReload=yes

Id=gone.service
LoadState=not-found
ActiveState=inactive
UnitFileState=
NeedDaemonReload=no
END
"""


@pytest.fixture
def systemctl(program):
    program("systemctl", SHOW)


def test_units_are_described_by_name_and_by_pattern(systemctl):
    found = system.units(["nginx.service", "gone.service", "emperor*"])
    assert found == {
        "nginx.service": {"there": True, "active": True, "enabled": True, "stale": False, "since": 1795348610.5},
        "gone.service": {"there": False, "active": False, "enabled": False, "stale": False, "since": 0},
        "emperor@shop.socket": {"there": True, "active": False, "enabled": False, "stale": True, "since": 0},
    }


def test_without_systemd_no_unit_exists(systemctl):
    nothing = {"there": False, "active": False, "enabled": False, "stale": False, "since": 0}
    assert system.units(["no-systemd"]) == {"no-systemd": nothing}
    assert system.units([]) == {}


def test_packages_that_are_not_installed_are_missing(program):
    program("dpkg-query", 'echo "nginx installed"; echo "uwsgi-core config-files"; exit 1')
    assert system.missing(["nginx", "uwsgi-core", "python3-venv"]) == ["uwsgi-core", "python3-venv"]
    assert system.missing([]) == []


def test_module_returns_paths_and_contents(run_module, tmp_path):
    (tmp_path / "a.conf").write_text("4096\n")
    pattern, nowhere = f"{tmp_path}/*.conf", f"{tmp_path}/nowhere"
    answer = run_module(host_state, paths=[pattern, nowhere], read=[f"{tmp_path}/a.conf", nowhere], check=True)
    assert not answer["changed"]
    assert answer["paths"] == {pattern: [f"{tmp_path}/a.conf"], nowhere: []}
    assert answer["read"] == {f"{tmp_path}/a.conf": "4096", nowhere: ""}
    assert (answer["missing"], answer["units"]) == ([], {})


def test_files_services_and_tools_that_differ_are_named(run_module, program, tmp_path, monkeypatch):
    program("systemctl", SHOW)
    me, mine = pwd.getpwuid(os.getuid()), grp.getgrgid(os.getgid())
    monkeypatch.setattr(pwd, "getpwnam", lambda _name: me)
    monkeypatch.setattr(grp, "getgrnam", lambda _name: mine)
    (tmp_path / "right").write_text("a")
    (tmp_path / "right").chmod(0o644)
    (tmp_path / "other").write_text("secret")
    (tmp_path / "venv/lib/python3.13/site-packages/uv-1.0.dist-info").mkdir(parents=True)
    answer = run_module(
        host_state,
        files=[{"path": f"{tmp_path}/{name}", "content": "a"} for name in ("right", "other", "nowhere")],
        services={"nginx.service": [], "emperor@shop.socket": [], "gone.service": []},
        tools=[{"path": f"{tmp_path}/venv", "package": f"uv=={version}"} for version in ("1.0", "2.0")],
    )
    assert answer["differing"] == [f"{tmp_path}/other", f"{tmp_path}/nowhere"]
    assert answer["outdated"] == ["emperor@shop.socket", "gone.service"]
    assert answer["untooled"] == [f"{tmp_path}/venv"]
    assert not answer["changed"]


def test_host_without_debians_and_systemds_programs_has_nothing(run_module, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    answer = run_module(host_state, packages=["nginx"], services={"nginx.service": []})
    assert (answer["missing"], answer["outdated"]) == (["nginx"], ["nginx.service"])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('NAME="Debian GNU/Linux"\nVERSION_ID="13"\n', ("Debian", "13")),
        ("NAME=Ubuntu\nVERSION_ID=24.04\n", ("Ubuntu", "24.04")),
        ('NAME="Debian GNU/Linux"\n# testing\n', ("Debian", "")),
        ("", ("", "")),
    ],
)
def test_distribution_is_read_from_its_own_file(text, found, tmp_path):
    (tmp_path / "os-release").write_text(text)
    assert system.distribution(str(tmp_path / "os-release")) == found
    assert system.distribution(str(tmp_path / "nowhere")) == ("", "")


def test_unit_is_outdated_when_it_does_not_run_or_a_file_is_newer(program, tmp_path):
    def told(state, time):
        program("systemctl", f"printf 'Id=nginx.service\\nActiveState={state}\\nStateChangeTimestamp={time}\\n'")
        return system.outdated(system.units(["nginx.service"])["nginx.service"], [str(tmp_path / "nginx.conf")])

    (tmp_path / "nginx.conf").touch()
    assert not told("active", "Sun 2096-11-22 11:56:50.123456 UTC")
    assert told("active", "Sun 2016-11-22 11:56:50.123456 UTC")
    assert told("inactive", "Sun 2096-11-22 11:56:50.123456 UTC")
