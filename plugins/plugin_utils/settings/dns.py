"""The DNS challenge: what the user wrote of certbot's plugin, complete and checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import bounded, fail, given

VARIABLE = "certificates_acme_dns"
OPTIONS = ("plugin", "credentials", "propagation_seconds")
PLUGIN = re.compile(r"[a-z0-9]+\Z")
KEY = re.compile(r"[A-Za-z0-9_]+\Z")
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


def complete_dns(values: Any) -> dict[str, Any]:
    """certbot's plugin for DNS.

    :param values: ``certificates_acme_dns``.
    :returns: the ``plugin``, the ``content`` of its file of credentials, which may be empty, the ``secrets`` in it by
        their names, and as text for how many ``seconds`` to wait. Empty when nothing is set.
    :raises Refused: with one sentence that names the variable and the cure, and shows no credential.
    """
    if values in (None, "", {}):
        return {}
    if not isinstance(values, Mapping):
        fail(VARIABLE, "must have options: write {plugin: NAME, credentials: {...}}.")
    chosen = given(values)
    if unknown := [key for key in chosen if key not in OPTIONS]:
        fail(f"{VARIABLE}.{unknown[0]}", f"is no option: use {', '.join(OPTIONS)}.")
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
    if isinstance(credentials, str):
        return {"plugin": plugin, "content": f"{credentials.rstrip()}\n", "secrets": {}, "seconds": str(seconds)}
    content = "".join(_line(plugin, key, value) for key, value in credentials.items())
    secrets = {key: str(value) for key, value in credentials.items()}
    return {"plugin": plugin, "content": content, "secrets": secrets, "seconds": str(seconds)}
