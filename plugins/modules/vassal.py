#!/usr/bin/python
"""Ansible module: make an app run as its vassal file says, or not at all, and never worse than before."""

from __future__ import annotations

import configparser
import contextlib
import hashlib
import json
import os
import pwd
import re
import signal
import subprocess
import tempfile
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flaskops.emperor.plugins.module_utils import uwsgi_client

DOCUMENTATION = r"""
module: vassal
short_description: Make an app run as its vassal file says, or leave it as it was
version_added: 1.0.0
description:
  - Starts the new configuration once on a private socket, as the app's user, and asks it the health question
    (preflight). Only if it answers well, the vassal file is replaced, in one step, and the Emperor reloads the app.
  - Waits until the instance that answers is the one of the new file. If it does not come, the file that last worked is
    put back and the module fails with the app's last log lines.
  - A run that was killed while it waited is healed by the next one, which finds the file that last worked beside it.
options:
  name:
    description: Name of the app, also its Unix user and its name in the journal.
    type: str
    required: true
  path:
    description: The vassal file.
    type: path
    required: true
  state:
    description: Whether the app runs. V(absent) ends it after its running requests.
    type: str
    choices: [present, absent]
    default: present
  content:
    description:
      - The vassal file's text, with the sections C([launch]) and, last, C([uwsgi]). Needed when O(state=present).
    type: str
  wrapper:
    description: The program by which the Emperor starts vassals.
    type: path
    default: /usr/local/libexec/emperor-wrapper
  run:
    description: Directory of the app's sockets; C(app.sock) in it is the one that serves.
    type: path
    required: true
  health_path:
    description: Path to ask for.
    type: str
    default: /
  health_status:
    description: Status the app has to answer.
    type: int
    default: 200
  health_host:
    description: Host header of that request.
    type: str
    default: localhost
  start_timeout:
    description: Seconds the app may take to start and answer.
    type: int
    default: 60
  drain_timeout:
    description: Seconds the running requests of the old instance may take to end.
    type: int
    default: 60
attributes:
  check_mode:
    description: Says what would be done.
    support: full
  diff_mode:
    description: Shows the change of the vassal file, without the values of environment variables.
    support: full
author:
  - flaskops maintainers (@flaskops)
"""

EXAMPLES = r"""
- name: Run the release
  flaskops.emperor.vassal:
    name: shop
    path: /etc/emperor/vassals/shop.ini
    content: "{{ lookup('ansible.builtin.template', 'vassal.ini.j2') }}"
    run: /run/emperor/shop
    health_path: /healthz
"""

RETURN = r"""
generation:
  description: Names the vassal file's content; the app answers it in the header X-Vassal.
  type: str
  returned: when O(state=present)
"""

HEADER = "x-vassal"
PAUSE = 0.1  # seconds between two looks
KNOWN_GOOD = ".good"  # not "*.ini": the Emperor takes every such file for a vassal
LOG_LINES = 25
# Lets the kernel kill the rehearsal when the module is killed: nobody else would end it then.
WITH_PARENT = ["setpriv", "--pdeathsig=KILL"]
# Variables that every app has; their values are no secret and stand in every traceback.
OPEN_VARIABLES = frozenset(("PATH", "LANG", "HOME", "USER", "LOGNAME", "VIRTUAL_ENV", "RELEASE_ID"))


class Unhealthy(Exception):
    """The app does not answer as it should; the text says what it does instead."""


def complete(content: str) -> tuple[str, str]:
    """The vassal file with the header that tells its generation, and the generation."""
    generation = hashlib.sha256(content.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    return content.rstrip("\n") + f"\nadd-header = X-Vassal: {generation}\n", generation


def generation_of(content: str) -> str:
    """The generation a complete vassal file names; empty when it names none."""
    found = re.search(r"^add-header = X-Vassal: ([0-9a-f]+)$", content, re.MULTILINE)
    return found.group(1) if found else ""


def launch(content: str) -> configparser.SectionProxy:
    """The section which the wrapper reads."""
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=(";",))
    parser.read_string(content)
    return parser["launch"]


def rehearsal(content: str, run: str) -> str:
    """The vassal file changed so that it can run once beside the real one.

    It gets a socket of its own and one process, and neither journal, nor files, nor helpers that the real one owns.
    """
    replaced = (
        r"([a-z-]*socket|https?|stats[a-z-]*|processes|cheaper[a-z-]*|touch-[a-z-]*|identifier|vacuum|[a-z-]*pidfile[0-9]*"
        r"|master-fifo|log[a-z0-9-]*|spooler[a-z-]*|cron2?|unique-cron|mules?|farm|[a-z-]*attach-daemon2?) *="
    )
    kept = [line for line in content.split("\n") if not re.match(replaced, line)]
    return "\n".join([*kept, f"socket = {run}/preflight.sock", "processes = 1", "vacuum = true", ""])


