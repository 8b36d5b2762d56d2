#!/usr/bin/python3 -IS
"""Run a command in a release of an app: emperor-run [--release ID] APP COMMAND...

As the app's user, in the app's environment, in the source of the release, in the sandbox of the Emperor, and within the
memory of the app. With a terminal it is interactive: emperor-run shop flask shell

The environment is in the app's vassal file, which the app's user alone can read. So the command is started twice: root
starts this program again in the sandbox, as that user, and there it becomes the command. In the arguments of the unit,
which every user can see, are no secrets.

The units of side processes run it as the app's user: emperor-run --side APP PART [INSTANCE]. What to run, in which
directory and environment, is in a file that the app alone can read.
"""

import argparse
import configparser
import glob
import json
import os
import pwd
import sys
from pathlib import Path

sys.path.insert(0, "/usr/local/lib/emperor")  # root's alone

import emperor_host

UNIT = "/etc/systemd/system/emperor-app@.service"
VASSALS = "/etc/emperor/vassals"
SIDES = "/etc/emperor/sides"
INSIDE, SIDE = "--inside", "--side"


class Refused(Exception):
    """The command cannot be run; the text is a sentence."""


def vassal(name: str) -> str:
    """The vassal file of an app, of two the newer one."""
    found = glob.glob(f"{VASSALS}/{glob.escape(name)}.*.ini")
    if not found:
        apps = sorted({os.path.basename(file).split(".")[0] for file in glob.glob(f"{VASSALS}/*.ini")})
        raise Refused(f"{name} does not run on this host: choose from {', '.join(apps) or 'none'}.")
    return max(found, key=lambda file: os.stat(file).st_mtime_ns)


def launch(file: str) -> configparser.SectionProxy:
    """What an app's vassal file says of how it starts."""
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=(";",))
    with open(file, encoding="utf-8") as opened:
        parser.read_file(opened)
    return parser["launch"]


def environment(file: str) -> dict[str, str]:
    """The environment of an app, as its vassal file has it."""
    found: dict[str, str] = json.loads(launch(file)["environment"])
    return found


def of_release(found: dict[str, str], home: str, release: str) -> dict[str, str]:
    """The same environment in a release of the app.

    :param home: the directory of the app.
    """
    virtualenv = f"{home}/releases/{release}/venv"
    path = found["PATH"].replace(found["VIRTUAL_ENV"], virtualenv)
    own = {"PATH": path, "VIRTUAL_ENV": virtualenv, "RELEASE_ID": release}
    return {name: value for name, value in found.items() if name not in ("EMPEROR_APP", "EMPEROR_SERVING")} | own


def release_of(home: str, release: str) -> str:
    """The release to use, the current one if none is named."""
    root = Path(home, "releases")
    if not release:
        current = Path(home, "current")
        if not current.is_symlink():
            raise Refused(f"{os.path.basename(home)} has no current release: deploy it first.")
        return current.readlink().name
    known = sorted(path.parent.name for path in root.glob("*/release.json"))
    if release not in known:
        raise Refused(f"Release {release} is not on this host: choose from {', '.join(known) or 'none'}.")
    return release


def outside(name: str, release: str, command: list[str]) -> list[str]:
    """The command that starts the sandbox, for root."""
    if os.geteuid() != 0:
        raise Refused("Only root can become the user of an app: use sudo.")
    file = vassal(name)
    user = pwd.getpwnam(name)
    home = os.path.dirname(user.pw_dir)
    release = release_of(home, release)
    properties = [
        *emperor_host.sandbox(Path(UNIT).read_text(encoding="utf-8")),
        *emperor_host.confinement(name, launch(file).get("network", "full")),
        "CapabilityBoundingSet=",
        f"WorkingDirectory={home}/releases/{release}/src",
        f"TasksMax={launch(file).get('tasks', '512')}",
        "OOMScoreAdjust=500",  # a kernel without memory ends it before what serves
    ]
    limit = Path(VASSALS, f"{name}.limit")
    if limit.exists():
        properties.append(f"MemoryMax={limit.read_text(encoding='ascii').strip()}")
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    return [
        "/usr/bin/systemd-run", "--quiet", "--collect", "--wait", "--pty" if terminal else "--pipe",
        "--service-type=exec", f"--description=A command of the app {name}", f"--uid={name}", f"--gid={user.pw_gid}",
        *(f"--property={one}" for one in properties),
        *(["--setenv=TERM=" + os.environ["TERM"]] if terminal and "TERM" in os.environ else []),
        "--", os.path.abspath(sys.argv[0]), INSIDE, file, release, *command,
    ]  # fmt: skip


def inside(file: str, release: str, command: list[str]) -> None:
    """Become the command, as the app's user."""
    home = os.path.dirname(os.path.expanduser("~"))
    found = of_release(environment(file), home, release)
    terminal = {"TERM": os.environ["TERM"]} if "TERM" in os.environ else {}
    become(command, terminal | found)


def side(app: str, part: str, instance: str = "") -> None:
    """Become a side process of an app, as the app's user.

    :param instance: which one, GENERATION-NUMBER; empty for one that runs on a schedule.
    """
    generation = instance.rpartition("-")[0]
    job = json.loads(Path(SIDES, app, f"{part}@{generation}.json" if generation else f"{part}.json").read_text("utf-8"))
    os.chdir(job["directory"])
    own = {"EMPEROR_INSTANCE": instance} if instance else {}
    command = job["command"]
    if "socket" in job:
        own["EMPEROR_SOCKET"] = f"{job['socket']}.{instance}.sock"
        command = [word.replace("{socket}", own["EMPEROR_SOCKET"]) for word in command]
        # Of one that was killed: many servers do not start where a file is.
        Path(own["EMPEROR_SOCKET"]).unlink(missing_ok=True)
    become(command, job["environment"] | own)


def become(command: list[str], found: dict[str, str]) -> None:
    """Replace this process by a command in this environment."""
    encoded = {os.fsencode(name): value.encode("utf-8", "surrogateescape") for name, value in found.items()}
    try:
        os.execvpe(command[0], command, encoded)
    except OSError as error:
        print(f"emperor-run: {command[0]}: {error.strerror}", file=sys.stderr)
        sys.exit(127 if isinstance(error, FileNotFoundError) else 126)


def main() -> None:
    """Replace this process by the one that starts the sandbox, or by the command in it."""
    if sys.argv[1:2] == [INSIDE]:
        inside(sys.argv[2], sys.argv[3], sys.argv[4:])
    if sys.argv[1:2] == [SIDE]:
        side(*sys.argv[2:])
    parser = argparse.ArgumentParser(
        prog="emperor-run", description="Run a command in a release of an app, as the app.",
        epilog="Example: emperor-run shop flask shell",
    )  # fmt: skip
    parser.add_argument("--release", default="", metavar="ID", help="the current release if not given")
    parser.add_argument("app")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    asked = parser.parse_args()
    if not asked.command:
        parser.error("no command was given")
    try:
        command = outside(asked.app, asked.release, asked.command)
    except Refused as refusal:
        sys.exit(f"emperor-run: {refusal}")
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
