"""What is wrong with a host: services, port, nginx's configuration, disks."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ansible_collections.flaskops.emperor.plugins.plugin_utils.checkup.problem import HERE, Commands, Problem

NGINX, EMPEROR, GUARD = "nginx.service", "emperor.service", "emperor-memory-guard.service"
MIB = 1 << 20
CLOCK = 5  # seconds by which clocks may differ
# What follows from an Emperor, or an nginx, that does not run.
NO_EMPEROR = frozenset(("*:instance", "*:health", "*:upstream", "*:limit", "*:barrier"))
NO_NGINX = frozenset(("*:health",))


def service(name: str, unit: Mapping[str, Any], site: str, harm: str, explains: frozenset[str]) -> Iterator[Problem]:
    """A service that is masked, missing, stopped, or does not start at boot.

    :param site: the command that installs it.
    :param harm: what clients notice when it does not run.
    """
    title = name.removesuffix(".service")
    if unit["load"] == "masked":
        # A unit of ours has no other file to fall back to, so it must be written again.
        own = name != NGINX
        yield Problem(
            f"{title} is masked: it cannot start. {harm}",
            site if own else f"systemctl unmask {name} && {start(name, unit)}",
            (f"systemctl says: {name} is masked, {unit['state']}",),
            HERE if own else "host",
            explains=explains | {f"/etc/systemd/system/{name}"},
        )
    elif unit["load"] != "loaded":
        yield Problem(
            f"{title} is not installed. {harm}", site, (f"systemctl says: {unit['load']}",), HERE, explains=explains
        )
    elif not unit["active"]:
        result = f", last result: {unit['result']}" if unit["result"] not in ("", "success") else ""
        said = (f"systemctl says: {unit['state']}{result}", *unit["log"][-3:])
        yield Problem(f"{title} does not run. {harm}", start(name, unit), said, explains=explains)
    elif unit["file"] == "disabled":
        yield Problem(f"{title} does not start at boot.", f"systemctl enable {name}", ("systemctl says: disabled",))


def start(name: str, unit: Mapping[str, Any]) -> str:
    """The command that starts a service now and at boot; also one that failed so often that systemd gave up."""
    again = f"systemctl reset-failed {name}; " if unit["result"] == "start-limit-hit" else ""
    return f"{again}systemctl enable --now {name}"


def strangers(facts: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Programs other than nginx that listen on its port."""
    return [one for one in facts["listeners"] if one["program"] != "nginx"]


def somebody_else(facts: Mapping[str, Any], port: int) -> Iterator[Problem]:
    """Another program has nginx's port."""
    found = strangers(facts)
    if not found:
        return
    units = sorted({one["unit"] for one in found if one["unit"].endswith((".service", ".socket"))})
    pids = " ".join(str(one["pid"]) for one in found if one["unit"] not in units)
    stop = [f"systemctl disable --now {shlex.join(units)}"] if units else []
    stop += [f"kill {pids}; sleep 1"] if pids else []
    said = tuple(f"{one['program']} (pid {one['pid']}, {one['unit'] or 'no unit'})" for one in found)
    yield Problem(
        f"Another program listens on port {port}, so nginx cannot serve there. Clients get its answers, or none.",
        f"{'; '.join(stop)}; {start(NGINX, facts['units'][NGINX])}",
        said,
        explains=NO_NGINX | {NGINX},
    )


def firewall(facts: Mapping[str, Any]) -> Iterator[Problem]:
    """Ports to which ufw lets no client in. What the host asks itself never meets it."""
    if ports := facts["barred"]:
        yield Problem(
            f"ufw lets nobody in to port {' and '.join(map(str, ports))}: clients on other machines get no answer.",
            " && ".join(f"ufw allow {port}/tcp" for port in ports),
            ("/etc/ufw/user.rules has no rule that allows it",),
        )


