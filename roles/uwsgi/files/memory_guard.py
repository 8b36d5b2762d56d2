#!/usr/bin/python3 -IS
"""Keep a host from running out of memory: let its largest idle workers be replaced, one at a time, as few as needed.

A floor of the host's available memory is to be kept. While twice of it is available, nothing is done and no app is
looked at. Below that, the worker whose replacement gives back most is asked to end after its requests (SIGHUP, what
uWSGI's own chain reload sends); its master starts another one. The next one is asked when that one accepts requests and
memory is still low.
"""

import argparse
import re
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

sys.path.insert(0, "/usr/local/lib/emperor")  # root's alone

from emperor_host import Process
from guard_host import Host, Instance, Memory, Worker

MIB = 1024 * 1024
# It is urgent below the floor, and when all processes waited for memory for so many percent of the last 10 s.
STALLED = 10.0
# Seconds a worker is left alone after its start.
YOUNG = 10
# Bytes a replacement must give back.
WORTH = 16 * MIB
# Seconds for which the size of a fresh worker tells what a replacement is worth in its app.
REMEMBERED = 600
# Seconds for which a worker that does not end, or has no successor, keeps those of other apps from being asked; and
# seconds for which nothing can be done until that is said.
PATIENCE = 60
PAUSE = 0.5  # seconds between two looks while something happens


class Asked(NamedTuple):
    """A worker that was asked to end.

    :ivar available: bytes of memory the host then had.
    :ivar at: when that was, in seconds since boot.
    """

    instance: Instance
    worker: Worker
    available: int
    at: float


class Fresh(NamedTuple):
    """What a worker has of its own that has just started: a replacement gives back no more than the difference.

    :ivar master: of this instance.
    :ivar process: the fresh worker.
    :ivar at: when it was measured, in seconds since boot.
    """

    master: Process
    process: Process
    own: int
    at: float


