"""Tells what is installed."""

import importlib.metadata

from flask import Flask


def create_app(also=()):
    app = Flask(__name__)

    @app.get("/")
    def index():
        names = ("notes", "flask", "markdown", "humanize", *also)
        found = {one.metadata["Name"].lower(): one.version for one in importlib.metadata.distributions()}
        return {name: found.get(name) for name in names} | {"file": __file__}

    return app
