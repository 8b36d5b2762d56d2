"""Action plugin: check all settings of a host's apps, look at the host once, and say what a run is about to change."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible_collections.flaskops.emperor.plugins.action.deploy_lock import this_run, wait
from ansible_collections.flaskops.emperor.plugins.action.files import render
from ansible_collections.flaskops.emperor.plugins.action.host_state import check_system, specification
from ansible_collections.flaskops.emperor.plugins.module_utils import lock
from ansible_collections.flaskops.emperor.plugins.plugin_utils import (
    app_files,
    certificate_plan,
    dependencies,
    plan,
    steps,
)
from ansible_collections.flaskops.emperor.plugins.plugin_utils.host_action import HostAction
from ansible_collections.flaskops.emperor.plugins.plugin_utils.host_fit import check_host, check_ports
from ansible_collections.flaskops.emperor.plugins.plugin_utils.plan import Host, Wanted
from ansible_collections.flaskops.emperor.plugins.plugin_utils.plan_options import OPTIONS, PROXY_PORTS, VARIABLES
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.apps import complete_apps
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.mounts import sharers
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.relations import (
    check_only,
    check_proxies,
    check_proxy_ports,
    check_root,
    check_stop_timeout,
)
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.specification import check_variables
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.tls import ACME
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused
from ansible_collections.flaskops.emperor.plugins.plugin_utils.sites import Sites
from ansible_collections.flaskops.emperor.plugins.plugin_utils.sites import paths as site_paths
from ansible_collections.flaskops.emperor.plugins.plugin_utils.sources import bundles

MODULE = "flaskops.emperor.apps_state"
CACHE = "~/.cache/flaskops"
SHARED = "conf.d/flask_apps.conf"  # nginx's file for all apps of a host
SERVICES = ("nginx.service", "emperor.service")
ROTATION = "flask_apps-logs.timer"
SECRET = ("environment", "files", "build_environment", "build_credentials")  # settings that no template needs
BARRED = "ufw lets nobody in to port {0} of this host: run `ufw allow {0}/tcp` there."
UNLIMITED = (
    "The kernel of this host has no control groups for memory, so it does not hold apps to their memory.limit. Workers "
    "are still recycled before they grow out of it. Boot it without cgroup_disable=memory to have both."
)


def ports_of(host: Host, options: Mapping[str, Any]) -> dict[str, int]:
    """The ports that nginx is to have in a deploy, by the variables that say so. What only looks wants none."""
    if options["purpose"] != "deploy" or not any(app["state"] == "present" for app in host.apps):
        return {}
    https = {"flask_apps_https_port": options["https_port"]} if any(map(plan.https, host.apps)) else {}
    wanted = {"flask_apps_http_port": options["port"], **https, **options["proxy_ports"]}
    return {name: int(port) for name, port in wanted.items() if int(port)}


class ActionModule(HostAction):
    """Ansible's entry point."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check, look, compare."""
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        try:
            known = specification(self, task_vars)
            given = self._values(known, task_vars)
            check_variables(known, given, task_vars)
            options = self._options(given, task_vars)
            host = self._settings(options)
            chosen = [app for app in host.apps if not options["only"] or app["name"] in options["only"]]
            read = self._loader.get_text_file_contents
            certificates = certificate_plan.Certificates(chosen, host.apps, options, read)
            if options["purpose"] == "check":
                return self._reach(task_vars)
            wanted = self._wanted(chosen, host, options)
            state = self._look(wanted, host, options, certificates, task_vars)
            if state.get("failed") or state.get("unreachable"):
                return state
            host = replace(host, cpus=state["machine"]["cpus"], memory=state["machine"]["memory"])
            check_system("flask_apps", state["machine"], options["tested"], options["allow_untested"])
            check_host(host, wanted, state)
            check_ports(ports_of(host, options), state["strangers"])
            certificates.check(state)
            if options["purpose"] == "rollback":
                wanted = [self._target(one, state["apps"][one.name]["releases"], options) for one in wanted]
            if options["purpose"] == "checkup":
                wanted = [self._current(one, state["apps"][one.name]["releases"]) for one in wanted]
            answer = {"certificates": certificates.compare(wanted, host, state)}
            answer |= self._compare(wanted, host, state, options, task_vars)
            how = options["rolling"], options["balanced"]
            return answer | {"differs": plan.anything(answer), "steps": steps.of_host(answer, *how)}
        except Refused as refusal:
            return {"failed": True, "changed": False, "msg": str(refusal)}

    def _values(self, names: Iterable[str], task_vars: Mapping[str, Any]) -> dict[str, Any]:
        """The values of those of these variables that there are."""
        return {name: self._templar.template(task_vars[name]) for name in names if name in task_vars}

    def _options(self, given: Mapping[str, Any], task_vars: Mapping[str, Any]) -> dict[str, Any]:
        """What the task and the variables say.

        :param given: the values of the public variables of this role.
        """
        names = {option: variable for option, (variable, _kind) in VARIABLES.items()}
        values = {**given, **self._values(names.values() - given.keys(), task_vars)}
        said = {option: values[name] for option, name in names.items() if name in values}
        self._task.args = {**said, **self._task.args}
        _result, options = self.validate_argument_spec(OPTIONS)
        acme = self._values([f"certificates_{name}" for name in ACME], task_vars)
        role = Path(self._task._role._role_path)
        complete: dict[str, Any] = {
            **options,
            # Of the role certificates: checked with all other settings, before anything changes.
            "acme": {name.removeprefix("certificates_"): value for name, value in acme.items()},
            "hook": (role.parent / "certificates/files/deploy_hook.sh").read_text("utf-8"),
            "proxy_ports": {name: values.get(name, 0) for name in PROXY_PORTS},
            "tool": {"path": options["tools"], "package": f"uv=={options['uv_version']}"},
            "once": task_vars.get("inventory_hostname") == options["schedule_host"],
            "balanced": bool(options["balancers"]),
        }
        return complete

    def _reach(self, task_vars: Mapping[str, Any]) -> dict[str, Any]:
        """See that the host is there, if it has to come along with others. No module: each would start a Python."""
        if len(task_vars.get("ansible_play_hosts_all", ())) > 1:
            answer = self._low_level_execute_command("true")
            if answer["rc"] != 0:
                return {"failed": True, "changed": False, "msg": f"No command can be run: {answer['stderr'].strip()}"}
        return {"changed": False}

    def _settings(self, options: Mapping[str, Any]) -> Host:
        """Complete and check all settings, without looking at the host.

        :raises Refused: with one sentence that names the variable and the cure.
        """
        apps = complete_apps(
            options["apps"], root=options["root"], run=options["run"], tls=options["tls"], headers=options["headers"]
        )
        check_only(options["only"], apps)
        check_root(options["root"], options["writable_paths"])
        check_proxies(options["trusted_proxies"])
        check_proxy_ports(options["proxy_ports"], options["port"], options["https_port"], options["trusted_proxies"])
        host = Host(
            apps=apps, reserve=options["reserve"], uwsgi=options["uwsgi"], uwsgi_version=options["uwsgi_version"],
            backlog=options["backlog"], web_group=options["web_group"], keep=options["keep"],
            sites=f"{options['nginx']}/sites-enabled", vassals=options["directory"],
            port=options["port"], https_port=options["https_port"], pip_arguments=options["pip_arguments"],
            once=options["once"],
        )  # fmt: skip
        for app in apps:
            if app["state"] == "present":
                check_stop_timeout(app, options["stop_timeout"])
        return host

    def _wanted(self, chosen: list[Mapping[str, Any]], host: Host, options: Mapping[str, Any]) -> list[Wanted]:
        """What each app is to be like; for a deploy that packs the sources.

        :raises Refused: when a source cannot be used.
        """
        if options["purpose"] != "deploy":
            return [Wanted(app) for app in chosen]
        this = this_run()
        present = [app for app in chosen if app["state"] == "present"]
        packed = bundles(present, options["base"], os.path.expanduser(CACHE), f"{this['pid']}-{this['start']}")
        return [
            Wanted(
                app,
                release=plan.release_id(app, packed[app["name"]]["digest"], host),
                label=packed[app["name"]]["label"],
                bundle=packed[app["name"]]["file"],
                requirements=dependencies.requirements(app, packed[app["name"]]["requirements"]),
                git=dependencies.git(app, packed[app["name"]]),
                packages=plan.packages(app, host),
            )
            if app["state"] == "present"
            else Wanted(app)
            for app in chosen
        ]

    def _look(
        self,
        wanted: list[Wanted],
        host: Host,
        options: Mapping[str, Any],
        certificates: certificate_plan.Certificates,
        task_vars: dict[str, Any],
    ) -> dict[str, Any]:
        """Look at the host, for all apps at once."""
        units = [*SERVICES, ROTATION, *(one.socket_unit for one in wanted if one.app["state"] == "present")]
        patience = plan.PATIENCE if options["purpose"] != "checkup" else plan.BRIEF
        arguments = {
            "apps": [plan.question(one, host, self._asked(one, options), patience) for one in wanted],
            "directory": options["directory"],
            "root": options["root"],
            "files": [
                *plan.paths_of(wanted, host),
                *site_paths(host),
                options["root"],
                f"{options['nginx']}/{SHARED}",
                *certificates.paths(),
                *(one["path"] for one in options["rotation"]),
            ],
            "nginx": options["nginx"],
            "units": units,
            "tool": options["tool"],
            "packages": plan.debian(wanted),
            "ports": [*ports_of(host, options).values()],
            "offered": certificates.plugins(),
        }

        def ask(run: dict[str, Any]) -> dict[str, Any]:
            answer: dict[str, Any] = self._execute_module(MODULE, {**arguments, "lock": run}, task_vars=task_vars)
            return answer

        if options["lock"] is None or self._task.check_mode:
            return ask({})
        name = task_vars.get("inventory_hostname", "")
        return wait(ask, options["lock"], lock.PATH, name, self._display.display)

    def _asked(self, one: Wanted, options: Mapping[str, Any]) -> str | None:
        """The release to look for, see `plan.question`."""
        if options["purpose"] != "rollback":
            return one.release
        return options["targets"].get(one.name) or options["release"] or None

    def _target(self, one: Wanted, releases: Mapping[str, Any], options: Mapping[str, Any]) -> Wanted:
        """The release to which an app rolls back.

        :raises Refused: when there is none.
        """
        known = [release["id"] for release in releases["releases"]]
        target = self._asked(one, options) or releases["previous"]
        if not target:
            raise Refused(
                f"The app {one.name} has no earlier release that worked: deploy a good one instead. On this host there "
                f"are {', '.join(known) or 'none'}."
            )
        brought = options["staged"].get(one.name)
        if target not in known and brought and brought["id"] == target:
            file = brought["file"]
            return Wanted(one.app, release=target, label=brought["label"], bundle=file, recipe=brought["recipe"])
        if target not in known:
            raise Refused(f"The app {one.name} has no release {target} on this host: choose from {', '.join(known)}.")
        if target in releases["broken"]:
            raise Refused(f"Release {target} of {one.name} cannot start, as its Python is gone: deploy it instead.")
        label = next(release["label"] for release in releases["releases"] if release["id"] == target)
        return Wanted(one.app, release=target, label=label)

    def _current(self, one: Wanted, releases: Mapping[str, Any]) -> Wanted:
        """An app as its settings want it, in the release that is the current one."""
        if one.app["state"] == "absent":
            return one
        label = next((release["label"] for release in releases["releases"] if release["id"] == releases["current"]), "")
        return Wanted(one.app, release=releases["current"], label=label)

    def _site(self, app: Mapping[str, Any], mount: bool, task_vars: dict[str, Any]) -> str:
        """The text of a file of nginx for an app. Its secrets are out of the template's reach.

        :param mount: whether it is the one that the site of another app includes.
        """
        shown = {key: value for key, value in app.items() if key not in SECRET}
        shown["tls"] = {key: value for key, value in app["tls"].items() if key != "key"}
        return render(self, "site.conf.j2", {**task_vars, "__flask_apps_app": shown, "__flask_apps_mount": mount})

    def _compare(
        self,
        wanted: list[Wanted],
        host: Host,
        state: dict[str, Any],
        options: Mapping[str, Any],
        task_vars: dict[str, Any],
    ) -> dict[str, Any]:
        """The plan, and what the tasks of each app need; nothing in it is secret."""
        answer: dict[str, Any] = {"changed": False, "todo": [], "absent": [], "apps": {}}
        known = {**task_vars, "__flask_apps_plan": state}
        sites = Sites(host, state, lambda app, mount: self._site(app, mount, known))
        if options["purpose"] in ("deploy", "rollback"):
            sites.check([one.name for one in wanted])
        for one in wanted:
            if one.app["state"] == "present":
                one.mount = dict(sites.own(one.name))
                one.site = str(one.mount.pop(plan.site_path(one.name, host)))
            if options["purpose"] != "look":
                one.differs = plan.compare(one, host, state)
            if one.differs:
                answer["todo" if one.app["state"] == "present" else "absent"].append(one.name)
            answer["apps"][one.name] = self._facts(one, host, state, options["purpose"])
        answer["todo"] = sites.order(answer["todo"])
        answer["accounts"] = [name for name in answer["todo"] if answer["apps"][name]["steps"]["account"]]
        answer["before"] = {name: answer["apps"][name]["current"] for name in answer["todo"]}
        for number, name in enumerate(answer["todo"]):
            answer["apps"][name]["site_files"] = sites.change(name, answer["todo"][:number])
        answer["removal"] = {
            name: sites.removal(name, options["purpose"] == "look") for name in {*state["found"], *answer["apps"]}
        }
        answer["held"] = sites.held()
        listed = {app["name"] for app in host.apps}
        answer["untooled"] = not state["tooled"] and any(not app.get("built", True) for app in answer["apps"].values())
        answer["found"] = state["found"]
        answer["unlisted"] = [name for name in state["found"] if name not in listed]
        answer["services"] = {name: state["units"][name] for name in SERVICES}
        # The interpreter that Ansible found for its first module on the host: so it need not look again.
        answer["ansible_facts"] = state.get("ansible_facts", {})
        answer |= {name: state[name] for name in ("machine", "https", "https_stays", "redirected")}
        answer |= {name: state[name] for name in ("nginx_outdated", "packages")}
        text = render(self, "flask_apps.conf.j2", {**task_vars, "__flask_apps_plan": state})
        rotates = state["units"][ROTATION]["active"] and state["units"][ROTATION]["enabled"]
        shared = f"{options['nginx']}/{SHARED}"
        differs = plan.host_differs(state, options["root"], shared, text, options["rotation"])
        answer |= {"host_differs": differs or not rotates, "rotates": rotates}
        answer["table"] = plan.table(wanted, [] if options["only"] else answer["unlisted"], state["packages"])
        if options["show"]:
            name = task_vars.get("inventory_hostname", "")
            lines = [*answer["table"], *([UNLIMITED] if answer["todo"] and not state["machine"]["limits"] else [])]
            lines += [BARRED.format(port) for port in state["barred"]]
            self._display.display("\n".join([f"Plan for {name}:", *(f"  {line}" for line in lines)]))
        return answer

    def _facts(self, one: Wanted, host: Host, state: dict[str, Any], purpose: str) -> dict[str, Any]:
        """What the tasks of an app need to know of it."""
        if one.app["state"] == "absent":
            return {"differs": list(one.differs), "health": "", "certificate_problem": ""}
        found = state["apps"][one.name]
        releases = found["releases"]
        known = [release["id"] for release in releases["releases"]]
        built = one.release in known and "python" not in one.differs
        sides = bool(one.app["background"] or one.app["schedule"] or found["sides"]["parts"])
        return {
            "differs": list(one.differs),
            "steps": steps.of_app(one, built, bool(releases["current"]), sides, hooks=purpose == "deploy"),
            "reload": one.app["reload"],
            "workers": host.workers(one.name, plan.size_of(one.release or releases["current"], found)),
            "release": one.release,
            "label": one.label,
            "bundle": one.bundle,
            "recipe": dict(one.recipe) or plan.recipe(one),
            "built": built,
            "broken": releases["broken"],
            "current": releases["current"],
            "known": known,
            "releases": releases["releases"],
            "serving": found["vassal"]["release"],
            "size": plan.size_of(one.release, found),
            "tried": built and plan.tried(one, host, found),
            "instance": plan.instance(one, host),
            "socket_unit": state["units"][one.socket_unit]["there"],
            "files": app_files.files(one.app, host.web_group),
            "sites": {plan.site_path(one.name, host): one.site, **one.mount},
            "port": host.port_of(one.app),
            "tls": one.tls,
            "certificate_problem": certificate_plan.problem(one.app, state["certificates"].get(one.name)),
            "certificate_days": certificate_plan.days(one.app, state["certificates"].get(one.name)),
            "health": found["health"],
            "sides": sides,
            "sides_told": [part["told"] for part in found["sides"]["parts"].values()],
            "sides_unsound": [name for name, part in found["sides"]["parts"].items() if not part["sound"]],
            "said": dict(one.differs),
            "home": one.home,
            "run": one.app["paths"]["run"],
            "vassal": plan.vassal_shown(one, host, found) if one.release else {},
            # Paths of other apps on these domains that are not its own.
            "path": one.app["path"],
            "others": [app["path"] for app in sharers(host.apps, one.name) if len(app["path"]) > len(one.app["path"])],
            "domains": [*one.app["domains"], *one.app["redirect_domains"]],
            **{key: one.app[key] for key in ("max_request_seconds", "max_body_size", "checks")},
        }
