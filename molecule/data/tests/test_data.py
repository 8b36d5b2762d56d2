"""What apps write is theirs, whatever comes and goes; what they read is changed safely."""

import os
import signal
import time

HOME = "/srv/flask_apps/notes"
# A person at a terminal, who waits for the prompt.
TERMINAL = """
import os, pty, signal
signal.alarm(60)
child, terminal = pty.fork()
if not child:
    os.execvp("emperor-run", ["emperor-run", "notes", "sh"])
said = b""
def wait_for(text):
    global said
    while text not in said:
        said += os.read(terminal, 1000)
wait_for(b"$ ")
os.write(terminal, b'test -t 0 && echo $((7 * 191)) $NOTES_KEY\\n')
wait_for(b"1337 the key of the notes")
os.write(terminal, b"exit\\n")
os.waitpid(child, 0)
print(said.decode())
"""


def until(host, command, seconds=60):
    """Wait until a command succeeds on a host."""
    end = time.monotonic() + seconds
    while host.run(command).rc:
        assert time.monotonic() < end, command
        time.sleep(0.05)


def killed_when(process, host, command):
    """Kill a run, and its module on the host, as soon as a command succeeds there."""
    until(host, command)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    host.run("pkill -KILL --euid root '^python3'")  # the Emperor's process is named uwsgi


def test_flasks_tutorial_keeps_its_posts_through_a_deploy(apps, client, variant, playbook):
    browser = client("flaskr")
    person = {"username": "ada", "password": "lovelace"}
    assert browser.ask("POST", "/auth/register", person)[0] == 302
    assert browser.ask("POST", "/auth/login", person)[0] == 302
    assert browser.ask("POST", "/create", {"title": "First post", "body": "kept"})[0] == 302
    changed = variant(apps["flaskr"], {"flaskr/static/style.css": "/* new */"})
    run = playbook("deploy", "-e", "app=flaskr", "--limit=webservers[0]", variables={"flask_apps": [changed]})
    assert not run.failed, run.error
    assert "/* new */" in browser.ask("GET", "/static/style.css")[1]
    status, page = browser.ask("GET", "/")
    assert status == 200
    assert "First post" in page
    assert "Log Out" in page, "the session ended: instance/config.py has the key"


def test_hooks_that_prepare_run_once_per_fleet(fleet):
    there = [host.file("/srv/flask_apps/flaskr/shared/instance/flaskr.sqlite").exists for host in fleet]
    assert there == [True, False]


def test_commands_are_run_in_the_release_as_the_app(client, playbook, fleet):
    name = fleet[1].check_output("hostname")
    run = playbook("run", "-e", "app=flaskr", "-e", f"host={name}", "-e", "command=flask --app flaskr init-db")
    assert not run.failed, run.error
    assert "Initialized the database." in run.output
    assert client("flaskr", 1).ask("GET", "/")[0] == 200
    command = 'command=sh -c "id -un; pwd; echo $NOTES_KEY $RELEASE_ID; cat instance/config.py; touch /etc/x; exit 3"'
    run = playbook("run", "-vvv", "-e", "app=notes", "-e", command)
    assert run.failed
    release = client("notes").json("/")["release"]
    for line in ("notes\n", f"{HOME}/releases/{release}/src\n", f"******** {release}\n", "COLOUR = 'light"):
        assert (line in run.output) == (line != "COLOUR = 'light"), (line, run.output)
    assert "touch: cannot touch '/etc/x': Read-only file system" in run.output
    assert "ended with exit code 3" in run.error
    assert "the key of the notes" not in run.output
    run = playbook("run", "-e", "app=notes", "-e", "command=true", "-e", "release=0123456789ab")
    assert f"choose from {release}" in run.output


def test_commands_are_interactive_on_the_host(fleet):
    for host in fleet:
        assert "1337 the key of the notes" in host.check_output("python3 -c %s", TERMINAL)
        assert host.run("emperor-run notes sh -c 'exit 7'").rc == 7
        refused = host.run("setpriv --reuid=notes --regid=notes --clear-groups emperor-run notes id")
        assert "use sudo" in refused.stderr


def test_data_outlives_releases_rollbacks_and_pruning(apps, client, variant, playbook, fleet):
    browser = client("notes")
    first = browser.json("/")["release"]
    assert browser.json("/uploads") == ["sample.txt"]
    browser.json("/notes", "before")
    browser.json("/uploads/mine.txt", "a file of mine")
    fleet[0].check_output(f"rm {HOME}/shared/uploads/sample.txt")
    assert browser.ask("GET", "/files/mine.txt") == (200, "a file of mine")
    with open(f"{apps['notes']['source']['path']}/notes.py", encoding="utf-8") as file:
        # Fails in its trial start unless the hook has run before.
        needs = f'{file.read()}\n(INSTANCE / "migrated").read_text()\n'
    new = variant(apps["notes"], {"notes.py": needs})
    new["hooks"] = {**new["hooks"], "prepare": ["touch instance/migrated"]}
    run = playbook("deploy", "-e", "app=notes", "--limit=webservers[0]", variables={"flask_apps": [new]})
    assert not run.failed, run.error
    assert browser.json("/")["release"] != first
    browser.json("/notes", "between")
    run = playbook("rollback", "-e", "app=notes", "--limit=webservers[0]")
    assert not run.failed, run.error
    run = playbook("site", "--limit=webservers[0]", variables={"flask_apps_keep_releases": 1})
    assert not run.failed, run.error
    assert fleet[0].check_output(f"ls {HOME}/releases") == first
    assert browser.json("/") == {"colour": "light green of notes", "prepared": False, "release": first}
    assert browser.json("/notes") == ["before", "between"]
    assert browser.json("/uploads") == ["mine.txt"], "what was deleted came back, or what was there is gone"
    for path, mode in (
        (f"{HOME}/shared/instance", "notes:notes 750"),
        (f"{HOME}/shared/uploads", "notes:www-data 2750"),
    ):
        assert fleet[0].check_output(f"stat --format='%U:%G %a' {path}") == mode


