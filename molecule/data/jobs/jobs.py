"""An app that leaves work to workers of RQ, which take it from Redis."""

import os
import time
from pathlib import Path
from urllib.parse import parse_qs

from redis import Redis
from rq import Queue, Retry

DONE = Path(os.environ["HOME"], "done")


def note(text):
    """Append a line to what was done."""
    with DONE.open("a", encoding="utf-8") as file:
        file.write(f"{text} {os.environ['RELEASE_ID']}\n")


def work(number):
    """A job that takes a while; what is lost, or done twice, is seen."""
    note(f"began {number}")
    time.sleep(1)
    note(f"ended {number}")


def application(environ, start_response):
    asked = parse_qs(environ["QUERY_STRING"])
    if "job" in asked:
        # RQ drops a job that it takes just when it gets SIGTERM; when it finds that again, it counts as a failure.
        Queue(connection=Redis()).enqueue(work, int(asked["job"][0]), retry=Retry(max=1))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [os.environ["RELEASE_ID"].encode()]
