"""The module `vassal`: an app runs as its file says, or as it did before."""

import contextlib
import json
import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import uwsgi_client
from ansible_collections.flaskops.emperor.plugins.modules import vassal
from ansible_collections.flaskops.emperor.plugins.modules.vassal import Unhealthy
from hypothesis import given
from hypothesis import strategies as st


def text(version="1", environment=None, *more):
    """The text of a vassal file, as the role writes it."""
    variables = json.dumps(environment or {"SECRET": "tell nobody"})
    lines = [
        "; Ansible managed",
        "[launch]",
        "identifier = shop",
        "binary = /bin/false",
        f"environment = {variables}",
        "",
    ]
    return "\n".join([*lines, "[uwsgi]", f"module = {version}:app", *more, ""])


# --- the text of vassal files


def test_a_complete_file_names_its_own_generation():
    content, generation = vassal.complete(text())
    assert re.fullmatch("[0-9a-f]{12}", generation)
    assert content == text() + f"add-header = X-Vassal: {generation}\n"
    assert vassal.generation_of(content) == generation


def test_a_file_of_another_hand_has_no_generation():
    assert vassal.generation_of(text()) == ""
    assert vassal.generation_of("") == ""


@given(st.text(), st.text())
def test_two_contents_have_one_generation_only_if_they_are_the_same(one, other):
    assert (vassal.complete(one)[1] == vassal.complete(other)[1]) == (one == other)


def test_the_launch_section_is_read_as_the_wrapper_reads_it():
    content = text("1", {"A": "%(x)s ; # = é"}, "mime-file = a", "mime-file = b", "cron = 1 ; 2")
    launch = vassal.launch(content)
    assert json.loads(launch["environment"]) == {"A": "%(x)s ; # = é"}
    assert launch["identifier"] == "shop"


def options(content):
    """The lines of the section [uwsgi], as uWSGI takes them."""
    section = content.split("\n[uwsgi]\n")[1]
    return [tuple(line.split(" = ", 1)) for line in section.split("\n") if line and not line.startswith(";")]


def test_a_rehearsal_uses_nothing_the_real_instance_has():
    own = [
        "socket = /run/emperor/shop/app.sock",
        "stats = /run/emperor/shop/stats.sock",
        "processes = 4",
        "vacuum = true",
    ]
    more = ["cheaper = 1", "cheaper-algo = busyness", "http-socket = :80", "http = :81", "fastcgi-socket = x",
            "touch-reload = /x", "socket=/tight", "https = :443,a,b"]  # fmt: skip
    rehearsed = vassal.rehearsal(vassal.complete(text("1", None, *own, *more))[0], "/run/emperor/shop")
    found = options(rehearsed)
    assert found[0] == ("module", "1:app")
    assert found[1][0] == "add-header"
    assert found[2:] == [("socket", "/run/emperor/shop/preflight.sock"), ("processes", "1"), ("vacuum", "true")]
    assert "identifier" not in vassal.launch(rehearsed)
    assert vassal.launch(rehearsed)["binary"] == "/bin/false"


def test_a_rehearsal_keeps_every_other_option_as_it_is():
    kept = ["socket-timeout = 4", "mime-file = a\x85b\u2028c\x0bd", "harakiri = 60", "; socket = no"]
    rehearsed = vassal.rehearsal(text("1", None, *kept), "/run")
    assert set(kept) <= set(rehearsed.split("\n"))


def test_values_of_the_environment_are_hidden_in_messages():
    content = text("1", {"KEY": "s3cret!", "LONGER": "s3cret!!", "A": "abcd", "SLASH": "/tok/en", "PATH": "/usr/bin"})
    message = "KeyError: s3cret!! or s3cret! or /tok/en in abcd /usr/bin"
    assert vassal.censor(message, content) == "KeyError: ******** or ******** or ******** in abcd /usr/bin"


@given(st.dictionaries(st.sampled_from("ABC"), st.text(min_size=5).filter(lambda value: "*" not in value)))
def test_no_hidden_value_is_left_in_a_message(environment):
    message = vassal.censor(" ".join(environment.values()), text("1", environment or {"A": "x"}))
    assert not [value for value in environment.values() if value in message]