def censor(text: str, content: str) -> str:
    """A text without the values of the app's environment. Values shorter than five characters tell nothing and stay."""
    environment = json.loads(launch(content)["environment"])
    values = [value for name, value in environment.items() if name not in OPEN_VARIABLES and len(value) > 4]
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, "********")
    return text


def shown(content: str | None) -> str:
    """A vassal file as a diff may show it: of the environment only the names, and whether values changed."""

    def names(match: re.Match[str]) -> str:
        try:
            listed = ", ".join(sorted(dict(json.loads(match.group(1)))))
        except (TypeError, ValueError):  # edited by hand
            listed = "unreadable"
        digest = hashlib.sha256(match.group(1).encode("utf-8", "surrogateescape")).hexdigest()[:8]
        return f"environment = {listed} (values: {digest})"

    return re.sub(r"^environment *= *(.*)$", names, content or "", flags=re.MULTILINE)


def read(path: str) -> str | None:
    """The text of a file, or None where there is none."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return None


def write(path: str, content: str, uid: int, gid: int) -> None:
    """Put a file in its place in one step, readable for its owner alone."""
    staged = path + ".new"  # beside it, so that the rename is atomic; not "*.ini"
    remove(staged)
    # Exclusively: in a directory of the app's user, a link may wait there for root to write through.
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
    with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(content)
        file.flush()
        os.fchown(file.fileno(), uid, gid)
        os.fsync(file.fileno())
    os.replace(staged, path)


def remove(path: str) -> None:
    """Remove a file if it is there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def look(sock: str, params: dict[str, Any], generation: str) -> None:
    """Ask the health question once.

    :raises Unhealthy: when the answer is not that of a healthy instance of this generation.
    """
    try:
        answer = uwsgi_client.request(
            sock, params["health_path"], params["health_host"], timeout=params["start_timeout"]
        )
    except OSError as error:
        raise Unhealthy(f"it does not answer ({error.strerror or error})") from error
    if answer.status != params["health_status"]:
        begin = re.sub(r"\s+", " ", answer.body[:300].decode("utf-8", "replace")).strip()
        raise Unhealthy(
            f"it answers {params['health_path']} with status {answer.status or 'none'} instead of "
            f"{params['health_status']}: {begin}"
        )
    if answer.headers.get(HEADER, "") != generation:
        raise Unhealthy("an instance of another generation answers")


def wait(
    sock: str, params: dict[str, Any], generation: str, seconds: float, process: subprocess.Popen[str] | None = None
) -> None:
    """Wait until a healthy instance of this generation answers.

    :param seconds: how long to wait.
    :param process: the instance, if it is our own child: when it ends there is nothing to wait for.
    :raises Unhealthy: with what it last did.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            look(sock, params, generation)
            return
        except Unhealthy as reason:
            if process and process.poll() is not None:
                raise Unhealthy(f"it ends before it answers (exit code {process.returncode})") from reason
            if time.monotonic() > deadline:
                raise Unhealthy(f"after {seconds:.0f} s {reason}") from reason
        time.sleep(PAUSE)


def preflight(content: str, generation: str, params: dict[str, Any], user: pwd.struct_passwd) -> None:
    """Start the app once on a socket of its own, with everything as it will be, and ask the health question.

    :raises Unhealthy: with the reason and the app's own last words.
    """
    run = params["run"]
    file = os.path.join(run, "preflight.ini")
    write(file, rehearsal(content, run), user.pw_uid, user.pw_gid)
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        process = subprocess.Popen(
            [*WITH_PARENT, params["wrapper"], "--ini", file], cwd="/", env={}, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, text=True,
            user=user.pw_uid, group=user.pw_gid, extra_groups=[],
        )  # fmt: skip
        try:
            wait(os.path.join(run, "preflight.sock"), params, generation, params["start_timeout"], process)
        except Unhealthy as reason:
            output.seek(0)
            raise Unhealthy(f"{reason}\n{excerpt(output.read())}") from reason
        finally:
            end(process)
            for leftover in (file, os.path.join(run, "preflight.sock")):
                remove(leftover)


def end(process: subprocess.Popen[str]) -> None:
    """End the rehearsal and its children: politely, then for good."""
    for number, seconds in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
        try:
            os.killpg(process.pid, number)
            process.wait(seconds)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # workers that outlived their master


# What uWSGI says of itself at every start, however well or badly the app does.
CHATTER = re.compile(
    r"^\s*(\*\*\* (WARNING: you have enabled harakiri|Starting|Operational|uWSGI is running|Python threads|has_emperor)"
    r"|compiled with|os: |nodename|machine: "
    r"|clock source|pcre jit|detected |current working|chdir\(\)|your |lock engine|thunder lock|uwsgi socket"
    r"|Python version|--- Python VM|Python main|python threads|mapped |spawned |Set PythonHome|\[uWSGI\] getting"
    r"|setting procname|unable to find|gracefully|setgid|setuid|set close-on-exec|SIGINT/SIGTERM|goodbye|VACUUM"
    r"|worker \d+ buried)"
)


def excerpt(log: str) -> str:
    """The end of a log, without uWSGI's chatter."""
    return "\n".join([line for line in log.splitlines() if line.strip() and not CHATTER.match(line)][-LOG_LINES:])


