"""vassal_file: what a vassal file says, its rehearsal, and what of it may be shown."""

import json
import re

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import vassal_file
from hypothesis import given
from hypothesis import strategies as st


def text(environment=None, *more):
    """The text of a vassal file, as the role writes it."""
    lines = [
        "; Ansible managed",
        "[launch]",
        "app = shop:app",
        "identifier = shop",
        "binary = /bin/false",
        f"environment = {json.dumps(environment or {'SECRET': 'tell nobody'})}",
        "socket = /run/emperor/shop/app.sock",
        "holder = /run/emperor/shop/holder.sock",
        "",
    ]
    return "\n".join([*lines, "[uwsgi]", "module = shop:app", *more, ""])


# --- generations


def test_a_complete_file_names_its_own_generation():
    content, generation = vassal_file.complete(text())
    assert re.fullmatch("[0-9a-f]{12}", generation)
    assert content == text() + f"add-header = X-Vassal: {generation}\n"
    assert vassal_file.generation_of(content) == generation


def test_a_file_of_another_hand_has_no_generation():
    assert vassal_file.generation_of(text()) == ""
    assert vassal_file.generation_of("") == ""


@given(st.text(), st.text())
def test_two_contents_have_one_generation_only_if_they_are_the_same(one, other):
    assert (vassal_file.complete(one)[1] == vassal_file.complete(other)[1]) == (one == other)


def test_bytes_that_are_no_text_make_a_generation_too():
    assert vassal_file.complete("\udc80")[1] != vassal_file.complete("\udc81")[1]


# --- what it says


def test_the_launch_section_is_read_as_the_wrapper_reads_it():
    content = text({"A": "%(x)s ; # = é"}, "mime-file = a", "mime-file = b", "cron = 1 ; 2")
    launch = vassal_file.launch(content)
    assert json.loads(launch["environment"]) == {"A": "%(x)s ; # = é"}
    assert launch["identifier"] == "shop"
    assert vassal_file.environment(content) == {"A": "%(x)s ; # = é"}


@pytest.mark.parametrize("broken", ["", "nothing of all this\n", "[uwsgi]\nmaster\n", "[uwsgi]\nmaster = true\n"])
def test_a_file_that_a_person_broke_has_an_empty_launch_section(broken):
    assert vassal_file.launch(broken).get("socket") is None


def test_what_a_person_left_of_the_launch_section_is_read():
    assert vassal_file.launch("[launch]\nsocket = /s\n\n[uwsgi]\nmaster\n").get("socket") == "/s"


@pytest.mark.parametrize(
    ("lines", "number"),
    [
        ([], 0),
        (["processes = 4"], 4),
        (["processes = 4", "processes = 12"], 12),  # uWSGI takes the last one
        (["cheaper-processes = 3", "processes = many", "; processes = 5", "processes = 5 "], 0),
    ],
)
def test_a_number_is_the_last_one_given(lines, number):
    assert vassal_file.number(text(None, *lines), "processes") == number


# --- the rehearsal


def options(content):
    """The lines of the section [uwsgi], as uWSGI takes them."""
    section = content.split("\n[uwsgi]\n")[1]
    return [tuple(line.split(" = ", 1)) for line in section.split("\n") if line and not line.startswith(";")]


OWN = [
    ("socket", "/run/emperor/shop/preflight.sock"),
    ("stats", "/run/emperor/shop/preflight.stats"),
    ("processes", "1"),
    ("vacuum", "true"),
]


def test_a_rehearsal_uses_nothing_the_real_instance_has():
    real = ["socket = /run/emperor/shop/%n.sock", "stats = /run/emperor/shop/%n.stats", "processes = 4"]
    more = ["vacuum = true", "cheaper = 1", "cheaper-algo = busyness", "http-socket = :80", "http = :81",
            "fastcgi-socket = x", "touch-reload = /x", "socket=/tight", "https = :443,a,b", "stats-http = true",
            "pidfile = /p", "safe-pidfile2 = /p", "master-fifo = /f", "logto = /l", "log-master = true",
            "spooler = /s", "cron2 = x", "unique-cron = x", "mule = true", "mules = 2", "farm = a:1",
            "smart-attach-daemon2 = x"]  # fmt: skip
    rehearsed = vassal_file.rehearsal(vassal_file.complete(text(None, *real, *more))[0], "/run/emperor/shop")
    found = options(rehearsed)
    assert found[0] == ("module", "shop:app")
    assert found[1][0] == "add-header"
    assert found[2:] == OWN


def test_a_rehearsal_neither_asks_for_the_held_socket_nor_writes_to_the_journal():
    launch = vassal_file.launch(vassal_file.rehearsal(text(), "/run"))
    assert sorted(launch) == ["app", "binary", "environment"]
    assert vassal_file.environment(vassal_file.rehearsal(text(), "/run")) == {"SECRET": "tell nobody"}


