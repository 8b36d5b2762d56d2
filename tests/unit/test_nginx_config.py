"""The module `nginx_config`: what nginx would refuse never is on disk, not even in a moment between."""

import os
import stat

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flaskops.emperor.plugins.modules import nginx_config

# Refuses a configuration in which any file says "fault"; notes what it was given to test, and the disk meanwhile.
NGINX = """
directory=$(dirname "$4")
cp -R "$directory" "{seen}"
cat "{root}/conf.d/site.conf" > "{meanwhile}" 2>/dev/null
if grep -rn fault "$directory" >&2; then exit 1; fi
grep -q "^pid " "$4"
"""


@pytest.fixture
def root(tmp_path):
    """nginx's directory with a configuration that works."""
    root = tmp_path / "etc/nginx"
    (root / "conf.d").mkdir(parents=True)
    (root / "nginx.conf").write_text("user www-data;\npid /run/nginx.pid;\ninclude conf.d/*.conf;\n")
    (root / "conf.d/other.conf").write_text("# other\n")
    return root


@pytest.fixture
def nginx(program, root, tmp_path):
    """A fake nginx; the directory it last had to test is `seen`."""
    program("nginx", NGINX.format(seen=tmp_path / "seen", meanwhile=tmp_path / "meanwhile", root=root))


@pytest.fixture
def write(run_module, root):
    def run(content, path="conf.d/site.conf", **more):
        return run_module(nginx_config, path=str(root / path), content=content, root=str(root), **more)

    return run


@pytest.fixture
def remove(run_module, root):
    def run(path="conf.d/site.conf", **more):
        return run_module(nginx_config, path=str(root / path), state="absent", root=str(root), **more)

    return run


def tree(root):
    """All that is on disk, with the inode and time of every file."""
    return {str(path): (os.lstat(path).st_ino, os.lstat(path).st_mtime_ns) for path in root.rglob("*")}


def test_a_good_file_is_tested_with_all_others_and_then_written(nginx, write, root, tmp_path):
    answer = write("# new\n")
    assert answer["changed"]
    assert answer["tested"]
    assert (root / "conf.d/site.conf").read_text() == "# new\n"
    assert (root / "conf.d/site.conf").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "seen/conf.d/site.conf").read_text() == "# new\n"
    assert (tmp_path / "seen/conf.d/other.conf").read_text() == "# other\n"
    assert (tmp_path / "meanwhile").read_text() == ""  # while nginx looked at the copy, it was not there


def test_a_refused_file_never_appears(nginx, write, root, tmp_path):
    before = tree(root)
    answer = write("fault\n")
    assert answer["failed"]
    assert answer["msg"].startswith(f"{root}/conf.d/site.conf was not changed: nginx refuses the new configuration.")
    assert f"{root}/conf.d/site.conf:1:fault" in answer["msg"]  # the real place, not that of the copy
    assert tree(root) == before
    assert (tmp_path / "meanwhile").read_text() == ""


def test_a_refused_change_leaves_the_former_file(nginx, write, root, tmp_path):
    write("# good\n")
    before = tree(root)
    assert write("fault\n")["failed"]
    assert tree(root) == before
    assert (tmp_path / "meanwhile").read_text() == "# good\n"


def test_fault_in_another_file_is_named_and_nothing_is_written(nginx, write, root):
    (root / "conf.d/other.conf").write_text("fault\n")
    assert f"{root}/conf.d/other.conf" in write("# new\n")["msg"]
    assert not (root / "conf.d/site.conf").exists()


def test_equal_file_is_neither_tested_nor_touched(write, root, nginx, tmp_path):
    write("# new\n")
    before = tree(root)
    (tmp_path / "bin/nginx").unlink()
    answer = write("# new\n")
    assert (answer["changed"], answer["tested"]) == (False, False)
    assert tree(root) == before


def test_the_test_leaves_the_pid_file_of_the_running_nginx_alone(nginx, write, tmp_path):
    write("user www-data;\n  pid   /run/nginx.pid;\nworker_processes 2;\n", path="nginx.conf")
    tested = (tmp_path / "seen/nginx.conf").read_text()
    assert tested.count("pid ") == 1
    assert "/run/nginx.pid" not in tested
    assert "worker_processes 2;" in tested


