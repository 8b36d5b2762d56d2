"""Change files of a service's configuration, never to something that the service would refuse."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils import host
from ansible_collections.flaskops.emperor.plugins.module_utils.entries import ownership

OPEN = 0o644  # the mode of a file without secrets
# The text of each file; None for one that is to be absent.
Texts = dict[str, "str | None"]


def belongs(path: str, mode: int) -> bool:
    """Whether a file is root's with this mode: else a service may not be able to read it, or others may write it."""
    found = os.stat(path)
    return (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (os.getuid(), os.getgid(), mode)


def differing(texts: Mapping[str, str | None], mode_of: Callable[[str], int] = lambda _path: OPEN) -> Texts:
    """The files that are not as they should be.

    A link to nothing has no text, but a service that includes it does not start: it must go.

    :param mode_of: tells the mode of a file.
    """
    return {
        path: text
        for path, text in texts.items()
        if host.read(path) != text
        or (text is None and os.path.lexists(path))
        or (text is not None and not belongs(path, mode_of(path)))
    }


def shown(path: str, text: str | None) -> dict[str, str]:
    """The change of a file, as Ansible shows it: of its text, or else of its owner and mode."""
    before, after = host.read(path) or "", text or ""
    if before == after and os.path.exists(path):
        before, after = ownership(os.stat(path)), f"{os.getuid()}:{os.getgid()} {OPEN:04o}\n"
    return {"before": before, "after": after, "before_header": path, "after_header": path}


def put(path: str, text: str | None, mode: int = OPEN) -> None:
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
