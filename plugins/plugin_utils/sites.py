"""nginx's files of the apps of a host: the site of each, and what it includes of apps on the same domain."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from ansible_collections.flaskops.emperor.plugins.plugin_utils.plan import Host, site_path
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.mounts import App, mounted, sharers
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused

Texts = dict[str, "str | None"]


def mount_path(app: App, host: Host) -> str:
    """The file that the site of the owner includes for an app. No name of an app has a `+`."""
    return f"{os.path.dirname(host.sites)}/flask_apps/{app['owner']}+{app['name']}.conf"


def paths(host: Host) -> list[str]:
    """The files to look at, of all apps, also those not at work."""
    found = []
    for app in host.apps:
        found.append(site_path(app["name"], host))
        if app["state"] == "present" and mounted(app):
            found.append(mount_path(app, host))
    return found


class Sites:
    """The files that are wanted, compared with those on the host.

    :param state: what the module `apps_state` returned.
    :param text: renders a file of an app; true for the one that the owner's site includes.
    """

    def __init__(self, host: Host, state: Mapping[str, Any], text: Callable[[App, bool], str]) -> None:
        self.host, self.text = host, text
        self.texts: dict[str, Texts] = {}
        self.apps = {app["name"]: app for app in host.apps if app["state"] == "present"}
        self.there = {name for name in self.apps if state["files"][site_path(name, host)]}
        self.mounts: list[str] = state["mounts"]
        # By whose site each app is reached now.
        self.reached = {found[1]: found[0] for path in self.mounts if len(found := self._named(path)) == 2}

    @staticmethod
    def _named(path: str) -> list[str]:
        return os.path.basename(path).removesuffix(".conf").split("+")

    def held(self) -> dict[str, list[str]]:
        """The apps that are reached by the site of another one, by the name of that one."""
        found: dict[str, list[str]] = {}
        for name, owner in self.reached.items():
            found.setdefault(owner, []).append(name)
        return found

    def own(self, name: str) -> Texts:
        """The files of an app, None for those that are to go."""
        if name not in self.texts:
            found: Texts = {path: None for path in self.mounts if self._named(path)[-1] == name}
            if name in self.apps:
                app = self.apps[name]
                found[site_path(name, self.host)] = self.text(app, False)
                if mounted(app):
                    found[mount_path(app, self.host)] = self.text(app, True)
            else:
                found[site_path(name, self.host)] = None
            self.texts[name] = found
        return self.texts[name]

    def moves(self, name: str) -> bool:
        """Whether an app on the host is to be reached by another site than now."""
        return name in self.there and self.reached.get(name, name) != self.apps[name]["owner"]

    def order(self, names: Sequence[str]) -> list[str]:
        """The apps in the order in which they switch: those new on a domain that others have come first.

        What served a path before them then does so until they can.
        """

        def late(name: str) -> tuple[bool, bool]:
            shared = len(sharers(self.host.apps, name)) > 1
            return (name in self.there or not shared, mounted(self.apps[name]))

        return sorted(names, key=late)

    def change(self, name: str, before: Collection[str]) -> list[dict[str, Any]]:
        """The files to change together, in the turn of an app.

        :param before: the apps whose turn was before.
        """
        ready = {*self.there, *before, name} & set(self.apps)
        together = {name, *(one for one in self.there if self.moves(one))}
        if name in self.apps:
            together |= {one["name"] for one in sharers(self.host.apps, name)} & ready
            together.add(self.apps[name]["owner"])
        texts: Texts = {}
        for one in sorted(together):
            texts |= self.own(one)
        return [
            {"path": path, "state": "absent"} if text is None else {"path": path, "content": text}
            for path, text in texts.items()
        ]

    def removal(self, name: str, alone: bool = False) -> list[dict[str, Any]]:
        """The files to change when an app is removed; one that flask_apps still has takes only its own along.

        :param alone: whether no other app gets its domain: all apps are removed, or none is reached by its site.
        """
        if alone or name in self.apps:
            return [{"path": path, "state": "absent"} for path in self.own(name)]
        return self.change(name, [])

    def check(self, chosen: Collection[str]) -> None:
        """See that the owner of a domain is there, or comes along.

        :param chosen: the apps at work.
        :raises Refused: when it does not.
        """
        for name, app in self.apps.items():
            owner, now = app["owner"], self.reached.get(name, name)
            domain = next(iter(app["domains"]), "all domains without an app")
            if name in chosen and now != name and now not in {one["name"] for one in self.host.apps}:
                raise Refused(
                    f"The app {now}, which owns {domain}, is on this host but not in flask_apps: add it with state: "
                    f"absent, and {owner} gets the domain in the same run."
                )
            settled = owner in self.there and self.reached.get(owner, owner) == owner
            if (name in chosen or now in chosen) and owner not in chosen and not settled:
                raise Refused(
                    f"flask_apps_only names {', '.join(sorted(chosen))}, but {domain} is to be owned by {owner}, which "
                    f"must come along: name {owner}, too."
                )
