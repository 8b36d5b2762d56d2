#!/usr/bin/python3 -IS
"""Hand an app's listening socket to every instance of the app that asks (the server's side of uWSGI's option `zerg`).

systemd owns the socket and passes it in (emperor@NAME.socket), so it outlives this process, the Emperor and every
instance: requests that arrive while no worker accepts wait in its queue. This program only duplicates it on request.

The answer to a connection is what uWSGI's own pool sends: a fixed word, the number of descriptors as a native int, and
the descriptors as ancillary data. Source: uwsgi_manage_zerg() in core/socket.c of uWSGI 2.0.
"""

import os
import socket
import struct

FIRST = 3  # sd_listen_fds(3): the descriptors begin here, in the order of the unit's ListenStream= lines


def main() -> None:
    """Answer until stopped."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS") != "2":
        raise SystemExit("start emperor@NAME.socket instead: systemd must pass two sockets")
    app, asked = FIRST, socket.socket(fileno=FIRST + 1)
    while True:
        connection, _address = asked.accept()
        with connection:
            try:
                socket.send_fds(connection, [b"uwsgi-zerg", struct.pack("@i", 1)], [app])
            except OSError:
                continue  # the instance that asked is gone


if __name__ == "__main__":
    main()
