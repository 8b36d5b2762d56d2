"""Tells what is installed."""

import importlib.metadata
import sys

import bottle

application = bottle.Bottle()


@application.get("/")
def index():
    found = {one.metadata["Name"].lower(): one.version for one in importlib.metadata.distributions()}
    told = {name: found.get(name) for name in ("poll", "bottle", "ujson", "pytest", "humanize")}
    return told | {"file": __file__, "python": sys.base_prefix}
