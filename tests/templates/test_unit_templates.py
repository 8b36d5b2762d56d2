"""The Emperor, its units, and the sockets that systemd holds."""

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import exclusive
from rendering import ini, render, unit, value


def test_an_emperor_finds_the_vassals_of_its_app_and_starts_each_with_its_own_uwsgi():
    found = ini(render("emperor.ini.j2"), "uwsgi")
    assert found["emperor-wrapper"] == value("__uwsgi_wrapper")
    for name in ("strict", "emperor-graceful-shutdown", "die-on-term"):
        assert found[name] == "true"
    # Where they are written.
    pattern = value("__flask_apps_vassals ~ '/%i.*.ini'")
    assert unit(render("emperor-app@.service.j2"))["[Service]", "ExecStart"].endswith(f" --emperor {pattern}")
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
    "User": "%i",
    "Group": "%i",
    "CapabilityBoundingSet": "",
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "TemporaryFileSystem": "/dev/shm:mode=1777,size=50%,nosuid",
    "PrivateDevices": "yes",
    "ProtectClock": "yes",
    "ProtectControlGroups": "yes",
    "ProtectHostname": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectProc": "invisible",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "LockPersonality": "yes",
    "RemoveIPC": "yes",
    "SystemCallArchitectures": "native",
    "SystemCallFilter": "@system-service",
    "UMask": "0027",
}
APP = "emperor-app@.service.j2"


def test_emperor_of_an_app_runs_as_the_app_in_a_sandbox():
    service = unit(render(APP))
    assert {name: service.get(("[Service]", name)) for name in SANDBOX} == SANDBOX
    families = {"AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"}
    assert set(service["[Service]", "RestrictAddressFamilies"].split()) == families


def test_an_oom_kill_ends_no_other_process():
    assert unit(render(APP))["[Service]", "OOMPolicy"] == "continue"


def test_metadata_addresses_are_denied():
    assert unit(render(APP))["[Service]", "IPAddressDeny"] == "169.254.169.254 fd00:ec2::254"
    assert ("[Service]", "IPAddressDeny") not in unit(render(APP, uwsgi_denied_addresses=[]))


def test_apps_write_only_below_writable_paths():
    service = unit(render(APP, uwsgi_writable_paths=["/srv/flask_apps", "/var/lib/shop"]))
    assert service["[Service]", "ReadWritePaths"] == "/run/emperor /srv/flask_apps /var/lib/shop"
    assert value("flask_apps_root in uwsgi_writable_paths") is True


@pytest.mark.parametrize(
    ("install", "binary"), [("pyuwsgi", "/opt/emperor/bin/uwsgi"), ("distro", "/usr/bin/uwsgi-core")]
)
def test_installed_uwsgi_is_started(install, binary):
    service = unit(render(APP, uwsgi_install=install))
    # uWSGI executes its binary path at a reload.
    assert service["[Service]", "ExecStart"].startswith(
        f"{binary} --ini /etc/emperor/emperor.ini --binary-path {binary} --emperor "
    )


@pytest.mark.parametrize("template", [APP, "emperor.service.j2"])
def test_stop_signals_only_the_emperor(template):
    """Also that of a host on which one Emperor had all apps: the unit was the same."""
    service = unit(render(template))
    assert service["[Service]", "KillSignal"] == "SIGQUIT"
    assert service["[Service]", "KillMode"] == "mixed"
    assert service["[Service]", "ExecStop"].endswith("/usr/local/libexec/emperor-stop $MAINPID")


def test_emperors_start_stop_and_reload_together_and_each_is_always_restarted():
    service = unit(render(APP))
    assert service["[Service]", "Type"] == "notify"
    assert service["[Service]", "Restart"] == "always"
    assert service["[Unit]", "StartLimitIntervalSec"] == "0"
    assert service["[Unit]", "PartOf"] == service["[Unit]", "ReloadPropagatedFrom"] == "emperor.service"
    # So `systemctl stop emperor` waits for them.
    assert "emperor.service" in service["[Unit]", "After"].split()
    assert service["[Unit]", "Before"] == "nginx.service"
    together = unit(render("emperor.service.j2"))
    assert together["[Service]", "RemainAfterExit"] == "yes"
    assert together["[Install]", "WantedBy"] == "multi-user.target"
