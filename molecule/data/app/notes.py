"""A small app with data: notes in SQLite, in the folder that Flask would choose, uploads beside its source."""

import contextlib
import json
import os
import runpy
import sqlite3
from pathlib import Path

HERE = Path(__file__).parent
INSTANCE = HERE / "instance"  # as Flask's app.instance_path
UPLOADS = HERE / "uploads"

os.makedirs(INSTANCE, exist_ok=True)
CONFIG = runpy.run_path(str(INSTANCE / "config.py"))  # as app.config.from_pyfile, with instance_relative_config


@contextlib.contextmanager
def database():
    connection = sqlite3.connect(INSTANCE / "notes.db", timeout=20)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE IF NOT EXISTS notes (text TEXT)")
        with connection:
            yield connection
    finally:
        connection.close()


def answer(method, path, body):
    """What the app says."""
    if path == "/notes" and method == "POST":
        with database() as connection:
            connection.execute("INSERT INTO notes VALUES (?)", [body])
    elif method == "POST":
        (UPLOADS / path.rpartition("/")[2]).write_text(body)
    if path == "/notes":
        with database() as connection:
            return [text for (text,) in connection.execute("SELECT text FROM notes ORDER BY rowid")]
    if path.startswith("/uploads"):
        return sorted(one.name for one in UPLOADS.iterdir())
    return {
        "colour": CONFIG["COLOUR"],
        "prepared": (INSTANCE / "prepared").exists(),
        "release": os.environ["RELEASE_ID"],
    }


def application(environ, start_response):
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)).decode()
    told = answer(environ["REQUEST_METHOD"], environ["PATH_INFO"], body)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(told).encode()]
