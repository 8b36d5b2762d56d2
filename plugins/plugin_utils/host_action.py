"""Run the modules of this collection from files that the host keeps, rather than send and compile them each time.

For each task Ansible sends a module with all libraries that it imports, and the host compiles them anew: for the larger
modules of this collection that is 150 to 300 KB and a tenth of a second or more. What is the same in every task is
brought once instead, in a directory named by its digest, so that another version of this collection or of ansible-core
has another one. Python keeps there what it compiled. The directory may be removed at any time; the next run that
changes something brings it again. Where this cannot be done, Ansible's own way is taken.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import json
import shlex
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ansible
from ansible.module_utils.common.json import Direction, get_module_decoder, get_module_encoder
from ansible.plugins.action import ActionBase
from ansible.release import __author__, __version__
from ansible_collections.flaskops.emperor.plugins.module_utils.kept import GONE, NEXT

COLLECTION = "flaskops.emperor."
KEPT = "/var/cache/flaskops-emperor"
PACKAGE = "ansible_collections/flaskops/emperor/plugins"
START = f"{PACKAGE}/module_utils/kept.py"
PYTHON = "/usr/bin/python3"  # of Debian
ELSEWHERE = (GONE, 127)  # 127: there is no such Python
UNUSED = ("facts",)  # a third of the libraries of Ansible; no module of this collection gathers facts
STAY = 3  # versions that a host keeps, the newest ones: several machines with Ansible may take turns
# Several runs may do it at once: then one of them puts the directory there, and what the others are at is not removed.
# Locked, as one that still saw nothing there would remove what another one has just put there.
BRING = """umask 077 && mkdir -p {kept} && new=$(mktemp -d {kept}/new.XXXXXX) || exit 1
tar -xz --no-same-owner -C "$new" && sync -f "$new" || {{ rm -rf "$new"; exit 1; }}
exec 9< {kept} && flock 9 || exit 1
if [ -s {start} ]; then rm -rf "$new"; else rm -rf {place} && mv -T "$new" {place} || exit 1; fi
ls -1td {kept}/[0-9a-f]* | grep -vxF {place} | tail -n +{stay} | xargs -r rm -rf
find {kept} -maxdepth 1 -name 'new.*' -mmin +60 -exec rm -rf {{}} +
[ -s {start} ]"""


def sources() -> Iterator[tuple[str, bytes]]:
    """The files that modules of this collection need on a host, each with its path there."""
    yield "ansible/__init__.py", f"__version__ = {__version__!r}\n__author__ = {__author__!r}\n".encode()
    own = Path(__file__).parents[1]
    parts = PACKAGE.split("/")
    packages = ["/".join(parts[: number + 1]) for number in range(len(parts))]
    for package in (*packages, f"{PACKAGE}/modules", f"{PACKAGE}/module_utils"):
        yield f"{package}/__init__.py", b""
    for directory, place in (
        (Path(ansible.__file__).parent / "module_utils", "ansible/module_utils"),
        (own / "modules", f"{PACKAGE}/modules"),
        (own / "module_utils", f"{PACKAGE}/module_utils"),
    ):
        for file in sorted(directory.rglob("*.py")):
            if file.relative_to(directory).parts[0] not in UNUSED:
                yield f"{place}/{file.relative_to(directory)}", file.read_bytes()


@functools.cache
def digest() -> str:
    """Names these files by what is in them."""
    whole = hashlib.sha256()
    for name, content in sources():
        whole.update(f"{name} {len(content)} ".encode() + content)
    return whole.hexdigest()[:16]


digest()  # kept for all tasks, each of which is a process forked from this one: they read no file for it


def packed() -> bytes:
    """These files, as an archive."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, content in sources():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o600
            tar.addfile(entry, io.BytesIO(content))
    return gzip.compress(archive.getvalue())