def journal(name: str, since: float) -> str:
    """What the app wrote to the journal since a moment (seconds since 1970)."""
    command = ["journalctl", "--no-pager", "--quiet", "--output=cat", f"--since=@{since:.0f}", f"--identifier={name}"]
    return excerpt(subprocess.run(command, capture_output=True, text=True, errors="replace", check=False).stdout)


def present(params: dict[str, Any], content: str, generation: str) -> bool:
    """Let the app run as the content says. Returns whether anything changed.

    :raises Unhealthy: when it cannot; the app then runs as it did before, or, the first time, does not run.
    """
    path, sock, user = params["path"], os.path.join(params["run"], "app.sock"), pwd.getpwnam(params["name"])
    before = read(path)
    good = read(path + KNOWN_GOOD)
    began = time.time()
    if before == content:
        try:
            wait(sock, params, generation, params["start_timeout"])
            remove(path + KNOWN_GOOD)
            return False
        except Unhealthy as reason:
            # What last worked may be this very file, after a deploy that failed and went back to it.
            done = restore(params, good, sock, user) if good and good != content else "It was left as it is"
            log = journal(params["name"], began - 60)
            raise Unhealthy(f"runs as configured, but {reason}. {done}.\n{log}") from reason
    try:
        preflight(content, generation, params, user)
    except Unhealthy as reason:
        app = "".join(re.findall(r"^module = (.*)$", content, re.MULTILINE))
        raise Unhealthy(f"was not changed, because {app} would not start: {reason}") from reason

    if before is not None:
        try:
            look(sock, params, generation_of(before))
            write(path + KNOWN_GOOD, before, 0, 0)
            good = before
        except Unhealthy:
            pass  # what runs now is no better than what an earlier run kept
    write(path, content, user.pw_uid, user.pw_gid)
    try:
        wait(sock, params, generation, params["start_timeout"] + params["drain_timeout"])
    except Unhealthy as reason:
        log = journal(params["name"], began)
        raise Unhealthy(f"did not start: {reason}. {restore(params, good, sock, user)}.\n{log}") from reason
    remove(path + KNOWN_GOOD)
    return True


def restore(params: dict[str, Any], good: str | None, sock: str, user: pwd.struct_passwd) -> str:
    """Go back to the file that last worked, or to none. Returns what was done, as the begin of a sentence."""
    if good is None:
        remove(params["path"])
        return "It was stopped, for there is no earlier release to return to"
    write(params["path"], good, user.pw_uid, user.pw_gid)
    try:
        wait(sock, params, generation_of(good), params["start_timeout"] + params["drain_timeout"])
    except Unhealthy as reason:
        return f"The earlier vassal file was put back, but {reason}"
    return "The earlier release serves again"


def processes_of(uid: int) -> list[int]:
    """The processes of a user."""
    found = []
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and os.stat(f"/proc/{name}").st_uid == uid:
                found.append(int(name))
        except FileNotFoundError:
            continue
    return found


def absent(params: dict[str, Any]) -> bool:
    """Let the app end after its running requests. Returns whether it ran."""
    existed = os.path.exists(params["path"])
    for path in (params["path"], params["path"] + KNOWN_GOOD):
        remove(path)
    try:
        uid = pwd.getpwnam(params["name"]).pw_uid
    except KeyError:
        return existed
    deadline = time.monotonic() + params["drain_timeout"] + 15
    while processes_of(uid) and time.monotonic() < deadline:
        time.sleep(PAUSE)
    for pid in processes_of(uid):  # the account was made for this app alone
        existed = True
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return existed


def main() -> None:
    """Bring the vassal into the wanted state."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "path": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "content": {"type": "str", "no_log": True},
            "wrapper": {"type": "path", "default": "/usr/local/libexec/emperor-wrapper"},
            "run": {"type": "path", "required": True},
            "health_path": {"type": "str", "default": "/"},
            "health_status": {"type": "int", "default": 200},
            "health_host": {"type": "str", "default": "localhost"},
            "start_timeout": {"type": "int", "default": 60},
            "drain_timeout": {"type": "int", "default": 60},
        },
        required_if=[("state", "present", ["content"])],
        supports_check_mode=True,
    )
    params, path = module.params, module.params["path"]
    before = read(path)
    diff = {"before": shown(before), "after": "", "before_header": path, "after_header": path}
    if params["state"] == "absent":
        changed = before is not None if module.check_mode else absent(params)
        module.exit_json(changed=changed, diff=diff)

    content, generation = complete(params["content"])
    diff["after"] = shown(content)
    if module.check_mode:
        module.exit_json(changed=before != content, generation=generation, diff=diff)
    try:
        changed = present(params, content, generation)
    except Unhealthy as reason:
        module.fail_json(msg=censor(f"The app {params['name']} {reason}", content), generation=generation)
    module.exit_json(changed=changed, generation=generation, diff=diff)


if __name__ == "__main__":
    main()
