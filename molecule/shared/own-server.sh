#!/usr/bin/env bash
# own-server.sh COMMAND...: starts Flask's own server with one thread on a host that has the app shop, on loopback port 5001.
# COMMAND runs a command on the host, for example `podman exec NAME`. For comparison only; it is gone after a reboot.
set -euo pipefail
! "$@" systemctl is-active --quiet own-server || exit 0
release=/srv/flask_apps/shop/current
"$@" systemd-run --quiet --collect --unit=own-server --property=User=shop --property=DynamicUser=no \
  --working-directory="$release/src" "$release/venv/bin/python" -m flask --app shop run --without-threads --port=5001
