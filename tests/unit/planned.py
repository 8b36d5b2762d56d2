"""What a host should be like and what is found on it, for tests of the plan."""

import copy

from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.config import Config
from ansible_collections.flaskops.emperor.plugins.plugin_utils import app_files, plan
from ansible_collections.flaskops.emperor.plugins.plugin_utils.plan import Host, Wanted
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.apps import complete_apps
from ansible_collections.flaskops.emperor.plugins.plugin_utils.vassal_options import vassal_config

SHOP = {"name": "shop", "app": "shop:app", "source": {"path": "."}}
RELEASE, OLD = "3f2a9c01d4e5", "0123456789ab"
SITE = "server {}\n"
APP = ("apps", "shop")  # where it is in what was found
DIGEST = "0" * 64
MACHINE = {"distribution": "Debian", "version": "13", "filters": True}


def host(*apps, **more):
    """A host with these apps."""
    settings = {"cpus": 2, "memory": 8000, "reserve": 64, "uwsgi": "pyuwsgi", "uwsgi_version": "2.0.30.post1"}
    settings |= {"backlog": 1024, "web_group": "www-data", "keep": 5, "sites": "/etc/nginx/sites-enabled"}
    return Host(apps=complete_apps(apps or (SHOP,)), **{**settings, **more})


def wanted(on, **more):
    return Wanted(on.apps[0], **{"release": RELEASE, "site": SITE, **more})


def as_on_disk(entry):
    digest = app_files.digest(entry["content"]) if "content" in entry else ""
    kind = "file" if "content" in entry else "directory"
    owned = {key: entry[key] for key in ("owner", "group", "mode")}
    return {"kind": kind, "digest": digest, "target": "", "executable": False, **owned}


def healthy(on, one):
    """What is found of an app that runs as it should."""
    app = one.app
    config = Config.of(vassal_config(app, on.workers(one.name, None), one.release, uwsgi=on.uwsgi, backlog=on.backlog))
    slot = {"slot": "blue", "digest": app_files.digest(config.render()), "generation": config.generation, "problem": ""}
    limit = on.workers(one.name, None)["share"] * plan.MIB
    files = {entry["path"]: as_on_disk(entry) for entry in app_files.files(app, on.web_group)}
    site = {"content": one.site, "owner": "root", "group": "root", "mode": "0644"}
    files[plan.site_path(one.name, on)] = as_on_disk(site)
    files[app["python"]["interpreter"]] = {**as_on_disk(site), "executable": True}
    files[app["paths"]["socket"]] = as_on_disk(site)
    return {
        "apps": {
            one.name: {
                "account": {"home": app["paths"]["shared"], "shell": "/usr/sbin/nologin", "group": one.name},
                "releases": {
                    "releases": [
                        {"id": one.release, "size": {}, "tried": "", "label": "", "activated": 1.0},
                        {"id": OLD, "size": {}, "tried": "", "label": "v1"},
                    ],
                    "current": one.release,
                    "previous": OLD,
                    "superfluous": [],
                    "broken": [],
                    "static_right": True,
                    "persistent_right": True,
                    "files_right": True,
                },
                "vassal": {
                    "slots": [slot],
                    "unfinished": False,
                    "serving": f"{app['paths']['releases']}/{one.release}",
                    "upstream_right": True,
                    "limit": limit,
                    "limit_held": True,
                    "confined": True,
                },
                "sides": {"parts": {}, "unfinished": False},
                "calendars": {},
                "health": "",
            }
        },
        "files": files,
        "units": {one.socket_unit: {"there": True, "active": True, "enabled": True, "stale": False}},
        "found": [one.name],
        "machine": MACHINE,
    }


def changed(state, path, value):
    """A copy of what is found with one thing changed; `path` leads there."""
    state = copy.deepcopy(state)
    place = state
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return state