def test_a_diff_shows_names_and_no_values():
    shown = vassal.shown(text("1", {"KEY": "s3cret", "A": "b"}))
    assert "s3cret" not in shown
    assert re.search(r"^environment = A, KEY \(values: [0-9a-f]{8}\)$", shown, re.MULTILINE)
    assert "module = 1:app" in shown


def test_a_diff_shows_that_a_value_changed():
    assert vassal.shown(text("1", {"A": "one"})) != vassal.shown(text("1", {"A": "two"}))
    assert vassal.shown(text("1", {"A": "one"})) == vassal.shown(text("1", {"A": "one"}))


@pytest.mark.parametrize(
    "line", ['environment = {"A": "s3cret', "environment=s3cret", 'environment = ["s3cret"]', "environment = 5"]
)
def test_a_diff_hides_what_a_person_broke(line):
    shown = vassal.shown(re.sub("environment = .*", line, text()))
    assert "s3cret" not in shown
    assert "environment = unreadable (values: " in shown


def test_a_diff_of_no_file_is_empty():
    assert vassal.shown(None) == ""


def test_the_log_is_shown_without_uwsgis_own_words():
    log = [
        "*** Starting uWSGI 2.0.30 ***",
        "compiled with version: 14",
        "Traceback:",
        "",
        "  boom",
        "spawned uWSGI worker 1",
    ]
    assert vassal.excerpt("\n".join(log)) == "Traceback:\n  boom"
    assert vassal.excerpt("\n".join(f"line {number}" for number in range(99))).splitlines() == [
        f"line {number}" for number in range(99 - vassal.LOG_LINES, 99)
    ]


# --- files


def test_a_file_is_written_in_one_step_for_its_owner_alone(tmp_path, deeds):
    path = str(tmp_path / "shop.ini")
    vassal.write(path, "one \udc80", 7, 8)
    inode = os.stat(path).st_ino
    vassal.write(path, "two", 7, 8)
    assert os.stat(path).st_ino != inode  # a reader of the old file is not disturbed
    assert os.stat(path).st_mode & 0o777 == 0o400
    assert vassal.read(path) == "two"
    assert deeds.of("own") == [[path + ".new", 7, 8]] * 2
    assert os.listdir(tmp_path) == ["shop.ini"]


def test_what_is_staged_is_no_vassal_yet(tmp_path, deeds):
    # The Emperor takes every *.ini for a vassal.
    vassal.write(str(tmp_path / "shop.ini"), "x", 7, 8)
    assert not deeds.of("own")[0][0].endswith(".ini")
    assert not vassal.KNOWN_GOOD.endswith(".ini")


def test_root_writes_through_no_link_an_app_put_there(tmp_path, deeds):
    (tmp_path / "shadow").write_text("root's")
    (tmp_path / "preflight.ini.new").symlink_to("shadow")
    vassal.write(str(tmp_path / "preflight.ini"), "x", 7, 8)
    assert (tmp_path / "shadow").read_text() == "root's"
    assert (tmp_path / "preflight.ini").read_text() == "x"
    assert not (tmp_path / "preflight.ini").is_symlink()


def test_root_writes_through_no_link_that_an_app_puts_there_at_the_last_moment(tmp_path, deeds, monkeypatch):
    (tmp_path / "shadow").write_text("root's")
    monkeypatch.setattr(vassal, "remove", lambda path: os.symlink("shadow", path))
    with pytest.raises(FileExistsError):
        vassal.write(str(tmp_path / "preflight.ini"), "x", 7, 8)
    assert (tmp_path / "shadow").read_text() == "root's"


def test_what_a_killed_run_staged_is_in_nobodys_way(tmp_path, deeds):
    (tmp_path / "shop.ini.new").write_text("half")
    (tmp_path / "shop.ini.new").chmod(0o400)
    vassal.write(str(tmp_path / "shop.ini"), "x", 7, 8)
    assert vassal.read(str(tmp_path / "shop.ini")) == "x"


