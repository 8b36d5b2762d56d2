"""Tells what is installed."""

import importlib.metadata

import bottle

application = bottle.Bottle()


@application.get("/")
def index():
    found = {one.metadata["Name"].lower(): one.version for one in importlib.metadata.distributions()}
    return {name: found.get(name) for name in ("poll", "bottle", "ujson", "pytest", "humanize")} | {"file": __file__}