def told(result: Mapping[str, Any], stdout: str) -> dict[str, Any]:
    """The answer of a module, from what it wrote.

    :param result: how the execution ended.
    """
    lines = [line for line in stdout.splitlines() if line.startswith("{")]
    try:
        decoder = get_module_decoder("legacy", Direction.MODULE_TO_CONTROLLER)
        answer: dict[str, Any] = json.loads(lines[-1], cls=decoder)
    except (IndexError, ValueError):
        # Killed, as by the kernel when memory is short, or by a signal.
        cause = f"The module ended with status {result['rc']} and without an answer: {result['stderr'].strip()}"
        return {"failed": True, "changed": False, "msg": cause}
    for stream in {"stdout", "stderr"} & answer.keys():
        answer.setdefault(f"{stream}_lines", (answer[stream] or "").splitlines())
    return {key: value for key, value in answer.items() if not key.startswith("_ansible_")}


class HostAction(ActionBase):
    """What an action plugin of this collection builds on, if it executes modules."""

    def _execute_module(
        self,
        module_name: str | None = None,
        module_args: dict[str, Any] | None = None,
        tmp: str | None = None,
        task_vars: dict[str, Any] | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Execute a module, with the files that the host keeps if it is one of this collection."""
        name = module_name or self._task.action
        if not self._task.async_val:
            arguments = self._task.args if module_args is None else module_args
            answers = self._execute_kept([(name, arguments)], task_vars or {})
            if answers:
                return answers[0]
        usual: dict[str, Any] = super()._execute_module(module_name, module_args, tmp, task_vars, **options)
        return usual

    def _execute_modules(
        self, modules: Sequence[tuple[str, dict[str, Any]]], task_vars: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Execute modules of this collection one after the other, until one fails; all at once where that can be done.

        :param modules: the name and the arguments of each.
        :returns: the answers of those that were executed.
        """
        answers = self._execute_kept(modules, task_vars or {})
        if not answers:
            for name, arguments in modules:
                answers.append(super()._execute_module(name, arguments, task_vars=task_vars))
                if answers[-1].get("failed"):
                    break
        return answers

    def _reachable(self) -> bool:
        """Whether a program can be started on the host with its input, and the host is another system than this one."""
        connection = self._connection
        return bool(connection.is_pipelining_enabled() and not getattr(connection, "_remote_is_local", False))

    def _execute_kept(
        self, modules: Sequence[tuple[str, dict[str, Any]]], variables: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """The answers of modules, the last of which may have failed; none when they did not run."""
        if not all(name.startswith(COLLECTION) for name, _arguments in modules) or not self._reachable():
            return []
        encoder = get_module_encoder("legacy", Direction.CONTROLLER_TO_MODULE)
        lines = []
        for name, given in modules:
            arguments = dict(given)
            self._update_module_args(name, arguments, variables)
            lines.append(json.dumps({"ANSIBLE_MODULE_ARGS": arguments}, cls=encoder))
        text = "\n".join(lines).encode()
        names = " ".join(name.removeprefix(COLLECTION) for name, _arguments in modules)
        place = f"{KEPT}/{digest()}"
        python = shlex.quote(self._python(variables))
        # Without what is installed for that Python, which no module of this collection uses: it starts a third faster.
        program = f"{self._compute_environment_string()} {python} -IS {place}/{START} {names}"
        command = f"[ -s {place}/{START} ] || exit {GONE}; {program.strip()}"
        result = self._low_level_execute_command(command, in_data=text)
        if result["rc"] == GONE and not self._task.check_mode and self._bring(place):
            result = self._low_level_execute_command(command, in_data=text)
        if result["rc"] in ELSEWHERE:
            return []
        self._display.vvv(f"Executed {names} with the files in {place}")
        return [told(result, part) for part in result["stdout"].split(f"\n{NEXT}\n")]

    def _python(self, variables: Mapping[str, Any]) -> str:
        """The Python that the inventory names; that of Debian when Ansible is to find one."""
        if self._task.delegate_to:
            variables = variables["ansible_delegated_vars"][self._task.delegate_to]
        named = str(self._templar.template(variables.get("ansible_python_interpreter", "")))
        return named if named.startswith("/") and " " not in named else PYTHON

    def _bring(self, place: str) -> bool:
        """Bring the files to the host. Returns whether they are there now."""
        command = BRING.format(kept=KEPT, place=place, start=f"{place}/{START}", stay=STAY)
        result = self._low_level_execute_command(command, in_data=packed())
        if result["rc"] != 0:
            self._display.vvv(f"The host does not keep the files of modules: {result['stderr']}")
        return bool(result["rc"] == 0)
