"""What a run is about to change: the settings of a host compared with what is on it, app by app."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils.releases.settings_files import digest_of
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.config import Config, shown
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.modes import MODES
from ansible_collections.flaskops.emperor.plugins.plugin_utils import side_processes
from ansible_collections.flaskops.emperor.plugins.plugin_utils.app_files import as_wanted, digest, files
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.building import debian_packages
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.site import health_host
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.workers import steady, worker_plan
from ansible_collections.flaskops.emperor.plugins.plugin_utils.vassal_options import vassal_config

MIB = 1024 * 1024
SHORT = 12  # digits of a release ID
PATIENCE = 10  # seconds that a look waits for a health check; an app that is slower is looked at again by its own tasks
BRIEF = 3  # seconds like that of a look that only reports


def https(app: Mapping[str, Any]) -> bool:
    """Whether an app is to be served by HTTPS."""
    return bool(app["state"] == "present" and app["tls"]["mode"] != "off")


@dataclass(frozen=True)
class Host:
    """What the roles' settings say of a host and its apps.

    :ivar apps: all apps, completed by `complete_apps`.
    :ivar reserve: MiB of memory that are for no app.
    :ivar uwsgi: which uWSGI runs the apps, ``pyuwsgi`` or ``distro``.
    :ivar uwsgi_version: of the wheel.
    :ivar backlog: connections that wait for a free worker.
    :ivar web_group: group of nginx.
    :ivar pip_arguments: for every installation.
    :ivar keep: releases that stay.
    :ivar sites: directory of nginx's sites.
    :ivar vassals: directory of the vassal files.
    :ivar port: of nginx, for HTTP.
    :ivar https_port: of nginx, for HTTPS.
    :ivar once: whether scheduled jobs that run once per fleet run on this host.
    :ivar cpus: processors, known once the host was looked at.
    :ivar memory: MiB, like that.
    """

    apps: Sequence[Mapping[str, Any]]
    reserve: int
    uwsgi: str
    uwsgi_version: str
    backlog: int
    web_group: str
    keep: int
    sites: str
    vassals: str = "/etc/emperor/vassals"
    port: int = 80
    https_port: int = 443
    pip_arguments: Sequence[str] = ()
    once: bool = True
    cpus: int = 0
    memory: int = 0

    def port_of(self, app: Mapping[str, Any]) -> int:
        """The port to which clients of an app come."""
        return self.https_port if https(app) else self.port

    def workers(self, name: str, size: Mapping[str, int] | None) -> dict[str, Any]:
        """The workers of an app, see `worker_plan`."""
        return worker_plan(self.apps, name, self.cpus, steady(self.memory), self.reserve, size)


@dataclass
class Wanted:
    """What an app is to be like, as far as no secret is in it.

    :ivar release: ID of the release; empty for an app that is to be absent.
    :ivar label: what a person calls it.
    :ivar bundle: archive of its source on the controller; empty for a package and for a rollback.
    :ivar requirements: the file of the source that says what to install; empty when nothing is.
    :ivar git: the Debian package of that name, when a requirement comes from a repository.
    :ivar packages: what is installed besides that.
    :ivar recipe: what another host made this release with; empty when the settings say it, see `recipe`.
    :ivar site: text of nginx's site.
    :ivar mount: text of nginx's other files of the app by path, None for one that is to go, see `sites`.
    :ivar certificate: what is to be done about its certificate, as a phrase for a person.
    :ivar differs: what is not as it should be, each with a phrase for a person, which may be empty.
    """

    app: Mapping[str, Any]
    release: str = ""
    label: str = ""
    bundle: str = ""
    requirements: str = ""
    git: str = ""
    packages: Sequence[str] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)
    site: str = ""
    mount: Mapping[str, str | None] = field(default_factory=dict)
    certificate: str = ""
    differs: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.app["name"])

    @property
    def home(self) -> str:
        return str(self.app["paths"]["home"])

    @property
    def socket_unit(self) -> str:
        """The unit by which systemd holds the app's listening socket."""
        return f"emperor@{self.name}.socket"

    @property
    def tls(self) -> bool:
        """Whether it is to be served by HTTPS."""
        return https(self.app)


