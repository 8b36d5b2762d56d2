"""The Emperor, its units, and the sockets that systemd holds."""

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import exclusive
from rendering import ini, render, unit, value


def test_the_emperor_finds_vassals_by_a_pattern_and_runs_each_as_its_owner():
    found = ini(render("emperor.ini.j2"), "uwsgi")
    assert found["emperor"] == "/etc/emperor/vassals/*.ini"
    # It becomes the user whom the file belongs to.
    assert found["emperor-wrapper"] == "/usr/local/libexec/emperor-enclose"
    for name in ("strict", "emperor-graceful-shutdown", "die-on-term"):
        assert found[name] == "true"


def test_emperor_scans_the_directory_where_the_vassals_are_written():
    assert value("__flask_apps_vassals ~ '/*.ini'") == ini(render("emperor.ini.j2"), "uwsgi")["emperor"]
    assert value("__flask_apps_run == __uwsgi_run") is True


@pytest.mark.parametrize("backlog", [128, 1024, 8192])
def test_backlog_of_socket_vassal_and_kernel_is_the_same(backlog):
    unit_ = unit(render("emperor@.socket.j2", uwsgi_listen_backlog=backlog))
    own = ini(render("vassal.ini", uwsgi_listen_backlog=backlog), "uwsgi")
    assert int(unit_["[Socket]", "Backlog"]) == int(own["listen"]) == backlog
    files = {one["path"]: one for one in value("__uwsgi_files", uwsgi_listen_backlog=backlog)}
    # Else the kernel would cut the queue without a word, and uWSGI would not start. The host's own default is 4096.
    text = files[value("__uwsgi_sysctl")]["content"]
    assert text.splitlines()[1:] == [f"net.core.somaxconn = {max(backlog, 4096)}"]


def test_held_sockets_belong_to_the_app_and_are_open_to_nginx():
    held = unit(render("emperor@.socket.j2", uwsgi_web_group="web"))
    assert held["[Socket]", "SocketUser"] == "%i"
    assert held["[Socket]", "SocketGroup"] == "web"
    assert held["[Socket]", "SocketMode"] == "0660"
    assert held["[Socket]", "TriggerLimitIntervalSec"] == "0"
    assert held["[Install]", "WantedBy"] == "sockets.target"
    # Without Accept=yes one holder gets both; it would not find its sockets else.
    assert ("[Socket]", "Accept") not in held


def test_memory_guard_gets_its_settings_and_runs_in_a_sandbox():
    service = unit(render("emperor-memory-guard.service.j2", uwsgi_web_group="web"))
    # systemd reads %% as %.
    assert service["[Service]", "ExecStart"] == (
        "/usr/local/libexec/emperor-memory-guard --floor=5%% --interval=2 --vassals=/etc/emperor/vassals "
        f"--run=/run/emperor --lock={exclusive.PATH}"
    )
    wanted = {
        "Restart": "always",
        "DynamicUser": "yes",
        "SupplementaryGroups": "web",
        "CapabilityBoundingSet": "CAP_KILL",
        "AmbientCapabilities": "CAP_KILL",
        "RestrictAddressFamilies": "AF_UNIX",
        "SystemCallFilter": "@system-service\n~@privileged @resources",
    }
    assert {name: service["[Service]", name] for name in wanted} == wanted


def test_holder_is_always_restarted_and_runs_in_a_sandbox():
    service = unit(render("emperor@.service.j2"))
    assert service["[Service]", "ExecStart"] == value("__uwsgi_holder")
    assert service["[Service]", "Restart"] == "always"
    assert service["[Unit]", "StartLimitIntervalSec"] == "0"
    wanted = {
        "DynamicUser": "yes",
        "CapabilityBoundingSet": "",
        "PrivateNetwork": "yes",
        "PrivateDevices": "yes",
        "ProtectProc": "invisible",
        "RestrictAddressFamilies": "AF_UNIX",
        "RestrictNamespaces": "yes",
        "MemoryDenyWriteExecute": "yes",
        "SystemCallFilter": "@system-service\n~@privileged @resources",
    }
    assert {name: service.get(("[Service]", name)) for name in wanted} == wanted


SANDBOX = {
    "CapabilityBoundingSet": "CAP_SETUID CAP_SETGID CAP_KILL CAP_SYS_ADMIN",
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "TemporaryFileSystem": "/dev/shm:mode=1777,size=50%,nosuid",
    "PrivateDevices": "yes",
    "ProtectClock": "yes",
    "ProtectHostname": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectProc": "invisible",
    "RestrictNamespaces": "mnt",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "LockPersonality": "yes",
    "RemoveIPC": "yes",
    "SystemCallArchitectures": "native",
    "SystemCallFilter": "@system-service mount",
    "UMask": "0027",
}


def test_emperor_unit_is_a_sandbox():
    service = unit(render("emperor.service.j2"))
    assert {name: service.get(("[Service]", name)) for name in SANDBOX} == SANDBOX
    assert set(service["[Service]", "RestrictAddressFamilies"].split()) == {
        "AF_UNIX",
        "AF_INET",
        "AF_INET6",
        "AF_NETLINK",
    }


def test_emperor_unit_delegates_memory_and_survives_an_oom_kill():
    service = unit(render("emperor.service.j2"))
    assert service["[Service]", "Delegate"] == "memory"
    assert service["[Service]", "OOMPolicy"] == "continue"
    assert service.get(("[Service]", "ProtectControlGroups")) is None, "it is about what the Emperor has to write"
    assert ini(render("emperor.ini.j2"), "uwsgi")["exec-as-emperor"] == value("__uwsgi_memory_limit")


def test_emperor_unit_denies_the_metadata_addresses():
    assert unit(render("emperor.service.j2"))["[Service]", "IPAddressDeny"] == "169.254.169.254 fd00:ec2::254"
    assert ("[Service]", "IPAddressDeny") not in unit(render("emperor.service.j2", uwsgi_denied_addresses=[]))


def test_emperor_unit_allows_writes_only_below_writable_paths():
    service = unit(render("emperor.service.j2", uwsgi_writable_paths=["/srv/flask_apps", "/var/lib/shop"]))
    assert service["[Service]", "ReadWritePaths"] == "/run/emperor /srv/flask_apps /var/lib/shop"
    assert value("flask_apps_root in uwsgi_writable_paths") is True


@pytest.mark.parametrize(
    ("install", "binary"), [("pyuwsgi", "/opt/emperor/bin/uwsgi"), ("distro", "/usr/bin/uwsgi-core")]
)
def test_emperor_unit_starts_the_installed_uwsgi(install, binary):
    service = unit(render("emperor.service.j2", uwsgi_install=install))
    # uWSGI executes its binary path at a reload.
    assert service["[Service]", "ExecStart"] == f"{binary} --ini /etc/emperor/emperor.ini --binary-path {binary}"


def test_stop_signals_only_the_emperor():
    service = unit(render("emperor.service.j2"))
    assert service["[Service]", "KillSignal"] == "SIGQUIT"
    assert service["[Service]", "KillMode"] == "mixed"
    assert service["[Service]", "Type"] == "notify"
    assert service["[Service]", "Restart"] == "always"
    assert service["[Install]", "WantedBy"] == "multi-user.target"
