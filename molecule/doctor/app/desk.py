"""A WSGI app with all that can break: a module and a variable it needs, data it writes, requests that wait or grow."""

import os
import sqlite3
import time
from contextlib import closing
from urllib.parse import parse_qs

from drawer import put

KEY = os.environ["DESK_KEY"]
GROWN = []


def application(environ, start_response):
    """Wait (/slow?ms=), keep memory (/grow?mb=), write data (/note, /order) or only answer: with the release."""
    path, query = environ["PATH_INFO"], parse_qs(environ.get("QUERY_STRING", ""))
    if path == "/slow":
        time.sleep(int(query["ms"][0]) / 1000)
    elif path == "/grow":
        GROWN.append(b"x" * (int(query["mb"][0]) << 20))
    elif path == "/note":
        put(os.path.join(os.environ["HOME"], "note"), KEY)
    elif path == "/order":
        with closing(sqlite3.connect(os.path.join(os.environ["HOME"], "desk.db"), timeout=20)) as database, database:
            database.execute("CREATE TABLE IF NOT EXISTS orders (moment)")
            database.execute("INSERT INTO orders VALUES (?)", (time.time(),))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [os.environ["RELEASE_ID"].encode()]