def broken_nginx(facts: Mapping[str, Any], commands: Commands, managed: Mapping[str, str]) -> Iterator[Problem]:
    """A configuration that nginx refuses.

    :param managed: files of the inventory that differ from it, with the tag of site.yml that writes them.
    """
    fault = facts["nginx_fault"]
    if not fault:
        return
    running = facts["units"][NGINX]["active"]
    harm = "It goes on with the one that it has read, until it is restarted." if running else "Clients get no answer."
    said = tuple(line[:300] for line in fault.splitlines()[:3])
    what = f"nginx refuses its configuration. {harm}"
    place = re.search(r" in (/\S+?):\d+", fault)
    explains = NO_NGINX | {NGINX, "nginx:unread"} if not running else frozenset({"nginx:unread"})
    path = place[1] if place else ""
    if not path or path in managed:
        tag = managed.get(path, "nginx")
        # Sites are tested one by one: a broken one would keep nginx from accepting the others.
        run = commands.site(tag if running or tag == "nginx" else f"nginx,{tag}")
        cure = commands.anew(path, run) if tag == "apps" else run
        yield Problem(what, cure, said, HERE, explains=explains | {path})
        return
    then = "systemctl reload nginx" if running else start(NGINX, facts["units"][NGINX])
    away = shlex.join(["mv", path, f"/root/{path.rpartition('/')[2]}.broken"])
    yield Problem(
        what,
        f"{away} && {{ {then}; }}",
        said,
        explains=explains,
        before=f"{path} is not of the inventory: correct it, or move it away as below.",
    )


def unread(facts: Mapping[str, Any]) -> Iterator[Problem]:
    """Files that nginx has not read since they changed."""
    if facts["nginx_unread"] and not facts["nginx_fault"]:
        yield Problem(
            "nginx has not read its configuration since it changed. Clients get what it said before.",
            "systemctl reload nginx",
            (f"changed since: {facts['nginx_unread']}",),
        )


def sockets(facts: Mapping[str, Any], names: Collection[str]) -> Iterator[Problem]:
    """Listening sockets that systemd does not hold."""
    for name in names:
        unit = facts["units"].get(f"emperor@{name}.socket")
        if unit and not (unit["active"] and unit["file"] == "enabled"):
            state = "masked" if unit["load"] == "masked" else f"{unit['state']}, {unit['file'] or unit['load']}"
            yield Problem(
                f"systemd does not hold the listening socket of {name}: clients get 502 or 503.",
                # It refuses to start a socket whose service runs, and what runs listens on the socket that is gone.
                f"systemctl stop emperor@{name}.service; systemctl enable --now emperor@{name}.socket && "
                "systemctl restart emperor.service",
                (f"systemctl says of emperor@{name}.socket: {state}",),
                app=name,
                explains=frozenset({f"{name}:{key}" for key in ("socket", "instance", "health", "barrier")}),
            )


def drop_ins(facts: Mapping[str, Any]) -> Iterator[Problem]:
    """Files by which somebody changed our units beside the inventory."""
    named: list[str] = []
    for name, unit in facts["units"].items():
        if set(unit["drop_ins"]) - set(named) and name != NGINX:
            named += unit["drop_ins"]
            template = any("@.service.d/" in path for path in unit["drop_ins"])
            again = "" if name.endswith(".socket") else f" && systemctl restart {EMPEROR if template else name}"
            yield Problem(
                f"{name} is changed by files that are not of the inventory.",
                f"{shlex.join(['rm', *unit['drop_ins']])} && systemctl daemon-reload{again}",
                tuple(unit["drop_ins"]),
            )


def sharing(facts: Mapping[str, Any]) -> Iterator[Problem]:
    """Apps that have no temporary directories of their own (PrivateTmp= of emperor-app@.service)."""
    if facts["sharing"]:
        yield Problem(
            "Apps see the /tmp, /var/tmp and /dev/shm of other apps.",
            "systemctl restart emperor.service",
            (f"no mount namespace of their own: {', '.join(facts['sharing'])}",),
            before="let services of this host have namespaces (a container of LXC or Incus: allow nesting).",
        )


def data_of(paths: Collection[str], root: str) -> list[str]:
    """The apps whose data a disk has; none when it also has something else."""
    found = [re.fullmatch(rf"{re.escape(root)}/([^/]+)/shared", path) for path in paths]
    return [] if None in found else [one[1] for one in found if one]