def packages(app: Mapping[str, Any], host: Host) -> list[str]:
    """What is installed into a release besides its requirements."""
    own = [app["source"]["package"]] if app["source"]["kind"] == "package" else []
    server = [f"pyuwsgi=={host.uwsgi_version}"] if host.uwsgi == "pyuwsgi" else []
    return [*own, *app["python"]["additional"], *server]


def release_id(app: Mapping[str, Any], digest: str, host: Host) -> str:
    """Names whatever a release is made of, its source by a digest; equal content, equal name."""
    python = {name: value for name, value in app["python"].items() if name != "additional"}  # one of the packages
    made_of = [digest, python, packages(app, host), list(host.pip_arguments), app["static"], app["build"]]
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:SHORT]


def recipe(wanted: Wanted) -> dict[str, Any]:
    """How a release is made, as the module `release` takes it and writes it down."""
    python = wanted.app["python"]
    return {
        **{name: python[name] for name in ("interpreter", "extras", "groups", "require_hashes")},
        "requirements": wanted.requirements,
        "packages": list(wanted.packages),
        "build": wanted.app["build"],
        "static": wanted.app["static"],
    }


def site_path(name: str, host: Host) -> str:
    """The file of an app's site."""
    return f"{host.sites}/flask_apps-{name}.conf"


def question(wanted: Wanted, host: Host, release: str | None, patience: int = PATIENCE) -> dict[str, Any]:
    """What the module `apps_state` needs to know of an app.

    :param release: the ID to look for; empty when none is wanted, None for the one to which a rollback returns.
    """
    asked = {"home": wanted.home, "release": release, "keep": host.keep}
    if wanted.app["state"] == "absent":
        return {**asked, "name": wanted.name, "run": wanted.app["paths"]["run"], "check": False}
    return {
        **asked,
        **reached(wanted),
        "static": wanted.app["static"] if release != "" else {},
        "data": {
            "persistent": wanted.app["persistent"],
            "files": [{key: one[key] for key in ("at", "key")} for one in wanted.app["files"]],
            "digest": digest_of(wanted.app["files"]),
        },
        "calendars": sorted({one["calendar"] for one in wanted.app["schedule"].values()}),
        "patience": min(wanted.app["max_start_seconds"], patience),
        "port": host.port_of(wanted.app),
    }


def reached(wanted: Wanted) -> dict[str, Any]:
    """Where an app is on its host, and how it is asked whether it is well."""
    app = wanted.app
    return {
        "name": wanted.name,
        "run": app["paths"]["run"],
        "link": f"{wanted.home}/serving",
        "upstream": f"{wanted.home}/upstream.sock",
        "health_path": app["health"]["path"],
        "script_name": app["path"],
        "health_status": app["health"]["status"],
        "health_host": health_host(app),
        "tls": wanted.tls,
    }


def instance(wanted: Wanted, host: Host) -> dict[str, Any]:
    """What the module `vassal` is told of an app in every state."""
    app, release = wanted.app, f"{wanted.app['paths']['releases']}/{wanted.release}"
    return {
        **reached(wanted),
        "directory": host.vassals,
        "reload": app["reload"],
        **({"release": release} if MODES[app["reload"]].through_link else {}),
        "size": f"{release}/size.json",
        "start_timeout": app["max_start_seconds"],
        "drain_timeout": app["max_request_seconds"],
        "memory_reserve": host.reserve,
    }


def debian(wanted: Iterable[Wanted]) -> list[str]:
    """The Debian packages of all apps, those that their files of requirements tell, too."""
    return sorted({name for one in wanted for name in [*debian_packages(one.app), one.git] if name})


def paths_of(wanted: Iterable[Wanted], host: Host) -> list[str]:
    """The files and directories to look at."""
    found = []
    for one in wanted:
        found.append(site_path(one.name, host))
        if one.app["state"] == "absent":
            found += [one.home, one.app["paths"]["log"], f"/etc/tmpfiles.d/emperor-{one.name}.conf"]
        else:
            found += [entry["path"] for entry in files(one.app, host.web_group)]
            found += [one.app["python"]["interpreter"], one.app["paths"]["socket"]]
    return found


