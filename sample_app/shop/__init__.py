"""A small shop floor: a Flask app that shows the machine it runs on at work."""

from __future__ import annotations

from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException

from shop import load, model, own_server, pages, process, upload


def create_app() -> Flask:
    """Build the application: `shop:create_app()` for any WSGI server."""
    app = Flask(__name__)
    for module in (pages, load, own_server, model, upload, process):
        app.register_blueprint(module.blueprint)
    app.register_error_handler(HTTPException, as_json)
    app.after_request(never_cached)
    return app


def as_json(error: HTTPException) -> Response:
    """Answer every HTTP error as JSON, keeping its status and its headers (Allow, for one)."""
    response = error.get_response()
    response.data = jsonify(error=error.description).data
    response.content_type = "application/json"
    return response


def never_cached(response: Response) -> Response:
    """Forbid caching of answers that describe this very moment. Static files may be cached."""
    if request.endpoint != "static":
        response.headers["Cache-Control"] = "no-store"
    return response
