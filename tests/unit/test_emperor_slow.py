"""What slow requests do is told once, of the very thread."""

import threading
from pathlib import Path

import pytest
from role_program import load

PROGRAM = Path(__file__).parents[2] / "roles/uwsgi/files/emperor_slow.py"
emperor_slow = load(PROGRAM)


@pytest.fixture
def watch():
    return emperor_slow.Watch(0, lambda environ: f"request {environ['id']}")


def test_stack_of_a_slow_request_is_logged_once(watch):
    at_work, enough = threading.Event(), threading.Event()

    def wait_for_the_database():
        at_work.set()
        enough.wait(10)

    def serve():
        watch.begin({"id": 7})
        wait_for_the_database()

    thread = threading.Thread(target=serve)
    thread.start()
    at_work.wait(10)
    told = watch.look()
    assert told.startswith("request 7 takes more than 0 s. What it does:\n")
    assert "in wait_for_the_database\n    enough.wait(10)\n" in told
    assert watch.look() == ""
    enough.set()
    thread.join()


def test_finished_or_fast_request_is_not_logged(watch):
    over, quick = {"id": 1}, {"id": 2}
    watch.begin(over)
    watch.end(over)
    assert watch.look() == ""
    patient = emperor_slow.Watch(60, str)
    patient.begin(quick)
    assert patient.look() == ""
