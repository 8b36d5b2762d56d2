"""A vassal as data: what its file says, its trial start, and what of it may be shown."""

import json
import re

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.config import RECYCLING, Config, shown
from hypothesis import given
from hypothesis import strategies as st

LAUNCH = {
    "app": "shop:app",
    "identifier": "shop",
    "binary": "/bin/false",
    "environment": {"SECRET": "tell nobody"},
    "socket": "/run/emperor-sockets/shop/app.sock",
    "holder": "/run/emperor-sockets/shop/holder.sock",
}


def config(*options, environment=None, **launch):
    """A small vassal."""
    launch = {**LAUNCH, **launch, **({"environment": environment} if environment is not None else {})}
    return Config.of({"launch": launch, "options": [("module", "shop:app"), *options]})


def written(environment):
    """Its file, with another text in place of the environment."""
    return config().render().replace(json.dumps(LAUNCH["environment"]), environment)


# --- the file


def test_file_names_its_own_generation_in_its_last_line():
    made = config()
    assert re.fullmatch("[0-9a-f]{12}", made.generation)
    assert made.render().endswith(f"\nadd-header = X-Vassal: {made.generation}\n")
    assert Config.parse(made.render()).generation == made.generation


LINE = st.text(st.characters(exclude_characters="\n\r\0", exclude_categories=["Cs"]))
VALUE = st.text(st.characters(exclude_characters="\0"))  # half surrogates too: bytes that are no text


@given(
    st.lists(st.tuples(st.sampled_from(["mime-file", "route", "add-header", "env"]), LINE)),
    st.dictionaries(st.sampled_from("ABC"), VALUE),
)
def test_any_rendered_config_is_parsed_again(options, environment):
    made = config(*options, environment=environment)
    found = Config.parse(made.render())
    assert found.options == made.options
    assert found.environment == made.environment == environment
    assert {key: found.launch[key] for key in LAUNCH if key != "environment"} == {
        key: made.launch[key] for key in LAUNCH if key != "environment"
    }
    assert found.render() == made.render()


@given(st.tuples(LINE, LINE), st.tuples(LINE, LINE))
def test_generation_is_the_same_only_for_the_same_content(one, other):
    first, second = (config(("a", pair[0]), environment={"A": pair[1]}) for pair in (one, other))
    assert (first.generation == second.generation) == (one == other)


@pytest.mark.parametrize("text", ["a\nuid = root", "a\rb", "a\0b"])
def test_line_break_is_refused(text):
    for arguments in ([("mime-file", text)], [(text, "x")]):
        with pytest.raises(ValueError, match="line break"):
            config(*arguments)
    with pytest.raises(ValueError, match="line break"):
        config(binary=text)


def test_comment_stands_only_before_the_first_option_of_its_name():
    text = config(("set-placeholder", "a"), ("set-placeholder", "b")).render()
    assert text.count("; Read by the module emperor_loader") == 1
    assert text.index("; Read by the module emperor_loader") < text.index("set-placeholder = a")


# --- what is read of it


@pytest.mark.parametrize("broken", ["", "nothing of all this\n", "[uwsgi]\nmaster\n", "[uwsgi]\nmaster = true\n"])
def test_broken_file_has_no_socket_and_no_environment(broken):
    found = Config.parse(broken)
    assert (found.socket, found.environment, found.clients("blue", "/own")) == ("", {}, "/own")


def test_launch_section_edited_by_hand_is_read():
    assert Config.parse("[launch]\nsocket = /s\n\n[uwsgi]\nmaster\n").socket == "/s"


def test_file_edited_by_hand_has_another_generation():
    assert Config.parse("[uwsgi]\nmodule = a\n").named == ""
    assert Config.parse("[uwsgi]\nmodule = a\n").generation != Config.parse("[uwsgi]\nmodule = b\n").generation


@pytest.mark.parametrize(
    ("options", "number"),
    [
        ([], 0),
        ([("processes", "4")], 4),
        ([("processes", "4"), ("processes", "12")], 12),  # uWSGI takes the last one
        ([("cheaper-processes", "3"), ("processes", "many")], 0),
    ],
)
def test_last_value_of_a_number_counts(options, number):
    assert config(*options).number("processes") == number


@pytest.mark.parametrize(
    ("launch", "sock"),
    [
        ({}, "/run/emperor-sockets/shop/app.sock"),
        ({"clients": "slot"}, "/run/emperor-sockets/shop/blue.sock"),
        ({"clients": "own"}, "/own"),  # as version 1.0 wrote it
        ({"socket": ""}, "/own"),
    ],
)
def test_file_names_the_socket_for_clients(launch, sock):
    assert Config.parse(config(**launch).render()).clients("blue", "/own") == sock


# --- the trial start

OWN = (
    ("socket", "/run/emperor/shop/trial.sock"),
    ("stats", "/run/emperor/shop/trial.stats"),
    ("processes", "1"),
    ("vacuum", "true"),
)
REAL = """socket = /x, stats = /x, processes = 4, vacuum = true, cheaper = 1, cheaper-algo = busyness,
http-socket = :80, http = :81, fastcgi-socket = x, touch-reload = /x, https = :443, stats-http = true,
pidfile = /p, safe-pidfile2 = /p, master-fifo = /f, logto = /l, log-master = true, spooler = /s,
cron2 = x, unique-cron = x, mule = true, mules = 2, farm = a:1, smart-attach-daemon2 = x,
max-requests = 9, max-requests-delta = 1"""
KEPT = [("socket-timeout", "4"), ("mime-file", "a\x85b\u2028c"), ("harakiri", "60"), ("threads", "16"), ("emule", "x"),
        ("listen", "1024"), ("lazy-apps", "true"), ("hook-accepting", "write:/srv/shop/forked yes")]  # fmt: skip


