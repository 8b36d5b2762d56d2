"""The DNS challenge: what the user wrote of certbot's plugin, complete and checked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import bounded, check_names, fail, given

VARIABLE = "certificates_acme_dns"
OPTIONS = ("plugin", "credentials", "environment", "propagation_seconds")
PLUGIN = re.compile(r"[a-z0-9]+\Z")
KEY = re.compile(r"[A-Za-z0-9_]+\Z")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
# certbot's parser (ConfigObj) takes a value in quotes as it is, except for %(name)s, which stands for another value.
UNWRITABLE = re.compile(r"[\x00-\x1f\x7f]|%\(|\".*'|'.*\"", re.DOTALL)
HOUR = 3600


def _line(plugin: str, key: Any, value: Any) -> str:
    """A line of the plugin's credentials."""
    where = f"{VARIABLE}.credentials.{key}"
    if not isinstance(key, str) or not KEY.match(key):
        fail(where, "is no name of a credential: use letters, digits and underscores.")
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        fail(
            where,
            f"is {'empty' if value in (None, '') else 'a ' + type(value).__name__}, but must be text: correct it.",
        )
    if UNWRITABLE.search(str(value)):
        fail(
            where, "has a line break, both kinds of quotes or '%(', which certbot's file cannot hold: get another one."
        )
    quote = "'" if '"' in str(value) else '"'
    prefix = f"dns_{plugin}_"
    return f"{prefix}{key.removeprefix(prefix)} = {quote}{value}{quote}\n"


def _environment(values: Any) -> dict[str, str]:
    """The environment variables of the plugin."""
    if not isinstance(values, Mapping):
        fail(f"{VARIABLE}.environment", "must be names of variables with values: correct it.")
    for name, value in values.items():
        where = f"{VARIABLE}.environment.{name}"
        if not isinstance(name, str) or not NAME.match(name):
            fail(where, "is no name of a variable: use letters, digits and underscores.")
        if name == "REQUESTS_CA_BUNDLE":
            fail(where, "is what certificates_acme_ca sets: use that.")
        if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
            kind = "empty" if value in (None, "") else f"a {type(value).__name__}"
            fail(where, f"is {kind}, but must be text: correct it.")
        if not str(value).isprintable():
            fail(where, "has a line break or another control character: correct it.")
    return {name: str(value) for name, value in values.items()}


def _secrets(text: str) -> dict[str, str]:
    """What no message may show of credentials that are a text: the values in it, by their names where it has some."""
    try:
        found = list(_leaves("", json.loads(text)))
    except ValueError:
        found = []
        for line in text.splitlines():
            name, sign, value = line.partition("=")
            found.append((name, value.strip().strip("'\"")) if sign else ("credentials", line.strip()))
    # A long value is often shown line by line.
    found += [(name, line.strip()) for name, value in found for line in value.splitlines()]
    return {f"{number} {name.strip()}": value for number, (name, value) in enumerate(found)}


def _leaves(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from _leaves(str(key), one)
    elif isinstance(value, list):
        for one in value:
            yield from _leaves(name, one)
    else:
        yield name, str(value)


def complete_dns(values: Any) -> dict[str, Any]:
    """certbot's plugin for DNS.

    :param values: ``certificates_acme_dns``.
    :returns: the ``plugin``, the ``content`` of its file of credentials, which may be empty, its ``environment``, the
        ``secrets`` in both by their names, and as text for how many ``seconds`` to wait. Empty when nothing is set.
    :raises Refused: with one sentence that names the variable and the cure, and shows no credential.
    """
    if values in (None, "", {}):
        return {}
    if not isinstance(values, Mapping):
        fail(VARIABLE, "must have options: write {plugin: NAME, credentials: {...}}.")
    chosen = given(values)
    check_names(chosen, OPTIONS, VARIABLE)
    plugin = chosen.get("plugin")
    if not isinstance(plugin, str) or not PLUGIN.match(plugin):
        said = "is missing" if plugin is None else f"is {plugin!r}"
        fail(f"{VARIABLE}.plugin", f"{said}, but must be the NAME of a Debian package python3-certbot-dns-NAME.")
    credentials = chosen.get("credentials")
    if credentials is None:
        sentence = "is missing: write what the documentation of the plugin asks for, or {} if that is nothing."
        fail(f"{VARIABLE}.credentials", sentence)
    if not isinstance(credentials, (str, Mapping)):
        fail(f"{VARIABLE}.credentials", "must be names with values, or the text of a file: correct it.")
    seconds = chosen.get("propagation_seconds", "")
    if seconds != "":
        seconds = bounded(seconds, 0, HOUR, f"{VARIABLE}.propagation_seconds", "seconds")
    environment = _environment(chosen.get("environment", {}))
    if isinstance(credentials, str):
        content, secrets = f"{credentials.rstrip()}\n", _secrets(credentials)
    else:
        content = "".join(_line(plugin, key, value) for key, value in credentials.items())
        secrets = {str(key): str(value) for key, value in credentials.items()}
    hidden = {**secrets, **{f"environment {name}": value for name, value in environment.items()}}
    return {
        "plugin": plugin, "content": content, "environment": environment, "secrets": hidden, "seconds": str(seconds),
    }  # fmt: skip
