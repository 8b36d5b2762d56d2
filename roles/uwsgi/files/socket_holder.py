#!/usr/bin/python3 -IS
"""Hand an app's listening sockets to every instance of the app that asks (the server's side of uWSGI's option `zerg`).

systemd owns the sockets and passes them in (emperor@NAME.socket), so they outlive this process, the Emperor and every
instance: requests that arrive while no worker accepts wait in their queues. This program only duplicates them on
request. Which ones depends on the socket where it is asked:

    holder.sock                  the app's socket, app.sock
    blue.holder, green.holder    the app's socket, and the one of the slot: blue.sock or green.sock

The answer to a connection is what uWSGI's own pool sends: a fixed word, the number of descriptors as a native int, and
the descriptors as ancillary data. Source: uwsgi_manage_zerg() in core/socket.c of uWSGI 2.0.
"""

import os
import select
import socket
import struct

FIRST = 3  # sd_listen_fds(3): the descriptors begin here
HANDED_OUT = {
    "holder.sock": ("app.sock",),
    "blue.holder": ("app.sock", "blue.sock"),
    "green.holder": ("app.sock", "green.sock"),
}


def passed() -> dict[str, socket.socket]:
    """The sockets that systemd passes, by their file names."""
    mine = os.environ.get("LISTEN_PID") == str(os.getpid())
    found = [socket.socket(fileno=FIRST + place) for place in range(int(os.environ["LISTEN_FDS"]) if mine else 0)]
    return {os.path.basename(one.getsockname()): one for one in found}


def main() -> None:
    """Answer until stopped."""
    sockets = passed()
    asked = {sockets[name]: given for name, given in HANDED_OUT.items() if {name, *given} <= sockets.keys()}
    if not asked:
        raise SystemExit("start emperor@NAME.socket instead: systemd must pass the sockets")
    while True:
        for listener in select.select([*asked], [], [])[0]:
            given = [sockets[name].fileno() for name in asked[listener]]
            connection, _address = listener.accept()
            with connection:
                try:
                    socket.send_fds(connection, [b"uwsgi-zerg", struct.pack("@i", len(given))], given)
                except OSError:
                    continue  # the instance that asked is gone


if __name__ == "__main__":
    main()
