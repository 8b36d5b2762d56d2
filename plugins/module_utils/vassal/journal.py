"""What an app wrote to the journal, without uWSGI's own words and without secrets."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Mapping

from ansible_collections.flaskops.emperor.plugins.module_utils import causes
from ansible_collections.flaskops.emperor.plugins.module_utils.secrets import OPEN_VARIABLES, censor

LOG_LINES = 15
SHARED = re.compile(r"connections that the app opens while it is imported and keeps open \((.*)\) are shared")
OURS = "emperor: "  # before what the loader of the app says

# What uWSGI says of itself at every start, however well or badly the app does.
CHATTER = re.compile(
    r"^\s*(\*\*\* (WARNING: you have enabled harakiri|Starting|Operational|uWSGI is running|Python threads|has_emperor"
    r"|Stats server)"
    r"|compiled with|os: |nodename|machine: "
    r"|clock source|pcre jit|detected |current working|chdir\(\)|your |lock engine|thunder lock|uwsgi (zerg )?socket"
    r"|zerg sockets|Python version|--- Python VM|Python main|python threads|mapped |spawned |Set PythonHome"
    r"|\[uWSGI\] getting|.*announcing my loyalty|.*received message \d from emperor"
    r"|setting procname|unable to find|gracefully|setgid|setuid|set close-on-exec|SIGINT/SIGTERM|goodbye|VACUUM"
    r"|unable to load app \d|\*\*\* no app loaded|OOPS |added /|unlink\(\)|subprocess \d+ exited"
    r"|worker \d+ buried|running \"(call|callret|unix_signal):)",
    re.IGNORECASE,
)


# The frames of a traceback that are not the app's: those of our loader, and of Python's import.
NOT_OF_APP = re.compile(
    r'^  File "(?:[^"\n]*/emperor/emperor_\w+\.py|<frozen importlib[^"\n]*|[^"\n]*/importlib/__init__\.py)".*\n'
    r"(?:    .*\n)*",
    re.MULTILINE,
)


def excerpt(log: str) -> str:
    """The end of a log, without what uWSGI, our own programs and Python's import say of themselves."""
    lines = NOT_OF_APP.sub("", log + "\n").splitlines()
    return "\n".join([line for line in lines if line.strip() and not CHATTER.match(line)][-LOG_LINES:])


def explained(reason: str, log: str, network: str = "full") -> str:
    """Why an app does not start: the cause first, then the end of its log.

    :param reason: what was seen from outside, which is told where the log has no cause.
    :param network: what it may reach, see `host.network`.
    """
    why = causes.of_start(log) or reason
    return f"{why}{causes.unreached(network, f'{reason} {log}')}\n{excerpt(log)}"


def warnings(log: str) -> list[str]:
    """What our own programs say of the app in a log."""
    return [line.removeprefix(OURS) for line in log.splitlines() if line.startswith(OURS)]


def shared_connections(warnings: Iterable[str]) -> str:
    """To whom an app is connected when its workers are forked, as the loader tells it; empty for nobody."""
    found = (SHARED.match(warning) for warning in warnings)
    return next((one[1] for one in found if one), "")


def journal(choice: str, since: float) -> str:
    """What was written to the journal since a moment, until now: on a busy host it comes later than the event.

    :param choice: whose words, as journalctl takes it: ``--identifier=shop``, or ``_SYSTEMD_UNIT=NAME`` for those of a
        unit's own processes.
    :param since: seconds since 1970.
    """
    subprocess.run(["journalctl", "--sync"], capture_output=True, check=False)
    command = ["journalctl", "--no-pager", "--quiet", "--output=cat", f"--since=@{int(since)}", choice]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False).stdout


def discreet(text: str, environments: Iterable[Mapping[str, str]]) -> str:
    """A message without the values of any of these environments."""
    secret = {
        f"{index} {name}": value
        for index, environment in enumerate(environments)
        for name, value in environment.items()
        if name not in OPEN_VARIABLES
    }
    return censor(text, secret)
