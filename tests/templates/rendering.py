"""Templates rendered by Ansible's own Templar from the roles' own variables, without a host."""

import re
from pathlib import Path
from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.config import Config

ROLES = Path(__file__).parents[2] / "roles"
SHOP = {"name": "shop", "app": "shop:create_app()", "source": {"path": "shop"}}
OTHER = {"name": "other", "app": "other:app", "source": {"path": "other"}, "domains": ["other.example.com"]}
RELEASE = "3f2a9c01d4e5"
MACHINE = {"cpus": 2, "memory": 8000, "ipv6": True, "limits": True, "nginx": [1, 26]}
PLANNED = {"release": RELEASE, "instance": {}, "port": 80, "tls": False}
PLAN = {"apps": {"shop": PLANNED}, "redirected": [], "https": False}
SIZE = {"total": 40 << 20, "private": 10 << 20, "rss": 35 << 20}  # bytes


def variables(app, changes, loader):
    """Defaults and vars of the roles, as a play with all of them has them, for one app at work."""
    found = {}
    for kind in ("defaults", "vars"):
        for role in ("nginx", "uwsgi", "flask_apps", *(["release"] if kind == "vars" else [])):
            found.update(loader.load_from_file(str(ROLES / role / kind / "main.yml"), trusted_as_template=True))
    found.update(
        ansible_search_path=[str(ROLES / role) for role in ("nginx", "uwsgi", "flask_apps")],
        flask_apps=[OTHER, {**SHOP, **app}],
        role_path=str(ROLES / "uwsgi"),
        __flask_apps_name="shop",
        __flask_apps_plan={**PLAN, "machine": MACHINE},
        __release_size=SIZE,
    )
    found.update(changes)
    return found


def value(expression, app=None, **changes):
    """What a variable or expression of the roles stands for."""
    loader = DataLoader()
    templar = Templar(loader=loader, variables=variables(app or {}, changes, loader))
    return templar.template(trust_as_template("{{ " + expression + " }}"))


def render(template, app=None, **changes):
    """A template as the roles render it; `vassal.ini` is no template, but rendered on the host from data."""
    if template == "vassal.ini":
        return Config.of(value("__release_instance.config", app, **changes)).render()
    return str(value(f"lookup('ansible.builtin.template', '{template}')", app, **changes))


def options(text):
    """The lines of an ini file as (section, name, value), as strictly as uWSGI reads them."""
    found, section = [], ""
    for line in text.split("\n"):
        if line.startswith("["):
            section = line[1:-1]
        elif line and not line.startswith(";"):
            name, sign, value = line.partition(" = ")
            assert sign, f"not an option: {line!r}"
            found.append((section, name, value))
    return found


def ini(text, section):
    return {name: value for where, name, value in options(text) if where == section}


def hooks(text):
    """What a worker does when it was forked."""
    return [value for _section, name, value in options(text) if name == "hook-post-fork"]


def unit(text):
    """The settings of a unit, by section and name; most of those given twice would be two settings."""
    found: dict[tuple[str, str], str] = {}
    section = ""
    for line in text.split("\n"):
        if line.startswith("["):
            section = line
        elif line and not line.startswith("#"):
            name, sign, setting = line.partition("=")
            assert sign
            if name in ("ListenStream", "SystemCallFilter") and (section, name) in found:
                setting = found.pop((section, name)) + "\n" + setting
            assert (section, name) not in found
            found[section, name] = setting
    return found


def nginx(text):
    """nginx's configuration as nested lists: [words of a directive, ...] and, for a block, its content last."""
    tokens = re.findall(r'"[^"]*"|\'[^\']*\'|[^\s;{}"]+|[;{}]', re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE))
    stack: list[list[Any]] = [[]]
    words: list[Any] = []
    for token in tokens:
        if token == ";":
            stack[-1].append(words)
            words = []
        elif token == "{":
            block = [*words, []]
            stack[-1].append(block)
            stack.append(block[-1])
            words = []
        elif token == "}":
            assert not words, f"no semicolon after {words}"
            stack.pop()
        else:
            words.append(token)
    assert len(stack) == 1
    assert not words
    return stack[0]


def directives(block, *path):
    """The arguments of each directive of this name, below blocks of these names."""
    *outer, name = path
    for one in outer:
        block = next(found[-1] for found in block if " ".join(found[:-1]) == one)
    return [found[1:] for found in block if found[0] == name]


MODES = ["zerg", "chain", "graceful", "upstream"]
FULL = {
    "environment": {"A": "b"},
    "domains": ["shop.example.com"],
    "static": {"/static": "shop/static", "/media/v1": "media"},
    "uwsgi": {"offload-threads": 2, "mime-file": ["/a", "/b"]},
}


def placeholders(text):
    """What the loader of the app finds in the vassal file."""
    found = [value.partition("=") for _section, name, value in options(text) if name == "set-placeholder"]
    return {name.removeprefix("emperor-"): value for name, _sign, value in found}