def test_the_main_file_can_be_replaced_and_keeps_its_pid(nginx, write, root):
    assert write("pid /run/other.pid;\n", path="nginx.conf")["changed"]
    assert (root / "nginx.conf").read_text() == "pid /run/other.pid;\n"


def test_a_file_is_removed(nginx, write, remove, root, tmp_path):
    write("# new\n")
    assert remove()["changed"]
    assert not (root / "conf.d/site.conf").exists()
    again = remove()
    assert not again["changed"]


def test_a_file_that_others_need_is_not_removed(remove, root, program):
    program("nginx", 'test -e "$(dirname "$4")/conf.d/other.conf" || { echo "needs other.conf" >&2; exit 1; }')
    answer = remove("conf.d/other.conf")
    assert "needs other.conf" in answer["msg"]
    assert (root / "conf.d/other.conf").exists()


def test_a_link_is_removed_not_what_it_leads_to(nginx, remove, root, tmp_path):
    # As Debian's sites-enabled/default.
    (tmp_path / "available").write_text("# welcome\n")
    (root / "conf.d/site.conf").symlink_to(tmp_path / "available")
    assert remove()["changed"]
    assert not (root / "conf.d/site.conf").is_symlink()
    assert (tmp_path / "available").read_text() == "# welcome\n"


def test_a_link_to_nothing_is_removed_too(nginx, remove, root):
    # nginx cannot open it, and so would not start.
    (root / "conf.d/site.conf").symlink_to("gone")
    assert remove()["changed"]
    assert not (root / "conf.d/site.conf").is_symlink()


def test_the_test_writes_nothing_through_a_link(program, write, root, tmp_path):
    (tmp_path / "available").write_text("# welcome\n")
    (root / "conf.d/site.conf").symlink_to(tmp_path / "available")
    program("nginx", "exit 1")
    write("fault\n")
    assert (tmp_path / "available").read_text() == "# welcome\n"


def test_bytes_that_are_not_utf_8_are_kept(nginx, write, root):
    (root / "nginx.conf").write_bytes(b"# caf\xe9\r\npid x;\n")
    write("# \u00fc\r\n")
    assert (root / "conf.d/site.conf").read_bytes() == b"# \xc3\xbc\r\n"
    assert (root / "nginx.conf").read_bytes() == b"# caf\xe9\r\npid x;\n"


@pytest.mark.parametrize("path", ["/etc/passwd", "{root}/../passwd", "{root}/../nginx2/site.conf"])
def test_a_file_elsewhere_is_refused(path, run_module, root):
    answer = run_module(nginx_config, path=path.format(root=root), content="x", root=str(root))
    assert "is not below" in answer["msg"]
    assert "choose a file of nginx's configuration" in answer["msg"]


def test_content_is_needed_for_a_file_to_be_there(run_module, root):
    assert "content" in run_module(nginx_config, path=str(root / "a.conf"), root=str(root))["msg"]


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """A host without nginx."""
    monkeypatch.setenv("PATH", str(tmp_path))
    # Not even in /usr/sbin, should the machine of the tests have it.
    monkeypatch.setattr(AnsibleModule, "get_bin_path", lambda self, name, **_options: None)


def test_a_host_without_nginx_is_refused(bare, write, root):
    assert write("# new\n")["msg"] == (
        "nginx is not installed on this host: run the role flaskops.emperor.nginx first."
    )
    assert not (root / "conf.d/site.conf").exists()


def test_check_mode_on_a_bare_host_reports_the_change(bare, run_module, tmp_path):
    root = tmp_path / "not-there"
    answer = run_module(nginx_config, path=str(root / "a.conf"), content="x", root=str(root), check=True)
    assert (answer["changed"], answer["tested"]) == (True, False)
    assert not root.exists()


def test_check_mode_tests_but_writes_nothing(nginx, write, root):
    before = tree(root)
    answer = write("# new\n", check=True, diff=True)
    assert (answer["changed"], answer["tested"]) == (True, True)
    assert answer["diff"]["before"] == ""
    assert answer["diff"]["after"] == "# new\n"
    assert answer["diff"]["after_header"] == f"{root}/conf.d/site.conf"
    assert write("fault\n", check=True)["failed"]
    assert tree(root) == before


