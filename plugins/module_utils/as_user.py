"""Working as the user of an app: in a directory of that user, a link could lead root anywhere."""

from __future__ import annotations

import ctypes
import json
import os
import pwd
import signal
from collections.abc import Callable, Sequence
from typing import Any

SETPRIV = "/usr/bin/setpriv"  # of util-linux; by its path, as the PATH of an app may have another one
NICE = 5  # of a build
OOM_SCORE = 500  # of -1000 to 1000: a kernel without memory ends what runs beside the apps before what serves
PR_SET_PDEATHSIG = 1  # see prctl(2)


class Failed(Exception):
    """It could not be done; the text says why."""


def with_parent(command: Sequence[str]) -> list[str]:
    """A command that the kernel kills when this process is killed: nothing else would end it then.

    Where this process was killed before the kernel knew, it does not start at all. No program lets it become another
    user, as in the Emperor's sandbox.
    """
    alive = 'test "$PPID" = "$1" && shift && exec "$@"'
    guard = ["/bin/sh", "-c", alive, "sh", str(os.getpid())]
    return [SETPRIV, "--no-new-privs", "--pdeathsig=KILL", "--", *guard, *command]


def become(user: pwd.struct_passwd, groups: Sequence[int], parent: int) -> None:
    """Be that user, as long as the process that started this one lives."""
    os.setgroups(list(groups))
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    # Last: a change of the user takes it back.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise Failed("the module was killed")


def give_way() -> None:
    """Leave the processor to what serves, and the memory when there is none left. Only root may say so."""
    os.nice(NICE)
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write(str(OOM_SCORE))


def call(
    user: pwd.struct_passwd, function: Callable[[], Any], groups: Sequence[int] = (), *, yields: bool = False
) -> Any:
    """Call a function in a process of another user, and return what it returns, as JSON holds it.

    :param groups: numbers of further groups of that process.
    :param yields: whether it gives way to what serves.
    :raises Failed: with what it raised.
    """
    parent = os.getpid()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if yields:
                give_way()
            become(user, groups, parent)
            told = {"value": function()}
        except BaseException as error:  # noqa: BLE001, RUF100 (nothing may return from here into the module)
            told = {"error": f"{error}" or type(error).__name__}
        with open(writer, "w", encoding="utf-8") as pipe:
            json.dump(told, pipe)
        os._exit(0)
    os.close(writer)
    with open(reader, encoding="utf-8") as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    answer = json.loads(text or '{"error": "it was killed"}')
    if "error" in answer:
        raise Failed(answer["error"])
    return answer["value"]
