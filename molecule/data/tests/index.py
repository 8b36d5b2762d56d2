"""A package index and a git server (HTTPS) that want a name and a password, on a host.

They note all processes that run when they are asked.
"""

import base64
import functools
import hashlib
import io
import ssl
import subprocess
import sys
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CREDENTIALS, SEEN, GIT = Path(sys.argv[1]).read_text().splitlines(), sys.argv[2], Path(sys.argv[3])
NAME = "emperor_quiet-1.0-py3-none-any.whl"


def wheel():
    """A package with one module."""
    about = "Metadata-Version: 2.1\nName: emperor-quiet\nVersion: 1.0\n"
    files = {
        "emperor_quiet.py": "TEXT = 'from the private index'\n",
        "emperor_quiet-1.0.dist-info/METADATA": about,
        "emperor_quiet-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "emperor_quiet-1.0.dist-info/RECORD": "",
    }
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return file.getvalue()


class Guarded(SimpleHTTPRequestHandler):
    """The files of a directory, for those who know the password."""

    credentials = CREDENTIALS[1]

    def do_GET(self):
        with open(SEEN, "ab") as file:
            file.write(subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, check=True).stdout)
        wanted = "Basic " + base64.b64encode(self.credentials.encode()).decode()
        if self.headers["Authorization"] != wanted:
            self.answer(401, b"", ("WWW-Authenticate", 'Basic realm="index"'))
        else:
            self.serve()

    def serve(self):
        super().do_GET()

    def answer(self, status, body, header):
        self.send_response(status)
        self.send_header(*header)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class Index(Guarded):
    """The simple interface of an index, for one package."""

    credentials = CREDENTIALS[0]

    def serve(self):
        if self.path == "/simple/emperor-quiet/":
            digest = hashlib.sha256(wheel()).hexdigest()
            self.answer(200, f'<a href="/{NAME}#sha256={digest}">{NAME}</a>'.encode(), ("Content-Type", "text/html"))
        elif self.path == f"/{NAME}":
            self.answer(200, wheel(), ("Content-Type", "application/octet-stream"))
        else:
            self.answer(404, b"", ("Content-Type", "text/plain"))

    do_HEAD = Guarded.do_GET  # noqa: N815


index = ThreadingHTTPServer(("127.0.0.1", 8900), Index)
threading.Thread(target=index.serve_forever).start()
git = ThreadingHTTPServer(("127.0.0.1", 8901), functools.partial(Guarded, directory=GIT))
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(GIT / "git.crt", GIT / "git.key")
git.socket = context.wrap_socket(git.socket, server_side=True)
git.serve_forever()
