"""One app on many hosts: which release each of them serves, and to which one all of them go back."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused

IN_STEP = ("linear", "debug", "mitogen_linear")  # the strategies with which hosts wait for each other
Plans = Mapping[str, Mapping[str, Any]]  # for every host what `apps_plan` says; empty for one that was not looked at


def check_strategy(strategy: str) -> None:
    """See that hosts wait for each other after each task.

    :param strategy: Ansible's, of the play.
    :raises Refused: when they do not.
    """
    if strategy.rpartition(".")[2] not in IN_STEP:
        raise Refused(
            f"The strategy of this play is {strategy}, with which no host waits for the others, so a release that "
            "fails on one would stay on the rest: set `strategy: linear`, in the playbook or in ansible.cfg."
        )


def check_missing(missing: Collection[str], allowed: bool) -> None:
    """See that no host is left behind.

    :param missing: hosts that cannot be reached, or that failed a check and so have left the play.
    :param allowed: whether the run goes on without them.
    :raises Refused: with the cure, when it may not.
    """
    if missing and not allowed:
        raise Refused(
            f"{', '.join(missing)} cannot be reached, or did not pass the checks above, so nothing was changed: bring "
            "it back or correct its settings, take it out of the inventory, or go on without it with "
            "`-e allow_missing=1`."
        )


def check_canary(canary: str, hosts: Collection[str], percent: int, seconds: int) -> None:
    """See that the host that is to go first is there, and that its errors can be counted.

    :param canary: its name; empty when none goes first.
    :param percent: of its responses that may be errors; 100 when nobody counts them.
    :param seconds: for which they are counted.
    :raises Refused: with the cure.
    """
    if canary and canary not in hosts:
        raise Refused(f"flask_apps_canary is {canary}, which is no host of this run: choose from {', '.join(hosts)}.")
    if percent < 100 and seconds <= 0:
        raise Refused(
            f"flask_apps_canary_error_percent is {percent}, but no errors are counted in no time: set "
            "flask_apps_canary_seconds, too."
        )


def apps_of(plans: Plans) -> list[str]:
    """The apps that are to be present on any host."""
    names = {name for plan in plans.values() for name, app in plan.get("apps", {}).items() if "release" in app}
    return sorted(names)


def called(app: Mapping[str, Any], release: str) -> str:
    """A release for a person."""
    label = next((one["label"] for one in app.get("releases", ()) if one["id"] == release), "")
    short = label[:12] if len(label) == 40 else label
    return f"{release} ({short})" if short else release or "no release"


def serving(name: str, plans: Plans) -> dict[str, list[str]]:
    """The hosts by what they serve, hosts that were not looked at by an empty text."""
    found: dict[str, list[str]] = {}
    for host, plan in plans.items():
        app = plan.get("apps", {}).get(name)
        if app and "serving" in app:
            found.setdefault(called(app, app["serving"]), []).append(host)
        elif not plan:
            found.setdefault("", []).append(host)
    return found


def told(plans: Plans) -> list[str]:
    """What every host serves, app by app, for a person."""
    lines = []
    for name in apps_of(plans):
        where = serving(name, plans)
        lines += [
            f"{name}: {', '.join(hosts)} {'serves' if len(hosts) == 1 else 'serve'} {release}"
            if release
            else f"{name}: {', '.join(hosts)} cannot be asked; what is there now is not known"
            for release, hosts in where.items()
        ]
    return lines


def mixed(plans: Plans) -> list[str]:
    """A sentence for every app that hosts serve in different releases."""
    found = []
    for name in apps_of(plans):
        where = {release: hosts for release, hosts in serving(name, plans).items() if release}
        if len(where) > 1:
            said = ", ".join(f"{release} on {', '.join(hosts)}" for release, hosts in where.items())
            found.append(f"The hosts serve different releases of {name}: {said}.")
    return found


def good(releases: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """When each release was last made the current one; those that never were, or that failed, are left out."""
    return {one["id"]: float(one["activated"]) for one in releases if one.get("activated") and not one.get("failed")}


def target(name: str, plans: Plans, named: str) -> str:
    """The release to which an app goes back on all hosts.

    :param named: the one that a person chose; empty for the last one before the current that worked.
    :raises Refused: when there is none.
    """
    apps = {host: plan["apps"][name] for host, plan in plans.items() if name in plan.get("apps", {})}
    live: dict[str, float] = {}
    for app in apps.values():
        for release, moment in good(app["releases"]).items():
            live[release] = max(moment, live.get(release, 0.0))
    failed = {one["id"] for app in apps.values() for one in app["releases"] if one.get("failed")}
    currents = {app["current"] for app in apps.values()} - {""}
    newest = max(currents, key=lambda release: live.get(release, 0.0), default="")
    earlier = [release for release in live if release != newest and release not in failed]
    wanted = named or max(earlier, key=lambda release: live[release], default="")
    known = {host: [one["id"] for one in app["releases"]] for host, app in apps.items()}
    everywhere = sorted(set.intersection(*(set(ids) for ids in known.values()))) if known else []
    if not wanted or not any(wanted in ids for ids in known.values()):
        missing = f"release {named} on any host" if named else "earlier release that worked"
        raise Refused(
            f"The app {name} has no {missing}, so nothing was changed: deploy a good one instead. On all hosts there "
            f"are {', '.join(everywhere) or 'none'}."
        )
    return wanted


def staged(name: str, plans: Plans, release: str) -> dict[str, Any]:
    """From which host others get the source of a release that they lack; empty when all have it.

    :returns: its ``id`` and ``label``, the ``host``, the ``recipe``, and whether there is an ``archive`` to bring.
    :raises Refused: when it was built by a version of this collection that did not keep the source.
    """
    apps = {host: plan["apps"][name] for host, plan in plans.items() if name in plan.get("apps", {})}
    known = {host: {one["id"]: one for one in app["releases"]} for host, app in apps.items()}
    without = [host for host, ids in known.items() if release not in ids]
    if not without:
        return {}
    for host, ids in known.items():
        found = ids.get(release, {})
        if recipe := found.get("recipe"):
            return {"id": release, "label": found["label"], "host": host, "recipe": recipe, "archive": found["source"]}
    there = next(app for host, app in apps.items() if release in known[host])
    everywhere = sorted(set.intersection(*(set(ids) for ids in known.values())))
    raise Refused(
        f"The app {name} has no release {called(there, release)} on {', '.join(without)}, and no host has kept its "
        "source, so nothing was changed: deploy it again, or choose one that all hosts have with -e release=ID: "
        f"{', '.join(everywhere) or 'there is none'}."
    )


def check_errors(
    before: Iterable[Mapping[str, Any]],
    after: Iterable[Mapping[str, Any]],
    hosts: Collection[str],
    apps: Collection[str],
    percent: int,
) -> None:
    """See that the first hosts answer with few errors, as all load balancers together have counted them.

    :param before: the servers of every balancer, as the module `haproxy_server` sees them.
    :param after: the same later.
    :param percent: of the responses of an app that may be errors.
    :raises Refused: when more are.
    """
    for app in apps:
        counts = {"responses": 0, "errors": 0}
        for servers, sign in ((after, 1), (before, -1)):
            for one in servers:
                if one["app"] == app and one["server"] in hosts:
                    for name in counts:
                        counts[name] += sign * one[name]
        # A balancer that was restarted meanwhile counts from the beginning.
        errors, responses = counts["errors"], counts["responses"]
        if errors > 0 and errors * 100 > percent * responses:
            raise Refused(
                f"{errors} of {responses} responses of {app} on {', '.join(hosts)} were errors (5xx), more than the "
                f"{percent} % of flask_apps_canary_error_percent, so the other hosts do not follow: see why with "
                f"playbooks/logs.yml -e app={app}."
            )