class Guard:
    """Decides which worker is replaced.

    :param host: the host.
    :param floor: the available memory to keep, as for `limit`.
    :param interval: seconds between two looks at the host's memory.
    :param say: takes a line for the journal.
    """

    def __init__(self, host: Host, floor: str, interval: float, say: Callable[[str], None]) -> None:
        self.host, self.floor, self.interval, self.say = host, floor, interval, say
        self.asked: list[Asked] = []
        self.fresh: dict[str, Fresh] = {}
        self.idle: set[Process] = set()
        self.helpless: float | None = None  # since when nothing can be done
        self.said = False

    def look(self) -> float:
        """Look once, and ask a worker to end if that is due. Returns the seconds until the next look."""
        self.asked = [one for one in self.asked if not self.over(one)]
        now = self.host.now()
        if any(now - one.at < PATIENCE for one in self.asked):
            return PAUSE
        memory = self.host.memory()
        floor = limit(self.floor, memory.total)
        if memory.available >= 2 * floor:
            self.idle, self.helpless, self.said = set(), None, False
            return self.interval

        urgent = memory.available < floor or memory.stalled >= STALLED
        if not urgent and self.host.deploying():
            # Two instances run meanwhile, and the end of one of them will give back more than we could.
            return self.interval
        allowed = self.candidates()
        before, self.idle = self.idle, {worker.process for _instance, worker in allowed if worker.idle}
        worthwhile = [one for one in allowed if self.gain(*one) >= WORTH]
        if not worthwhile:
            self.despair(allowed, memory, floor)
            return self.interval
        idle = [one for one in worthwhile if one[1].idle]
        rested = [one for one in idle if one[1].process in before]
        if chosen := rested or (urgent and (idle or worthwhile)):
            self.act(*max(chosen, key=lambda one: self.gain(*one)), memory, floor)
            return PAUSE
        return PAUSE if self.idle else self.interval

    def candidates(self) -> list[tuple[Instance, Worker]]:
        """The workers that may be replaced without their app noticing."""
        instances = list(self.host.instances())
        left_alone = {one.instance.app for one in self.asked}
        found = []
        for instance in instances:
            self.learn(instance)
            alone = sum(one.app == instance.app for one in instances) == 1
            if instance.app in left_alone or not alone or self.host.switching(instance.app):
                continue
            # Another one is down already, or this one is the only one.
            if not instance.complete or len(instance.workers) < 2:
                continue
            found += [(instance, worker) for worker in instance.workers if worker.age >= YOUNG]
        return found

    def gain(self, instance: Instance, worker: Worker) -> int:
        """Bytes that the replacement of a worker will give back, as far as we know."""
        fresh = self.fresh.get(instance.name)
        return worker.own - (fresh.own if fresh else 0)

    def learn(self, instance: Instance) -> None:
        """Measure a fresh worker while it is young, and forget what was measured long ago or of another instance."""
        fresh = self.fresh.get(instance.name)
        if not fresh:
            return
        if fresh.master != instance.master or self.host.now() - fresh.at > REMEMBERED:
            del self.fresh[instance.name]
            return
        for worker in instance.workers:
            if worker.process == fresh.process and worker.age < YOUNG:
                self.fresh[instance.name] = fresh._replace(own=worker.own)

    def act(self, instance: Instance, worker: Worker, memory: Memory, floor: int) -> None:
        """Ask a worker to end."""
        try:
            self.host.ask(worker.process)
        except ProcessLookupError:
            return
        self.idle.discard(worker.process)
        self.helpless = None
        self.asked.append(Asked(instance, worker, memory.available, self.host.now()))
        state = "idle" if worker.idle else "busy"
        self.say(
            f"asked the {state} worker {worker.number} of {instance.app} (pid {worker.process.pid}, "
            f"{mib(worker.own)} MiB of its own) to end after its requests: {mib(memory.available)} MiB of memory are "
            f"available, twice the floor is {mib(2 * floor)} MiB"
        )

    def over(self, asked: Asked) -> bool:
        """Whether a worker that was asked has ended and has a successor, or will not have one."""
        if self.host.alive(asked.worker.process):
            return False
        number, instance = asked.worker.number, self.host.instance(asked.instance.name)
        if instance is None:  # its master is ending, or restarting, or is too busy
            return self.host.now() - asked.at > PATIENCE
        if instance.master != asked.instance.master or number in instance.cheap:
            return True
        for worker in instance.workers:
            if worker.number == number:
                self.fresh[instance.name] = Fresh(instance.master, worker.process, worker.own, self.host.now())
                self.say(
                    f"worker {number} of {instance.app} is replaced (pid {worker.process.pid}, {mib(worker.own)} MiB "
                    f"of its own): available memory went from {mib(asked.available)} to "
                    f"{mib(self.host.memory().available)} MiB"
                )
                return True
        return False

    def despair(self, allowed: list[tuple[Instance, Worker]], memory: Memory, floor: int) -> None:
        """Say, once while memory is low, that nothing can be done."""
        now = self.host.now()
        self.helpless = now if self.helpless is None else self.helpless
        if self.said or now - self.helpless < PATIENCE:
            return
        self.said = True
        most = max((self.gain(*one) for one in allowed), default=0)
        self.say(
            f"{mib(memory.available)} MiB of memory are available, twice the floor is {mib(2 * floor)} MiB, but "
            f"replacing a worker would not help: of the {len(allowed)} that may be replaced none would give back more "
            f"than {mib(max(most, 0))} MiB"
        )


def mib(size: int) -> int:
    """Bytes as MiB."""
    return size // MIB


def limit(text: str, total: int) -> int:
    """Bytes that a limit stands for.

    :param text: a percentage of the host's memory (`10%`) or MiB (`300M`).
    :param total: bytes of memory the host has.
    :raises ValueError: when it is neither.
    """
    found = re.fullmatch(r"(\d+)([%M])", text)
    if not found:
        raise ValueError(f"the floor is {text!r}: give a percentage like 10%, or MiB like 300M")
    return total * int(found[1]) // 100 if found[2] == "%" else int(found[1]) * MIB


def main() -> None:
    """Guard the host until stopped."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--floor", required=True, help="available memory to keep: a percentage (10%%) or MiB (300M)")
    parser.add_argument("--interval", required=True, type=float, help="seconds between two looks")
    parser.add_argument("--vassals", required=True, help="directory of the vassal files")
    parser.add_argument("--run", required=True, help="directory of the apps' sockets")
    parser.add_argument("--lock", required=True, help="file that a deploy locks")
    arguments = parser.parse_args()
    guard = Guard(
        Host(arguments.vassals, arguments.run, arguments.lock),
        arguments.floor,
        arguments.interval,
        lambda line: print(line, flush=True),
    )
    try:
        while True:
            time.sleep(guard.look())
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