def host_differs(
    state: Mapping[str, Any], root: str, shared: str, text: str, others: Iterable[Mapping[str, str]] = ()
) -> bool:
    """Whether what all apps share is not as it should be.

    :param root: the directory of all apps.
    :param shared: nginx's file for all apps, with this ``text``.
    :param others: more files, each with its ``path`` and ``content``.
    """
    owned = {"owner": "root", "group": "root"}
    entries = [{"path": root, "state": "directory", "mode": "0755"}, {"path": shared, "content": text, "mode": "0644"}]
    entries += [{**one, "mode": "0644"} for one in others]
    return not all(as_wanted({**entry, **owned}, state["files"][entry["path"]]) for entry in entries)


def anything(answer: Mapping[str, Any]) -> bool:
    """Whether a run has something to do on a host, as the plan has it."""
    kinds = ("todo", "absent", "untooled", "packages", "nginx_outdated", "host_differs")
    return any(answer.get(kind) for kind in kinds) or any(
        answer["certificates"].get(kind) for kind in ("todo", "files_differ", "unused")
    )


def leftovers(wanted: Wanted, host: Host, state: Mapping[str, Any]) -> dict[str, str]:
    """Why an app that is to be absent is not."""
    found = state["apps"][wanted.name]
    there = found["account"] or found["vassal"]["slots"]
    there = there or any(state["files"][path] for path in paths_of([wanted], host))
    return {"absent": "will be removed with its data"} if there else {}


def size_of(release: str, state: Mapping[str, Any]) -> dict[str, int]:
    """What a release uses with one worker, in bytes; empty when that was not measured."""
    return next((one["size"] for one in state["releases"]["releases"] if one["id"] == release), {})


def tried(wanted: Wanted, host: Host, state: Mapping[str, Any]) -> bool:
    """Whether the release passed its trial start with these very settings, so that its size is known.

    :param state: what `apps_state` says of the app.
    """
    path = f"{wanted.app['paths']['releases']}/{wanted.release}"
    digest = vassal_of(wanted, host, state)[1].trial_digest(path if MODES[wanted.app["reload"]].through_link else "")
    return any(one["id"] == wanted.release and one["tried"] == digest for one in state["releases"]["releases"])


def release_differs(wanted: Wanted, found: Mapping[str, Any]) -> dict[str, str]:
    """What differs in the releases of an app.

    :param found: what `apps_state` says of them.
    """
    called = f"{wanted.release} ({wanted.label})" if wanted.label else wanted.release
    called += f", requires {wanted.requirements}" if wanted.requirements else ""
    known = {one["id"]: one for one in found["releases"]}
    differs = {}
    if not found["current"]:
        differs["release"] = f"new app, release {called}"
    elif found["current"] != wanted.release:
        served = known.get(wanted.release, {}).get("activated")
        differs["release"] = f"{'back to' if served else 'new'} release {called}"
    elif wanted.release not in known:
        differs["release"] = f"release {called} is incomplete"
    if not found["static_right"]:
        differs["static"] = "" if differs else "static files"
    if found["superfluous"] and found["current"] == wanted.release:
        differs["superfluous"] = "old releases to remove"
    return differs


def vassal_of(wanted: Wanted, host: Host, state: Mapping[str, Any]) -> tuple[dict[str, Any], Config]:
    """The workers of an app and its vassal, as the settings want them.

    :param state: what `apps_state` says of the app.
    """
    workers = host.workers(wanted.name, size_of(wanted.release, state))
    return workers, Config.of(
        vassal_config(wanted.app, workers, wanted.release, uwsgi=host.uwsgi, backlog=host.backlog)
    )


def vassal_shown(wanted: Wanted, host: Host, state: Mapping[str, Any]) -> dict[str, str]:
    """The wanted vassal file: its ``digest``, and its ``text`` as it may be shown."""
    text = vassal_of(wanted, host, state)[1].render()
    return {"digest": digest(text), "text": shown(text)}


