"""What the module `checkup` looks at: rights on the way to a path, ports, queues, disks, releases and requests."""

import os
import pwd
import socket
from pathlib import Path

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils.checkup import access, instance, network, storage

OTHER = 54321  # a user that has nothing


@pytest.fixture
def way(tmp_path, monkeypatch):
    """A path to look at, as if everybody might pass the directories above the test's own."""
    (tmp_path / "run/shop").mkdir(parents=True)
    (tmp_path / "run/shop/app.sock").touch()
    (tmp_path / "run/shop/app.sock").chmod(0o666)
    every = access.steps
    monkeypatch.setattr(access, "steps", lambda path: (one for one in every(path) if one.startswith(f"{tmp_path}/")))
    return tmp_path / "run/shop"


def test_readable_path_has_no_barrier(way):
    assert access.barrier(str(way / "app.sock"), OTHER, [], access.WRITE) is None


def test_closed_directory_is_named_with_its_rights(way):
    way.chmod(0o700)
    found = access.barrier(str(way / "app.sock"), OTHER, [], access.WRITE)
    assert found
    assert (found["path"], found["mode"], found["why"]) == (str(way), "0700", "closed")


def test_links_are_followed_and_missing_targets_are_named(way):
    (way / "upstream").symlink_to("app.sock")
    assert access.barrier(str(way / "upstream"), OTHER, [], access.WRITE) is None
    (way / "app.sock").unlink()
    found = access.barrier(str(way / "upstream"), OTHER, [], access.WRITE)
    assert found
    assert (found["path"], found["why"]) == (str(way / "app.sock"), "missing")


def test_links_in_a_circle_end(way):
    (way / "a").symlink_to("b")
    (way / "b").symlink_to("a")
    found = access.barrier(str(way / "a"), OTHER, [], access.WRITE)
    assert found
    assert "circle" in found["why"]


@pytest.mark.parametrize(("uid", "gids", "allowed"), [(1, [], True), (9, [2], False), (9, [], False), (0, [], True)])
def test_owner_group_and_others_have_their_own_rights(uid, gids, allowed):
    found = os.stat_result((0o100600, 0, 0, 1, 1, 2, 0, 0, 0, 0))
    assert access.may(found, uid, gids, access.READ | access.WRITE) is allowed


def test_links_to_configuration_files_are_no_change_and_no_harm(tmp_path):
    (tmp_path / "files").mkdir()
    (tmp_path / "files/config").write_text("root's")
    (tmp_path / "files/config").chmod(0o400)
    for place in ("shared", "release/src"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "config").symlink_to(tmp_path / "files/config")
    os.utime(tmp_path / "release/src", (1, 1))
    user = pwd.struct_passwd(("nobody", "x", 65534, 65534, "", "/", ""))
    assert access.out_of_reach(str(tmp_path / "shared"), user) == []
    assert instance.changed(str(tmp_path / "release"), 1) == []
    (tmp_path / "release/src/by_hand").write_text("")
    os.utime(tmp_path / "release/src", (1, 1))
    assert instance.changed(str(tmp_path / "release"), 1) == [str(tmp_path / "release/src/by_hand")]


def test_data_of_another_user_is_named_as_out_of_reach(tmp_path):
    (tmp_path / "note").touch(mode=0o600)
    (tmp_path / "open").touch()
    (tmp_path / "open").chmod(0o666)
    user = pwd.struct_passwd(("nobody", "x", OTHER, OTHER, "", "/", ""))
    assert [one["path"] for one in access.out_of_reach(str(tmp_path), user)] == [str(tmp_path / "note")]


def test_process_that_listens_on_a_port_is_found():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        assert network.listeners(port) == []
        listener.listen()
        assert os.getpid() in [one["pid"] for one in network.listeners(port)]


@pytest.mark.parametrize("known", [True, False])
def test_stranger_on_a_port_is_named_unless_all_of_its_sockets_are_those_of_the_program_that_may(known, tmp_path):
    program = Path("/proc/self/comm").read_text().strip()
    file = tmp_path / "pid"
    if known:  # otherwise all processes are looked at
        file.write_text(f"{os.getpid()}\n")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        assert network.strangers(port, "nginx", str(file)) == []  # nobody listens
        listener.listen()
        assert network.strangers(port, program, str(file)) == []
        found = [who.split(" (")[0] for who in network.strangers(port, "nginx", str(file))]
        assert found == ([] if known else [program])


ENABLED = "# /etc/ufw/ufw.conf\nENABLED=yes\nLOGLEVEL=low\n"
NOBODY = "0.0.0.0/0 any 0.0.0.0/0 in"
SSH = f"allow tcp 22 {NOBODY}"