def test_file_that_is_not_as_open_as_it_should_be_is_put_right(nginx, write, root):
    write("# new\n")
    (root / "conf.d/site.conf").chmod(0o600)
    answer = write("# new\n", diff=True)
    assert answer["changed"]
    assert answer["diff"]["before"].endswith(" 0600\n")
    assert answer["diff"]["after"].endswith(" 0644\n")
    assert stat.S_IMODE((root / "conf.d/site.conf").stat().st_mode) == 0o644
    assert not write("# new\n")["changed"]


@pytest.mark.parametrize("umask", [0o077, 0])
def test_mode_of_a_file_does_not_depend_on_the_umask(umask, nginx, write, root):
    before = os.umask(umask)
    try:
        write("# new\n", path="more/site.conf")
    finally:
        os.umask(before)
    assert stat.S_IMODE((root / "more/site.conf").stat().st_mode) == 0o644
    assert stat.S_IMODE((root / "more").stat().st_mode) == 0o755


@pytest.fixture
def without_brotli(program, root):
    """A host on which nginx does not know brotli, unless its module is loaded."""
    program("nginx", """
      cd "$(dirname "$4")"
      if grep -q brotli_static nginx.conf && [ ! -e modules-enabled/50-mod-http-brotli-static.conf ]; then
        echo 'unknown directive "brotli_static"' >&2; exit 1
      fi
      if grep -rn fault . >&2; then exit 1; fi
    """)  # fmt: skip


@pytest.mark.parametrize("on_disk", [True, False])
def test_check_mode_tests_without_a_module_that_the_run_would_install(on_disk, without_brotli, write, root):
    brotli = "http {\n    brotli_static on;\n}\n"
    if on_disk:  # the module was purged by hand
        (root / "nginx.conf").write_text(brotli)
    path, text = ("conf.d/site.conf", "# new\n") if on_disk else ("nginx.conf", brotli)
    answer = write(text, path=path, check=True, diff=True)
    assert (answer["changed"], answer["tested"], answer["diff"]["after"]) == (True, True, text)
    assert write("fault\n", check=True)["failed"]
    assert 'unknown directive "brotli_static"' in write(text, path=path)["msg"]


def test_check_mode_knows_a_module_that_is_loaded(nginx, write, root, tmp_path):
    (root / "modules-enabled").mkdir()
    (root / "modules-enabled/50-mod-http-brotli-static.conf").touch()
    write("brotli_static on;\n", path="nginx.conf", check=True)
    assert "brotli_static on;" in (tmp_path / "seen/nginx.conf").read_text()


def test_check_mode_tests_nothing_where_the_disk_is_faulty_already(nginx, write, root):
    # An earlier task of a real run corrects it.
    (root / "nginx.conf").write_text("fault\n")
    answer = write("# new\n", check=True)
    assert (answer["changed"], answer["tested"]) == (True, False)
    assert write("# new\n")["failed"]


def test_diff_shows_the_old_text_and_a_removal(nginx, write, remove):
    write("# old\n")
    assert write("# new\n", diff=True)["diff"]["before"] == "# old\n"
    gone = remove(diff=True)["diff"]
    assert (gone["before"], gone["after"]) == ("# new\n", "")


def test_nothing_is_left_in_the_temporary_directory(nginx, write, tmp_path):
    write("# new\n")
    write("fault\n")
    assert not [path for path in (tmp_path / "remote").rglob("*") if path.name != "remote" and path.is_file()]


def test_several_files_are_tested_together_and_written_only_if_all_are_right(run_module, nginx, root, tmp_path):
    def run(text, **more):
        files = [
            {"path": str(root / "conf.d/site.conf"), "content": "# new\n"},
            {"path": str(root / "conf.d/other.conf"), "state": "absent"},
            {"path": str(root / "nginx.conf"), "content": f"include conf.d/*.conf;\n{text}\n"},
        ]
        return run_module(nginx_config, files=files, root=str(root), **more)

    before = tree(root)
    answer = run("fault")
    assert answer["failed"]
    assert "was not changed: nginx refuses the new configuration" in answer["msg"]
    assert tree(root) == before
    assert run("", check=True)["changed"]
    assert tree(root) == before
    answer = run("", diff=True)
    assert (answer["changed"], answer["tested"]) == (True, True)
    assert [os.path.basename(one["before_header"]) for one in answer["diff"]] == [
        "site.conf",
        "other.conf",
        "nginx.conf",
    ]
    assert (root / "conf.d/site.conf").read_text() == "# new\n"
    assert not (root / "conf.d/other.conf").exists()
    assert not run("")["changed"]