def test_a_rehearsal_keeps_every_other_option_as_it_is():
    kept = ["socket-timeout = 4", "mime-file = a\x85b\u2028c\x0bd", "harakiri = 60", "; socket = no", "threads = 16",
            "listen = 1024", "lazy-apps = true", "emule = x"]  # fmt: skip
    rehearsed = vassal_file.rehearsal(text(None, *kept), "/run")
    assert set(kept) <= set(rehearsed.split("\n"))


# --- a diff


def test_a_diff_shows_names_and_no_values():
    shown = vassal_file.shown(text({"KEY": "s3cret", "A": "b"}))
    assert "s3cret" not in shown
    assert re.search(r"^environment = A, KEY \(values: [0-9a-f]{8}\)$", shown, re.MULTILINE)
    assert "module = shop:app" in shown


def test_a_diff_shows_that_a_value_changed():
    assert vassal_file.shown(text({"A": "one"})) != vassal_file.shown(text({"A": "two"}))
    assert vassal_file.shown(text({"A": "one"})) == vassal_file.shown(text({"A": "one"}))


@pytest.mark.parametrize(
    "line",
    [
        'environment = {"A": "s3cret',
        "environment=s3cret",
        'environment = ["s3cret"]',
        "environment = 5",
        "Environment\t= s3cret",
        "  environment = s3cret",
    ],
)
def test_a_diff_hides_what_a_person_broke(line):
    shown = vassal_file.shown(text().replace('environment = {"SECRET": "tell nobody"}', line))
    assert "s3cret" not in shown
    assert "environment = unreadable (values: " in shown
    assert "module = shop:app" in shown


def test_a_diff_hides_an_environment_that_a_person_spread_over_lines():
    spread = 'environment = {\n    "A": "s3cret",\n\n    "B": "s3cret too"\n    }\n'
    content = text().replace('environment = {"SECRET": "tell nobody"}\n', spread)
    assert vassal_file.environment(content) == {"A": "s3cret", "B": "s3cret too"}  # the wrapper reads it
    shown = vassal_file.shown(content)
    assert "s3cret" not in shown
    assert re.search(r"^environment = A, B \(values: [0-9a-f]{8}\)\nsocket = ", shown, re.MULTILINE)


@given(st.dictionaries(st.sampled_from("ABC"), st.text(st.sampled_from('xyz"\\=\n ;'), min_size=3), min_size=1))
def test_no_value_is_in_a_diff(environment):
    environment = {name: f"<{value}>" for name, value in environment.items()}
    shown = vassal_file.shown(text(environment))
    assert not [value for value in environment.values() if json.dumps(value)[1:-1] in shown]


def test_a_diff_of_no_file_is_empty():
    assert vassal_file.shown(None) == ""


# --- what was rehearsed

PLANNED = [
    "processes = 4",
    "cheaper = 2",
    "cheaper-algo = busyness",
    "max-requests = 9",
    "max-requests-delta = 1",
    "max-worker-lifetime = 60",
    "max-worker-lifetime-delta = 6",
    "min-worker-lifetime = 10",
    "hook-accepting = callret:PyRun_SimpleString import uwsgi; recycle = {}; exec()",
    "; A comment.",
    "add-header = X-Vassal: 123456789abc",
]


def test_what_follows_from_the_measured_size_is_no_reason_to_measure_again():
    plain = "[uwsgi]\nmodule = a:b\nthreads = 4\n"
    found = vassal_file.rehearsed(plain, "")
    assert re.fullmatch("[0-9a-f]{12}", found)
    for line in PLANNED:
        assert vassal_file.rehearsed(f"{plain}{line}\n", "") == found


@pytest.mark.parametrize(
    "line", ["module = a:c", "threads = 5", "lazy-apps = true", "add-header = X: y", "processes-x = 1"]
)
def test_whatever_else_changes_is_measured_anew(line):
    assert vassal_file.rehearsed(f"[uwsgi]\n{line}\n", "") != vassal_file.rehearsed("[uwsgi]\n", "")


def test_a_release_that_the_file_does_not_name_is_measured_of_its_own():
    assert vassal_file.rehearsed("[uwsgi]\n", "/r1") != vassal_file.rehearsed("[uwsgi]\n", "/r2")


def test_the_one_worker_of_a_rehearsal_is_not_recycled():
    found = vassal_file.rehearsal("[uwsgi]\n" + "\n".join(PLANNED), "/run/x")
    assert "max-requests" not in found
    assert "hook-accepting" not in found


def test_the_hooks_of_the_app_belong_to_its_rehearsal():
    hook = "hook-accepting = write:/srv/shop/forked yes"
    assert hook in vassal_file.rehearsal(f"[uwsgi]\n{hook}\n", "/run/x")
    assert vassal_file.rehearsed(f"[uwsgi]\n{hook}\n", "") != vassal_file.rehearsed("[uwsgi]\n", "")