@pytest.mark.parametrize(
    ("rules", "barred"),
    [
        ([SSH], True),
        ([SSH, f"allow tcp 80 {NOBODY}"], False),
        ([f"allow any 80 {NOBODY}"], False),
        ([f"limit tcp 80 {NOBODY}"], False),
        ([f"allow_log tcp 80 {NOBODY}"], False),
        ([f"allow udp 80 {NOBODY}"], True),
        (["allow tcp 80,443 0.0.0.0/0 any 0.0.0.0/0 Nginx%20Full - in"], False),
        ([f"allow tcp 8000:8100,70:90 {NOBODY}"], False),
        ([f"allow tcp 8000:8100 {NOBODY}"], True),
        (["allow any any 0.0.0.0/0 any 10.0.0.0/8 in"], False),  # those let somebody in, and the balancer may be one
        (["allow tcp 80 0.0.0.0/0 any 10.0.0.7 in_eth0 comment=6c62"], False),
        (["allow tcp 80 0.0.0.0/0 any 0.0.0.0/0 out"], True),
        ([f"route:allow tcp 80 {NOBODY}"], True),
        (["allow tcp", "", f"allow tcp http {NOBODY}", f"allow tcp 80 {NOBODY}"], False),  # not as ufw writes them
        ([f"deny tcp 80 {NOBODY}", f"allow tcp 80 {NOBODY}"], True),  # the first one counts
        (["deny tcp 80 0.0.0.0/0 any 10.0.0.7 in", f"allow tcp 80 {NOBODY}"], False),
    ],
)
def test_port_to_which_ufw_lets_nobody_in_is_found(rules, barred, tmp_path):
    for name in ("ufw", "default"):
        (tmp_path / name).mkdir()
    (tmp_path / "ufw/user.rules").write_text("*filter\n" + "".join(f"### tuple ### {rule}\n-A x\n" for rule in rules))
    assert not network.barred(80, str(tmp_path)), "it is not enabled"
    (tmp_path / "ufw/ufw.conf").write_text(ENABLED)
    assert network.barred(80, str(tmp_path)) == barred
    (tmp_path / "default/ufw").write_text('DEFAULT_INPUT_POLICY="ACCEPT"\n')
    assert network.barred(80, str(tmp_path)) == any(rule.startswith("deny tcp 80 0.0.0.0/0 any 0") for rule in rules)


def test_host_without_ufw_bars_nobody(tmp_path):
    assert not network.barred(80, str(tmp_path))


def test_connections_waiting_for_accept_are_counted(tmp_path):
    path = str(tmp_path / "sock")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(path)
        listener.listen()
        assert network.waiting(path) == 0
        client.connect(path)
        assert network.waiting(path) == 1
        listener.accept()[0].close()
        assert network.waiting(path) == 0


def test_each_disk_is_listed_once_with_the_largest_file_of_a_full_one(tmp_path, monkeypatch):
    (tmp_path / "small").write_bytes(b"x" * 5000)
    (tmp_path / "large").write_bytes(b"x" * 50000)
    (one,) = storage.disks([str(tmp_path), str(tmp_path / "large"), "/no/such"], [str(tmp_path)])
    assert len(one["paths"]) == 2
    monkeypatch.setattr(storage, "short", lambda disk: True)
    (one,) = storage.disks([str(tmp_path)], [str(tmp_path)])
    assert [os.path.basename(file["path"]) for file in one["largest"]] == ["large", "small"]


@pytest.mark.parametrize(
    ("size", "free", "short"), [(200, 9, True), (200, 11, False), (9000, 99, True), (9000, 101, False)]
)
def test_disk_is_nearly_full_below_5_percent_and_100_mib(size, free, short):
    assert storage.short({"size": size << 20, "free": free << 20}) is short


def test_requests_have_no_query_and_the_oldest_comes_first():
    def core(began, uri):
        return {"in_request": 1, "vars": ["REQUEST_METHOD=GET", f"REQUEST_URI={uri}", "HTTP_COOKIE=secret"],
                "req_info": {"request_start": began}}  # fmt: skip

    stats = {"workers": [{"id": 1, "cores": [core(95, "/b"), core(90, "/a?token=secret"), {"in_request": 0}]}]}
    found = instance.requests(stats, 100)
    assert [(one["seconds"], one["path"]) for one in found] == [(10, "/a"), (5, "/b")]
    assert "secret" not in str(found)


def test_changed_code_is_found_and_compiled_files_do_not_count(tmp_path):
    (tmp_path / "src/__pycache__").mkdir(parents=True)
    (tmp_path / "src/shop.py").touch()
    now = os.stat(tmp_path / "src/shop.py").st_ctime
    assert instance.changed(str(tmp_path), now + 5) == []
    assert instance.changed(str(tmp_path), now - 5) == [str(tmp_path / "src/shop.py")]