def test_changed_configuration_file_goes_the_way_of_a_switch(apps, client, writer, playbook, start_playbook, fleet):
    notes = apps["notes"]

    def with_content(text):
        return {"flask_apps": [notes | {"files": [{"path": "instance/config.py", "content": text}]}]}

    before = client("notes").json("/")
    arguments = ("deploy", "-vvv", "--diff", "-e", "app=notes")
    with writer() as load:
        run = playbook(*arguments, variables=with_content("COLOUR = broken-secret(\n"))
        assert run.failed
        assert "SyntaxError" in run.error
        assert "broken-secret" not in run.output
        assert client("notes").json("/") == before
        # Without -vvv: nobody reads what it prints before it is killed, and a full pipe would stop it.
        slow = with_content("import time; time.sleep(30)\nCOLOUR = 'never'\n")
        broken = start_playbook("deploy", "-e", "app=notes", variables=slow)
        killed_when(broken, fleet[0], f"test -L {HOME}/files/before")
        run = playbook(*arguments, variables=with_content("COLOUR = 'deep blue of notes'\n"))
        assert not run.failed, run.error
        assert "configuration files" in run.output
        assert "deep blue" not in run.output
    assert not load.failures, load.failures[:3]
    for number, host in enumerate(fleet):
        assert client("notes", number).json("/")["colour"] == "deep blue of notes"
        assert client("notes", number).json("/")["release"] == before["release"]
        assert len(host.check_output(f"ls {HOME}/files").split()) == 2, "files of before are still there"
        assert (
            host.check_output(f"stat --format='%U:%G %a' {HOME}/files/current/home/instance/config.py")
            == "root:notes 640"
        )


def test_other_apps_are_deployed_when_the_user_says_so(apps, client, playbook):
    bad = apps["flaskr"] | {"build": ["true"], "hooks": {"prepare": ["python -c 'import none'"]}}
    changed = apps["notes"] | {"files": [{"path": "instance/config.py", "content": "COLOUR = 'red'\n"}]}
    variables = {"flask_apps": [bad, changed], "flask_apps_on_failure": "continue"}
    run = playbook("site", "--limit=webservers[0]", variables=variables)
    assert run.failed
    told = run.error.rpartition("Not deployed: flaskr (flask_apps_on_failure is continue")[2]
    assert "ended with exit code 1: the module none is missing: add what brings it" in told, run.error
    assert client("notes").json("/")["colour"] == "red"
    assert client("flaskr").ask("GET", "/auth/login")[0] == 200


def test_backup_while_requests_run_is_restored_on_a_host_without_the_app(
    client, writer, playbook, start_playbook, fleet, tmp_path
):
    browser = client("notes")
    assert not playbook("site").failed
    with writer() as load:
        time.sleep(1)
        certain = list(load.taken)
        run = playbook("backup", "-e", "app=notes", "-e", f"to={tmp_path}")
        assert not run.failed, run.error
    assert not load.failures, load.failures[:3]
    assert "the key of the notes" not in run.output
    archives = sorted(tmp_path.iterdir())
    assert [archive.stat().st_mode & 0o777 for archive in archives] == [0o600] * len(fleet)
    name = fleet[0].check_output("hostname")
    (archive,) = [archive for archive in archives if name in archive.name]
    assert fleet[0].check_output(f"ls {HOME}/backups {HOME}/cache | grep backup-; true") == ""

    arguments = ("restore", "-e", "app=notes", "-e", f"from={archive}")
    run = playbook(*arguments)
    assert "has data on this host, which a restore would replace" in run.error
    run = playbook("remove", "-e", "app=notes", "-e", "confirm=yes", "--limit=webservers[0]")
    assert not run.failed, run.error
    assert not fleet[0].file(HOME).exists
    killed_when(start_playbook(*arguments), fleet[0], f"test -e {HOME}/restore/archive")
    run = playbook(*arguments)
    assert not run.failed, run.error

    notes = browser.json("/notes")
    assert notes[:2] == ["before", "between"]
    assert set(certain) <= set(notes)
    assert browser.json("/uploads") == ["mine.txt"]
    assert browser.ask("GET", "/files/mine.txt") == (200, "a file of mine")
    assert browser.json("/")["colour"] == "light green of notes"
    assert fleet[0].file(f"{HOME}/shared/instance/restored").content_string == "dumped\n"
    assert not fleet[0].file(f"{HOME}/restore").exists
    assert playbook("site").changed == 0
