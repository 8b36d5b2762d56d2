"""A package index that wants a name and a password, on a host; it notes all processes that run when it is asked."""

import base64
import hashlib
import io
import subprocess
import sys
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CREDENTIALS, SEEN = Path(sys.argv[1]).read_text(), sys.argv[2]
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


class Index(BaseHTTPRequestHandler):
    """The simple interface of an index, for one package."""

    def do_GET(self):
        with open(SEEN, "ab") as file:
            file.write(subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, check=True).stdout)
        wanted = "Basic " + base64.b64encode(CREDENTIALS.encode()).decode()
        if self.headers["Authorization"] != wanted:
            self.answer(401, b"", ("WWW-Authenticate", 'Basic realm="index"'))
        elif self.path == "/simple/emperor-quiet/":
            digest = hashlib.sha256(wheel()).hexdigest()
            self.answer(200, f'<a href="/{NAME}#sha256={digest}">{NAME}</a>'.encode(), ("Content-Type", "text/html"))
        elif self.path == f"/{NAME}":
            self.answer(200, wheel(), ("Content-Type", "application/octet-stream"))
        else:
            self.answer(404, b"", ("Content-Type", "text/plain"))

    do_HEAD = do_GET  # noqa: N815

    def answer(self, status, body, header):
        self.send_response(status)
        self.send_header(*header)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


ThreadingHTTPServer(("127.0.0.1", 8900), Index).serve_forever()
