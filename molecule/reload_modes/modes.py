"""The apps of this scenario, each named after its reload mode, and releases of them."""

MODES = ("zerg", "chain", "graceful", "upstream")

# Prefork: a child dies as soon as it is one. Every worker for itself: it dies when it loads the app.
CRASH = """
import os

import uwsgi
from flask import Flask


def create_app():
    app = Flask(__name__)
    app.add_url_rule("/healthz", "health", lambda: "well")
    if CONDITION:
        if uwsgi.worker_id():
            os._exit(7)
        uwsgi.post_fork_hook = lambda: os._exit(7)
    return app
"""
# The preflight has one worker and is well. This one is seen only when it serves, or would.
LATE_CRASH = CRASH.replace("CONDITION", "uwsgi.numproc > 1")


def others(apps, variant, mark):
    """New releases of all apps, equal but for their content."""
    page = apps["zerg"]["source"]["path"] + "/shop/pages.py"
    with open(page, encoding="utf-8") as file:
        text = f"{file.read()}\nMARK = {mark!r}\n"
    return {mode: variant(apps[mode], {"shop/pages.py": text}) for mode in MODES}