def vassal_differs(wanted: Wanted, host: Host, state: Mapping[str, Any]) -> dict[str, str]:
    """What differs in the instance of an app.

    :param state: what `apps_state` says of the app.
    """
    found, app = state["vassal"], wanted.app
    if not found["slots"]:
        return {"instance": "not running"}
    new = state["releases"]["current"] != wanted.release  # its file and link are others then
    workers, config = vassal_of(wanted, host, state)
    newest, differs = found["slots"][-1], {}
    if newest["digest"] != digest(config.render()) and not new:
        differs["settings"] = "settings changed"
    if len(found["slots"]) > 1 or found["unfinished"]:
        differs["unfinished"] = "interrupted run"
    if newest["problem"]:
        differs["instance"] = f"health check fails: {newest['problem']}"
    elif not found["upstream_right"]:
        differs["upstream"] = "requests go to a wrong socket"
    serving = f"{app['paths']['releases']}/{wanted.release}"
    if MODES[app["reload"]].through_link and found["serving"] != serving and not new:
        differs["serving"] = "workers load a wrong release"
    if not found["limit_held"] or found["limit"] != workers["share"] * MIB:
        differs["limit"] = "" if new else "memory limit changed"
    if not found["confined"]:
        differs["unit"] = "" if new else "its unit is not confined as it should be"
    return differs


def compare(wanted: Wanted, host: Host, state: Mapping[str, Any]) -> dict[str, str]:
    """What is not as the settings say; empty when nothing is.

    :param state: what the module `apps_state` returned.
    """
    if wanted.app["state"] == "absent":
        return leftovers(wanted, host, state)
    found, name = state["apps"][wanted.name], wanted.name
    new = not found["releases"]["current"]
    differs = release_differs(wanted, found["releases"])
    for kind, phrase in (("persistent", "persistent directories"), ("files", "configuration files")):
        if not found["releases"][f"{kind}_right"]:
            differs["configuration" if kind == "files" else kind] = "" if "release" in differs else phrase
    if wanted.release in found["releases"]["broken"]:
        differs["python"] = f"the Python of release {wanted.release} is gone: it is built anew"
    account = {"home": wanted.app["paths"]["shared"], "shell": "/usr/sbin/nologin", "group": name}
    if found["account"] != account:
        differs["account"] = "account"
    if not all(as_wanted(entry, state["files"][entry["path"]]) for entry in files(wanted.app, host.web_group)):
        differs["files"] = "directories"
    unit = state["units"][wanted.socket_unit]
    if not (unit["active"] and unit["enabled"] and state["files"][wanted.app["paths"]["socket"]]):
        differs["socket"] = "listening socket not held"
    owned = {"owner": "root", "group": "root", "mode": "0644"}
    for path, text in {site_path(name, host): wanted.site, **wanted.mount}.items():
        if text is None or not as_wanted({"content": text, **owned}, state["files"][path]):
            differs["site"] = "site changed"
    differs |= vassal_differs(wanted, host, found)
    if wanted.release:
        differs |= side_processes.differ(wanted.app, wanted.release, host.once, found["sides"], "release" in differs)
    if found["health"] and not differs:
        differs["health"] = f"clients {found['health']}"
    return {key: text if key == "release" or not new else "" for key, text in differs.items()}


def table(wanted: Sequence[Wanted], unlisted: Sequence[str], packages: Sequence[str] = ()) -> list[str]:
    """The plan as lines for a person.

    :param packages: of Debian, to install.
    """
    width = max([len(one.name) for one in wanted], default=0)
    lines = []
    for one in wanted:
        said = ", ".join(phrase for phrase in (*one.differs.values(), one.certificate) if phrase)
        lines.append(f"{one.name.ljust(width)}  {said or 'unchanged'}")
    if packages:
        lines.append(f"Debian packages to install: {', '.join(packages)}")
    if unlisted:
        lines.append(
            f"on this host but not in flask_apps: {', '.join(unlisted)} (playbooks/remove.yml -e app=NAME removes one)"
        )
    return lines
