#!/usr/bin/env bash
# demo.sh [PORT]: a Debian 13 container with the sample app on it, and the address to open. Run again, it changes nothing.
set -euo pipefail
cd "$(dirname "$0")/../.."

# The port wanted, or any free one when it is taken. An existing container keeps the one it has.
port=$(python3 - "${1:-8080}" <<'PYTHON'
import socket, sys
for port in (int(sys.argv[1]), 0):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            continue
        print(s.getsockname()[1])
        break
PYTHON
)
molecule/shared/start-container.sh emperor-demo trixie --hostname=emperor-demo --label=owner=flaskops-demo \
  --publish="127.0.0.1:$port:80"

ansible-playbook -i inventory/demo playbooks/site.yml

# Flask's own server with one thread, to compare with: the page sends requests to both (SHOP_OWN_SERVER).
molecule/shared/own-server.sh podman exec emperor-demo

url=http://$(podman port emperor-demo 80)
curl --max-time 60 --noproxy '*' --fail --silent --show-error --output /dev/null --retry 5 --retry-connrefused "$url/healthz"
cat <<TEXT
What to try:
  open the page and send blocking requests: many lanes here, one queue at Flask's own server
  make demo-deploy    a second release while requests run
  make demo-break     a broken release, which reaches nobody
ready: $url/
TEXT
