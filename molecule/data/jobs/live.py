"""An ASGI app beside the WSGI app: it tells what it was asked, and answers messages with its release."""

import json
import os


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "http":
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        told = json.dumps({"path": scope["path"], "headers": headers}).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": told})
    else:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": f"{os.environ['RELEASE_ID']} {message['text']}"})
