"""A WSGI app that answers what it was asked, as JSON."""

import hashlib
import json
from urllib.parse import parse_qs


def application(environ, start_response):
    """Tell the environment and the body of a request; ``/big?header=N`` has N bytes in a header of the response."""
    body = environ["wsgi.input"].read()
    told = {key: value for key, value in environ.items() if isinstance(value, str)}
    told |= {"length": len(body), "digest": hashlib.sha256(body).hexdigest(), "scheme": environ["wsgi.url_scheme"]}
    headers = [("Content-Type", "application/json")]
    query = parse_qs(environ.get("QUERY_STRING", ""))
    for _time in range(int(query.get("times", ["1"])[0])):
        headers.append(("Set-Cookie", "a=" + "x" * int(query.get("header", ["1"])[0])))
    # The health check comes here, with the escape decoded.
    status = "200 OK" if "%" not in environ["PATH_INFO"] else "500 Not decoded"
    start_response(status, headers)
    return [json.dumps(told).encode()]
