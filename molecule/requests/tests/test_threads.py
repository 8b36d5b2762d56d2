"""A deploy names threads that start with the import of the app, and does not wait for streams."""

import socket

THREAD = """
import threading
threading.Thread(target=threading.Event().wait, name="scheduler", daemon=True).start()
from echo import application
"""


def test_thread_started_by_the_import_is_named_unless_intended(playbook, apps, variant, fleet, addresses):
    app = variant(apps["limited"] | {"app": "threaded:application"}, {"threaded.py": THREAD})
    streams = []
    for host in fleet:
        streams.append(socket.create_connection((addresses[host.backend.name], 80), timeout=60))
        streams[-1].sendall(b"GET /endless?mark=over HTTP/1.1\r\nHost: limited.test\r\nConnection: close\r\n\r\n")
        assert streams[-1].recv(100).startswith(b"HTTP/1.1 200")
    run = playbook("deploy", "-e", "app=limited", variables={"flask_apps": [app]})
    assert not run.failed, run.error
    for stream in streams:  # they ended with their release, after max_request_seconds
        while stream.recv(65536):
            pass
        stream.close()
    told = " ".join(run.output.split())
    assert "limited: threads that start while the app is imported (scheduler) do not run in its workers" in told
    app["workers"] = app["workers"] | {"import_threads": True}
    run = playbook("deploy", "-e", "app=limited", variables={"flask_apps": [app]})
    assert not run.failed, run.error
    assert "scheduler" not in run.output


def test_client_that_does_not_finish_its_headers_is_closed(host, addresses, half_open):
    assert half_open[addresses[host.backend.name]].recv(100) == b""