def test_trial_uses_nothing_that_the_real_instance_has():
    real = [tuple(pair.split(" = ")) for pair in re.split(r",\s+", REAL)]
    found = config(*real, ("set-placeholder", f"{RECYCLING}x=1")).trial("/run/emperor/shop")
    assert found.options == (("module", "shop:app"), *OWN)


def test_trial_neither_asks_for_the_held_socket_nor_writes_to_the_journal():
    found = config().trial("/run")
    assert sorted(found.launch) == ["app", "binary", "environment"]
    assert found.environment == LAUNCH["environment"]


def test_trial_keeps_every_other_option_and_the_generation():
    found = config(*KEPT).trial("/run")
    assert set(KEPT) <= set(found.options)
    assert found.generation == config(*KEPT).generation


def test_trial_starts_the_release_and_not_where_the_link_leads():
    made = config(("py-sys-executable", "/s/serving/venv/bin/python"), environment={"VIRTUAL_ENV": "/s/serving/venv"})
    found = made.trial("/run", link="/s/serving", release="/s/releases/1")
    assert found.value("py-sys-executable") == "/s/releases/1/venv/bin/python"
    assert found.environment == {"VIRTUAL_ENV": "/s/releases/1/venv"}


PLANNED = [("processes", "4"), ("cheaper", "2"), ("cheaper-algo", "busyness"), ("max-requests", "9"),
           ("max-requests-delta", "1"), ("max-worker-lifetime", "60"), ("max-worker-lifetime-delta", "6"),
           ("min-worker-lifetime", "10"), ("set-placeholder", f"{RECYCLING}delta=3")]  # fmt: skip


@pytest.mark.parametrize("option", PLANNED)
def test_change_of_worker_numbers_needs_no_new_trial_start(option):
    assert config(option).trial_digest() == config().trial_digest()


@pytest.mark.parametrize(
    "option", [("module", "a:c"), ("threads", "5"), ("add-header", "X: y"), ("processes-x", "1"), KEPT[-1]]
)
def test_any_other_change_needs_a_new_trial_start(option):
    assert config(option).trial_digest() != config().trial_digest()


def test_changed_environment_or_release_needs_a_new_trial_start():
    digests = {config().trial_digest(), config(environment={}).trial_digest(), config().trial_digest("/r1"),
               config().trial_digest("/r2"), config(binary="/x").trial_digest()}  # fmt: skip
    assert len(digests) == 5


# --- a diff


def test_diff_shows_names_and_no_values():
    text = shown(config(environment={"KEY": "s3cret", "A": "b"}).render())
    assert "s3cret" not in text
    assert re.search(r"^environment = A, KEY \(values: [0-9a-f]{8}\)$", text, re.MULTILINE)
    assert "module = shop:app" in text


def test_diff_shows_that_a_value_changed():
    one, same, other = (shown(config(environment={"A": value}).render()) for value in ("one", "one", "two"))
    assert one == same
    assert re.search(r"^environment = .*$", one, re.MULTILINE) != re.search(r"^environment = .*$", other, re.MULTILINE)


@pytest.mark.parametrize(
    "broken",
    ['{"A": "s3cret', "s3cret", '["s3cret"]', "5"],
)
def test_diff_hides_an_environment_broken_by_hand(broken):
    text = shown(written(broken))
    assert "s3cret" not in text
    assert "environment = unreadable (values: " in text
    assert "module = shop:app" in text


@pytest.mark.parametrize("line", ["environment=s3cret", "Environment\t= s3cret", "  environment = s3cret"])
def test_diff_hides_an_environment_in_any_notation(line):
    text = shown(re.sub(r"(?m)^environment = .*$", line, config().render()))
    assert "s3cret" not in text


def test_diff_hides_an_environment_over_several_lines():
    spread = '{\n    "A": "s3cret",\n\n    "B": "s3cret too"\n    }'
    content = written(spread)
    assert Config.parse(content).environment == {"A": "s3cret", "B": "s3cret too"}  # the wrapper reads it
    text = shown(content)
    assert "s3cret" not in text
    assert re.search(r"^environment = A, B \(values: [0-9a-f]{8}\)\nholder = ", text, re.MULTILINE)


@given(st.dictionaries(st.sampled_from("ABC"), st.text(st.sampled_from('xyz"\\=\n ;'), min_size=3), min_size=1))
def test_no_value_is_in_a_diff(environment):
    environment = {name: f"<{value}>" for name, value in environment.items()}
    text = shown(config(environment=environment).render())
    assert not [value for value in environment.values() if json.dumps(value)[1:-1] in text]


def test_diff_of_no_file_is_empty():
    assert shown(None) == ""


EDITED = [
    '; environment = {"KEY": "s3cret"}',
    "# s3cret",
    "[env s3cret]",
    "env = KEY=s3cret",
    "  KEY: s3cret",
    "s3cret",
    "Key = s3cret",
]


@pytest.mark.parametrize("line", EDITED)
@pytest.mark.parametrize("section", ["[launch]\n", "[uwsgi]\n"])
def test_foreign_line_is_hidden_and_its_change_is_shown(section, line):
    text = config().render()
    found = shown(text.replace(section, f"{section}{line}\n"))
    assert "s3cret" not in found
    assert found != shown(text)
    assert found != shown(text.replace(section, f"{section}{line} more\n"))
