"""Change files of a service's configuration, never to something that the service would refuse."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils import host

# The text of each file; None for one that is to be absent.
Texts = dict[str, "str | None"]


def differing(texts: Mapping[str, str | None]) -> Texts:
    """The files that are not as they should be.

    A link to nothing has no text, but a service that includes it does not start: it must go.
    """
    return {
        path: text
        for path, text in texts.items()
        if host.read(path) != text or (text is None and os.path.lexists(path))
    }


def put(path: str, text: str | None, mode: int = 0o644) -> None:
    """Let a file have this text, in one step.

    Until then it has a hidden name, which patterns like ``sites-enabled/*`` do not match.
    """
    if text is None:
        host.remove(path)
        return
    directory, name = os.path.split(path)
    os.makedirs(directory, mode=0o755, exist_ok=True)
    hidden = os.path.join(directory, f".{name}")
    host.write(hidden, text, os.getuid(), os.getgid(), mode)
    os.replace(hidden, path)


def fault(
    module: Any,
    root: str,
    changes: Mapping[str, str | None],
    command: Callable[[str], list[str]],
    adapted: Callable[[str, str], str],
) -> str:
    """What a service has against its configuration with these changes; empty when it has nothing.

    It tests a copy: the configuration itself is not touched.

    :param module: an ``AnsibleModule``.
    :param root: directory of the configuration.
    :param command: the test, of the copy in this directory. Beside it the test may write.
    :param adapted: a text as it must be in the copy in this directory.
    """
    with tempfile.TemporaryDirectory(dir=module.tmpdir) as scratch:
        copy = os.path.join(scratch, "copy")
        shutil.copytree(root, copy, symlinks=True)
        for path, text in changes.items():
            candidate = os.path.join(copy, os.path.relpath(path, root))
            put(candidate, text if text is None else adapted(text, copy), 0o600)
        code, out, err = module.run_command(command(copy))
        return "" if code == 0 else (err or out).strip().replace(copy, root) or f"It ends with {code}."


def refuse(module: Any, service: str, changes: Mapping[str, str | None], reason: str) -> None:
    """End the module with what the service has against its new configuration."""
    names = ", ".join(changes)
    module.fail_json(msg=f"{names} was not changed: {service} refuses the new configuration. {reason}")
