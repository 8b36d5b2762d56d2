"""No app can put something else where nginx looks for the socket of its side process."""

import time

ATTACK = """
for place in /run/emperor-sockets/jobs/sides /run/emperor-sockets/jobs /run/emperor-sockets ~/..; do
  ln -s /run/emperor-sockets/notes/app.sock $place/x 2>/dev/null && echo linked in $place
  for one in $(ls $place | grep sock); do
    mv $place/$one $place/y 2>/dev/null && echo renamed in $place
    rm -f $place/$one 2>/dev/null && echo removed in $place
  done
done
rmdir /run/emperor-sockets/jobs/sides 2>/dev/null && echo removed a directory
ls /run/emperor-sockets/jobs/sides 2>/dev/null && echo listed
for one in /run/emperor/jobs/side.live.*.sock; do
  mv $one $one.kept && ln -s /run/emperor-sockets/notes/app.sock $one
done
test -L $one && echo changed its own
"""
# As systemd starts it, beside a process that made such a link in place of its socket.
LINK = """
sleep 60 & export MAINPID=$!
ln -sf /run/emperor-sockets/notes/app.sock /run/emperor/jobs/side.live.{instance}.sock
timeout 3 /usr/local/libexec/emperor-side-socket jobs live {instance}; echo $?
kill $MAINPID
"""


def test_link_in_place_of_a_socket_leads_no_client_to_another_app(fleet, client):
    host, jobs = fleet[1], client("jobs", 1)
    (unit,) = host.check_output(
        "systemctl list-units --plain --no-legend 'emperor-side-jobs.live@*' | cut -d ' ' -f 1"
    ).split()
    instance = unit.partition("@")[2].removesuffix(".service")
    held = f"/run/emperor-sockets/jobs/sides/side.live.{instance}.sock"
    assert host.check_output(f"stat --format='%U:%G %a' {held.rpartition('/')[0]}") == "root:www-data 710"
    assert host.check_output("emperor-run jobs sh -c %s", ATTACK) == "changed its own"
    assert jobs.json("/live")["path"] == "/live"  # by the name that is not the app's

    host.check_output(f"systemctl kill --signal=KILL {unit}")
    end = time.monotonic() + 30
    while jobs.ask("GET", "/live")[0] != 200:  # it started anew, with a new socket
        assert time.monotonic() < end
        time.sleep(0.2)

    host.check_output(f"systemctl stop {unit}")
    assert host.check_output("sh -c %s", LINK.format(instance=instance)) == "124"
    assert jobs.ask("GET", "/live")[0] == 503
    assert host.run(f"test -L {held} || test -L {held}.new").rc == 1
    host.check_output(f"systemctl start {unit}")
    assert jobs.ask("GET", "/live")[0] == 200
