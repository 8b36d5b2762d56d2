"""What logs say of faults: exceptions, missing variables, deaths, and nginx's complaints, without secrets."""

import time

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils.checkup import logs

HEAD = "1795882132.681175 web1 shop[6738]: "
FAILED = [
    "*** Starting uWSGI 2.0.30 (64bit) on [Sat Nov 28 16:09:08 2026] ***",
    "Traceback (most recent call last):",
    '  File "/srv/flask_apps/shop/releases/1/src/shop.py", line 9, in <module>',
    '    KEY = os.environ["SHOP_KEY"]',
    '  File "<frozen os>", line 717, in __getitem__',
    "KeyError: 'SHOP_KEY'",
    "unable to load app 0 (mountpoint='') (callable not found or import error)",
]


def log(*lines):
    return [(float(at), line) for at, line in enumerate(lines)]


def test_journal_is_read_with_moments_and_indented_lines():
    text = f"{HEAD}  File x\n-- Boot 1 --\n{HEAD}\n"
    assert logs.entries(text) == [(1795882132.681175, "  File x"), (1795882132.681175, "")]


def test_missing_variable_is_named_with_the_apps_own_line():
    found = logs.of_app(log(*FAILED), [])
    assert found["starts"] == [0.0]
    raised = found["exception"]
    assert (raised["line"], raised["variable"], raised["loading"]) == ("KeyError: 'SHOP_KEY'", "SHOP_KEY", True)
    assert raised["where"] == "/srv/flask_apps/shop/releases/1/src/shop.py, line 9"


def test_key_error_of_a_dict_is_no_missing_variable():
    lines = [line for line in FAILED if "environ" not in line and "frozen" not in line]
    assert logs.of_app(log(*lines), [])["exception"]["variable"] == ""


def test_exception_in_a_request_is_no_failed_load():
    assert logs.of_app(log(*FAILED[1:-1]), [])["exception"]["loading"] is False


def test_last_of_several_exceptions_is_shown_without_secrets():
    lines = ["Traceback (most recent call last):", "ValueError: bad key s3cr3t-value"]
    found = logs.of_app(log(*FAILED, *lines), [{"SHOP_KEY": "s3cr3t-value"}])
    assert found["exception"]["line"] == "ValueError: bad key ********"


def test_chain_worker_that_cannot_load_is_named():
    lines = ["Traceback (most recent call last):", '  File "/usr/local/lib/emperor/emperor_loader.py", line 1', "E: x"]
    assert logs.of_app(log(*lines), [])["exception"]["loading"] is True


def test_deaths_are_counted_by_their_signal():
    lines = [
        f"DAMN ! worker 1 (pid: 7) died, killed by signal {number} :( trying respawn ..." for number in (9, 11, 15)
    ]
    found = logs.of_app(log(*lines, "a request takes more than 5 s (max_request_seconds), so"), [])
    assert (found["killed"], found["crashed"], found["late"], found["exception"]) == ([0.0], [1.0], [3.0], None)


def test_emperor_that_throttles_another_vassal_is_not_counted():
    lines = [
        f"[emperor] unloyal bad behaving vassal found: /x/{name}.blue.ini throttling it..." for name in ("shop", "a")
    ]
    assert logs.throttled(log(*lines), "shop.") == 1


STAMP = "2026/11/28 16:00:00 [error] 7#7: *3 "
TAIL = ', client: 192.0.2.1, server: shop.test, request: "POST /upload?token=secret HTTP/1.1", host: "shop.test"'


@pytest.mark.parametrize(
    ("text", "kind", "size"),
    [
        ("client intended to send too large body: 3000000 bytes", "too_large", 3000000),
        ("upstream timed out (110: Connection timed out) while reading response header from upstream", "timeout", 0),
        ("connect() to unix:/run/x.sock failed (11: Resource temporarily unavailable) while connecting", "full", 0),
        ("connect() to unix:/run/x.sock failed (13: Permission denied) while connecting", "closed", 0),
    ],
)
def test_nginx_error_is_known_by_its_kind_and_has_no_query(text, kind, size):
    found = logs.nginx_error(STAMP + text + TAIL)
    assert found
    assert (found["kind"], found["bytes"], found["server"]) == (kind, size, "shop.test")
    assert found["request"] == "POST /upload"


def test_other_lines_of_nginx_are_ignored():
    assert logs.nginx_error("2026/11/28 16:00:00 [notice] 1#1: start worker processes") is None
    assert logs.nginx_error("nonsense") is None


def test_only_the_last_minutes_of_nginx_count(tmp_path):
    now = time.time()
    for at, count in ((now - 10, 1), (now - 2 * logs.WINDOW, 0)):
        moment = time.strftime("%Y/%m/%d %H:%M:%S", time.localtime(at))
        (tmp_path / "log").write_text(
            f"{moment} [error] 7#7: *3 client intended to send too large body: 9 bytes{TAIL}\n"
        )
        assert len(logs.nginx_errors(str(tmp_path / "log"), now)) == count
    assert logs.nginx_errors(str(tmp_path / "none"), now) == []