def test_bytes_that_are_no_text_survive_reading_and_writing(tmp_path, deeds):
    (tmp_path / "a").write_bytes(b"\xff\xc3\xbc")
    vassal.write(str(tmp_path / "b"), vassal.read(str(tmp_path / "a")) or "", 7, 8)
    assert (tmp_path / "b").read_bytes() == b"\xff\xc3\xbc"
    assert vassal.read(str(tmp_path / "none")) is None


# --- a running app


class App:
    """An app behind a Unix socket, and its Emperor: it answers as the vassal file on disk says.

    A file that says `broken` makes it answer with status 500, one that says `silent` not at all.
    """

    def __init__(self, sock, file):
        self.file, self.ill, self.asked = file, False, []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(sock))
        self.listener.listen()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                connection = self.listener.accept()[0]
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                self.asked.append(connection.recv(65536))
                content = vassal.read(str(self.file)) or "silent"
                if "silent" in content:
                    continue
                status = "500 Oh no" if "broken" in content or self.ill else "200 OK"
                header = f"X-Vassal: {vassal.generation_of(content)}"
                connection.sendall(f"HTTP/1.1 {status}\r\n{header}\r\n\r\nwhat happened".encode())

    def stop(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(5)


@pytest.fixture
def params(tmp_path):
    for name in ("vassals", "run"):
        (tmp_path / name).mkdir()
    return {
        "name": "shop",
        "path": str(tmp_path / "vassals/shop.ini"),
        "wrapper": str(tmp_path / "wrapper"),
        "run": str(tmp_path / "run"),
        "health_path": "/healthz",
        "health_status": 200,
        "health_host": "shop.example.com",
        "start_timeout": 0.3,
        "drain_timeout": 0,
    }


@pytest.fixture
def app(params, tmp_path):
    running = App(tmp_path / "run/app.sock", tmp_path / "vassals/shop.ini")
    yield running
    running.stop()


@pytest.fixture
def host(params, deeds, program, monkeypatch):
    """What is on the host, with preflight as good as passed; `host.rehearsed` has what was rehearsed."""
    program("journalctl", 'echo "the log of $*"')

    class Host:
        path, good = params["path"], params["path"] + ".good"

        def __init__(self):
            self.rehearsed = []

        def deploy(self, *arguments, **more):
            return vassal.present({**params, **more}, *vassal.complete(text(*arguments)))

        def runs(self):
            return vassal.read(self.path)

        def put(self, *arguments):
            """As an earlier run left it."""
            vassal.write(self.path, vassal.complete(text(*arguments))[0], 7, 8)

    found = Host()
    monkeypatch.setattr(vassal, "preflight", lambda content, *_rest: found.rehearsed.append(content))
    return found


def complete(*arguments):
    return vassal.complete(text(*arguments))[0]


def test_the_first_deploy_starts_the_app(host, app):
    assert host.deploy("1") is True
    assert host.runs() == complete("1")
    assert host.rehearsed == [complete("1")]
    assert b"/healthz" in app.asked[-1]
    assert b"shop.example.com" in app.asked[-1]


def test_an_app_that_runs_as_it_should_is_not_touched(host, app):
    host.deploy("1")
    before = os.stat(host.path)
    assert host.deploy("1") is False
    assert os.stat(host.path) == before
    assert len(host.rehearsed) == 1


def test_a_change_takes_over_and_leaves_nothing_behind(host, app):
    host.deploy("1")
    assert host.deploy("2") is True
    assert host.runs() == complete("2")
    assert not os.path.exists(host.good)


def test_the_file_belongs_to_the_apps_user_and_the_kept_one_to_root(host, app, deeds):
    host.deploy("1")
    host.deploy("2")
    assert deeds.of("own") == [
        [host.path + ".new", os.getuid(), os.getgid()],
        [host.good + ".new", 0, 0],
        [host.path + ".new", os.getuid(), os.getgid()],
    ]


def test_the_file_that_works_is_kept_beside_before_the_new_one_is_written(host, app, monkeypatch):
    host.deploy("1")
    written = []
    real = vassal.write

    def write(path, content, *owner):
        written.append((path, content))
        real(path, content, *owner)

    monkeypatch.setattr(vassal, "write", write)
    host.deploy("2")
    assert written == [(host.good, complete("1")), (host.path, complete("2"))]


def test_a_failed_rehearsal_touches_nothing(host, app, monkeypatch):
    host.deploy("1")
    before = os.stat(host.path)

    def refuse(*_arguments):
        raise Unhealthy("no module named shop")

    monkeypatch.setattr(vassal, "preflight", refuse)
    with pytest.raises(Unhealthy, match=r"was not changed, because .*app would not start: no module named shop"):
        host.deploy("2")
    assert os.stat(host.path) == before
    assert os.listdir(os.path.dirname(host.path)) == ["shop.ini"]


@pytest.mark.parametrize("fault", ["broken", "silent"])
def test_a_failed_start_brings_the_former_file_back(fault, host, app):
    host.deploy("1")
    with pytest.raises(Unhealthy) as failure:
        host.deploy(fault)
    assert str(failure.value).startswith("did not start: after 0 s it ")
    assert "The earlier release serves again." in str(failure.value)
    assert "the log of --no-pager" in str(failure.value)
    assert "--identifier=shop" in str(failure.value)
    assert host.runs() == complete("1")


def test_an_app_that_never_worked_is_stopped_again(host, app):
    with pytest.raises(Unhealthy, match="It was stopped, for there is no earlier release to return to"):
        host.deploy("broken")
    assert host.runs() is None


def test_the_answer_is_told(host, app):
    with pytest.raises(Unhealthy, match="it answers /healthz with status 500 instead of 200: what happened"):
        host.deploy("broken")


def test_another_status_may_be_the_healthy_one(host, app):
    assert host.deploy("broken", health_status=500) is True


def test_the_old_instance_that_still_answers_is_waited_out(host, app, monkeypatch):
    host.deploy("1")
    real, answers = uwsgi_client.request, []

    def request(*arguments, **more):
        answer = real(*arguments, **more)
        answers.append(answer.headers["x-vassal"])
        if len(answers) in (2, 3):  # after the first, which asks the one that runs
            answer.headers["x-vassal"] = answers[0]
        return answer

    monkeypatch.setattr(uwsgi_client, "request", request)
    assert host.deploy("2", start_timeout=5) is True
    assert len(answers) == 4


# A run was killed after it had written "2"; ".good" has "1", which worked.


@pytest.fixture
def killed(host, app):
    def at(version):
        host.put("1")
        os.rename(host.path, host.good)
        host.put(version)

    return at


def test_a_killed_run_whose_app_works_is_finished(killed, host):
    killed("2")
    assert host.deploy("2") is False
    assert not os.path.exists(host.good)


def test_a_killed_run_whose_app_does_not_work_is_undone(killed, host):
    killed("broken")
    with pytest.raises(Unhealthy, match=r"runs as configured, but after 0 s .*\. The earlier release serves again\."):
        host.deploy("broken")
    assert host.runs() == complete("1")


def test_after_a_killed_run_another_failure_goes_back_to_what_last_worked(killed, host):
    # Not to the file on disk, which never worked.
    killed("broken")
    with pytest.raises(Unhealthy, match="The earlier release serves again"):
        host.deploy("broken too")
    assert host.runs() == complete("1")


def test_after_a_killed_run_a_good_release_heals_all(killed, host):
    killed("broken")
    assert host.deploy("3") is True
    assert host.runs() == complete("3")
    assert not os.path.exists(host.good)


def test_an_app_that_falls_ill_without_a_deploy_is_left_as_it_is(host, app):
    host.deploy("1")
    app.ill = True
    with pytest.raises(Unhealthy, match=r"runs as configured, but after 0 s .*\. It was left as it is\."):
        host.deploy("1")
    assert host.runs() == complete("1")


def test_an_app_that_falls_ill_after_a_failed_deploy_is_left_as_it_is_too(host, app):
    # The failed deploy went back to "1", and has left it as the one that last worked.
    host.deploy("1")
    with pytest.raises(Unhealthy):
        host.deploy("broken")
    app.ill = True
    with pytest.raises(Unhealthy, match="It was left as it is"):
        host.deploy("1")
    assert host.runs() == complete("1")


def test_when_going_back_does_not_help_this_is_said(host, app, monkeypatch):
    host.deploy("1")
    real = vassal.write

    def write(path, *rest):
        app.ill = path == host.path  # from the first change of the file on
        real(path, *rest)

    monkeypatch.setattr(vassal, "write", write)
    with pytest.raises(Unhealthy, match="The earlier vassal file was put back, but after 0 s it answers"):
        host.deploy("broken")
    assert host.runs() == complete("1")


# --- preflight


# Starts as the wrapper would, reads the file it is given and answers as uWSGI would, until it is ended.
SERVER = f"""#!{sys.executable}
import os, re, signal, socket, subprocess, sys
content = open(sys.argv[sys.argv.index("--ini") + 1]).read()
print("Traceback: it has", sorted(os.environ), flush=True)
if "module = gone" in content:
    sys.exit(22)
listener = socket.socket(socket.AF_UNIX)
listener.bind(re.search("^socket = (.*)$", content, re.M).group(1))
listener.listen()
if "stubborn" in content:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "60"])
open(os.path.join(os.path.dirname(sys.argv[2]), "child"), "w").write(str(child.pid))
while True:
    connection = listener.accept()[0]
    connection.recv(65536)
    status = "500 Oh" if "broken" in content else "200 OK"
    generation = re.search("X-Vassal: (.*)$", content, re.M).group(1)
    connection.sendall(f"HTTP/1.1 {{status}}\\r\\nX-Vassal: {{generation}}\\r\\n\\r\\n".encode())
    connection.close()
"""


@pytest.fixture
def rehearse(params, deeds, tmp_path):
    (tmp_path / "wrapper").write_text(SERVER)
    (tmp_path / "wrapper").chmod(0o755)

    def run(version):
        content, generation = vassal.complete(text(version))
        vassal.preflight(content, generation, {**params, "start_timeout": 2}, pwd.getpwnam("shop"))

    return run


def ended(pid):
    """Whether a process is gone, or dead and only not buried by its adoptive parent."""
    for _try in range(50):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def test_a_good_app_passes_and_leaves_nothing(rehearse, tmp_path, deeds):
    rehearse("1")
    assert os.listdir(tmp_path / "run") == ["child"]
    assert ended(int((tmp_path / "run/child").read_text()))
    (command, uid, gid) = deeds.of("run as")[-1]
    assert command[-3:] == [str(tmp_path / "wrapper"), "--ini", str(tmp_path / "run/preflight.ini")]
    assert (uid, gid) == (os.getuid(), os.getgid())


def test_an_app_that_ends_is_not_waited_for_and_its_last_words_are_told(rehearse, tmp_path):
    began = time.monotonic()
    with pytest.raises(Unhealthy) as failure:
        rehearse("gone")
    assert time.monotonic() - began < 2
    assert str(failure.value).startswith("it ends before it answers (exit code 22)\n")
    assert "Traceback: it has" in str(failure.value)
    assert "PATH" not in str(failure.value)  # the environment is the vassal file's, nothing of root's
    assert os.listdir(tmp_path / "run") == []


def test_an_app_that_answers_badly_is_told_and_ended(rehearse, tmp_path):
    with pytest.raises(Unhealthy, match="after 2 s it answers /healthz with status 500"):
        rehearse("broken")
    assert os.listdir(tmp_path / "run") == ["child"]
    assert ended(int((tmp_path / "run/child").read_text()))


def test_an_app_that_does_not_obey_is_killed_with_its_children(rehearse, tmp_path, monkeypatch):
    real = subprocess.Popen.wait
    monkeypatch.setattr(subprocess.Popen, "wait", lambda self, timeout=None: real(self, min(timeout or 9, 0.2)))
    rehearse("stubborn")
    assert ended(int((tmp_path / "run/child").read_text()))


# --- absent


@pytest.fixture
def processes(monkeypatch):
    """The processes of the app's user are those in this list (not all of whoever runs the tests)."""
    mine: list[subprocess.Popen[bytes]] = []
    monkeypatch.setattr(vassal, "processes_of", lambda uid: [one.pid for one in mine if one.poll() is None])
    yield mine
    for one in mine:
        one.kill()
        one.wait()


def test_an_absent_app_loses_its_files(params, deeds, processes):
    for suffix in ("", ".good"):
        vassal.write(params["path"] + suffix, "x", 7, 8)
    assert vassal.absent(params) is True
    assert os.listdir(os.path.dirname(params["path"])) == []
    assert vassal.absent(params) is False


def test_running_requests_may_end(params, deeds, processes):
    vassal.write(params["path"], "x", 7, 8)
    processes.append(subprocess.Popen(["sleep", "0.3"]))
    assert vassal.absent(params) is True
    assert processes[0].returncode == 0


def test_what_does_not_end_is_killed(params, deeds, processes):
    processes.append(subprocess.Popen(["sleep", "60"]))
    assert vassal.absent({**params, "drain_timeout": -15}) is True  # 15 more seconds are for the Emperor
    assert processes[0].wait(5) == -signal.SIGKILL


def test_an_app_without_a_user_is_absent(params, monkeypatch):
    def nobody(name):
        raise KeyError(name)

    monkeypatch.setattr(pwd, "getpwnam", nobody)
    assert vassal.absent(params) is False


def test_the_processes_of_a_user_are_found():
    assert os.getpid() in vassal.processes_of(os.getuid())
    assert vassal.processes_of(4_000_000_000) == []


# --- the module


@pytest.fixture
def module(run_module, params, host):
    arguments = {**params, "start_timeout": 1}

    def run(version="1", environment=None, **more):
        return run_module(vassal, **{**arguments, "content": text(version, environment), **more})

    return run


def test_the_module_deploys_and_says_which_generation(module, app, host):
    answer = module("1")
    assert answer["changed"]
    assert answer["generation"] == vassal.generation_of(host.runs())
    again = module("1")
    assert (again["changed"], again["generation"]) == (False, answer["generation"])


def test_check_mode_says_what_would_be_and_does_nothing(module, app, host):
    answer = module("1", check=True)
    assert answer["changed"]
    assert host.runs() is None
    module("1")
    assert not module("1", check=True)["changed"]
    assert module("2", check=True)["changed"]
    assert module(state="absent", check=True)["changed"]
    assert host.runs() == complete("1")
    assert app.asked  # by the one real run
    assert len(host.rehearsed) == 1


def test_the_diff_shows_the_change_without_values(module, app):
    module("1", {"KEY": "s3cret one"})
    answer = module("2", {"KEY": "s3cret two"}, diff=True)
    assert "module = 1:app" in answer["diff"]["before"]
    assert "module = 2:app" in answer["diff"]["after"]
    assert "environment = KEY (values: " in answer["diff"]["after"]
    assert "s3cret" not in json.dumps(answer)


def test_a_failure_names_the_app_and_no_value(module, app, program):
    program("journalctl", "echo 'KeyError: s3cret value'")
    answer = module("broken", {"KEY": "s3cret value"})
    assert answer["failed"]
    assert answer["msg"].startswith("The app shop did not start: after 1 s it answers /healthz")
    assert answer["msg"].endswith("KeyError: ********")
    assert "s3cret" not in json.dumps(answer)


def test_the_module_removes_the_app(module, app, host, processes):
    module("1")
    answer = module(state="absent", diff=True)
    assert answer["changed"]
    assert "module = 1:app" in answer["diff"]["before"]
    assert answer["diff"]["after"] == ""
    assert host.runs() is None
    assert not module(state="absent")["changed"]


def test_content_is_needed_for_an_app_to_run(run_module, tmp_path):
    answer = run_module(vassal, name="shop", path=str(tmp_path / "shop.ini"), run=str(tmp_path))
    assert "content" in answer["msg"]