def disks(facts: Mapping[str, Any], root: str) -> Iterator[Problem]:
    """Disks that are full or cannot be written."""
    for disk in facts["disks"]:
        mount = disk["mount"]
        if disk["read_only"]:
            yield Problem(
                f"The disk {mount} cannot be written. Apps fail at what they store, and no deploy is possible.",
                f"mount -o remount,rw {shlex.quote(mount)}",
                (f"{mount} is mounted read-only",),
            )
        elif disk["free"] < min(disk["size"] * 0.05, 100 * MIB):
            files = [f"{file['path']} ({file['size'] // MIB} MiB)" for file in disk["largest"]]
            caches = [
                file["path"]
                for file in disk["largest"]
                if "/cache/" in file["path"] and file["path"].startswith(f"{root}/")
            ]
            said = (f"{disk['free'] // MIB} of {disk['size'] // MIB} MiB are free", *(f"large: {one}" for one in files))
            what = f"The disk {mount} is full. Apps fail at what they store, and no deploy is possible."
            owners = data_of(disk["paths"], root)
            if owners:
                what = f"The disk {mount} is full. {', '.join(owners)} cannot store data: clients get errors."
            if caches:  # of pip: it comes again when it is needed
                app_caches = sorted({re.sub(r"/cache/.*", "/cache", path) for path in caches})
                yield Problem(what, f"find {shlex.join(app_caches)} -mindepth 1 -delete", said)
            else:
                yield Problem(
                    what,
                    f"df -h {shlex.quote(mount)}",
                    said,
                    before=f"remove or move away what {mount} need not hold, or enlarge it.",
                )
        elif disk["inodes"] and disk["inodes_free"] < disk["inodes"] * 0.01:
            yield Problem(
                f"The disk {mount} has no room for more files. Apps fail at what they store.",
                f"df -i {shlex.quote(mount)}",
                (f"{disk['inodes_free']} of {disk['inodes']} inodes are free",),
                before=f"remove files that {mount} need not hold; `du --inodes -x {mount} | sort -n` shows where.",
            )


def name_unknown(domain: str, apps: Mapping[str, Mapping[str, Any]], commands: Commands) -> Iterator[Problem]:
    """A host name that no app has."""
    for app in apps.values():
        for known in app.get("domains", ["localhost"]) or [domain]:
            if known == domain or (known.startswith("*.") and domain.endswith(known[1:])):
                return
    yield Problem(
        f"No app has the name {domain}: clients get 421.",
        commands.site("apps"),
        tuple(f"{name}: {', '.join(app['domains'])}" for name, app in apps.items() if app.get("domains")),
        HERE,
        before=f"add {domain} to the domains of its app in flask_apps.",
    )


def clock(facts: Mapping[str, Any]) -> Iterator[Problem]:
    """A clock that is wrong, or that of the machine that runs Ansible."""
    if facts.get("clock_off", 0) > CLOCK:
        yield Problem(
            f"The clock differs by {facts['clock_off']:.0f} s from that of the machine that runs Ansible. "
            "Certificates, sessions and signed links may be refused, and logs of hosts are out of order.",
            "apt-get install --yes systemd-timesyncd && timedatectl set-ntp true",
            (f"it is {time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(facts['now']))} UTC on the host",),
            before="see which of the two clocks is right, with `date --utc`.",
        )  # fmt: skip


def diagnose(
    facts: Mapping[str, Any],
    names: Collection[str],
    commands: Commands,
    managed: Mapping[str, str],
    port: int,
    root: str,
) -> list[Problem]:
    """All that is wrong with a host, apart from its apps.

    :param facts: what the module `checkup` says of the host.
    :param names: of the apps that are to be there.
    :param managed: see `broken_nginx`.
    """
    units = facts["units"]
    problems = [*somebody_else(facts, port), *broken_nginx(facts, commands, managed)]
    down = service(NGINX, units[NGINX], commands.site("nginx"), "Clients get no answer.", NO_NGINX)
    cause = any(NGINX in problem.explains for problem in problems)
    problems += [one for one in down if not (cause and units[NGINX]["load"] == "loaded")]
    problems += service(
        EMPEROR, units[EMPEROR], commands.site("uwsgi"), "No app runs: clients wait, then get 502 to 504.", NO_EMPEROR
    )
    if GUARD in units and units[GUARD]["load"] != "not-found":
        problems += service(
            GUARD, units[GUARD], commands.site("uwsgi"), "Nothing is done before the memory runs out.", frozenset()
        )
    several = (firewall(facts), unread(facts), sockets(facts, names), drop_ins(facts), sharing(facts),
               disks(facts, root), clock(facts))  # fmt: skip
    return [*problems, *(one for found in several for one in found)]
