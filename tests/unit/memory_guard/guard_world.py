"""A host in memory, with workers that leak, hang and end, for tests of the memory guard."""

from guard_programs import MIB, NOW, memory_guard


class Worker:
    """A worker of the host in memory. Its state is accepting, ending, dead, starting or cheap."""

    def __init__(self, pid, own, started=0.0, follows=None):
        self.pid, self.own, self.started, self.follows = pid, own, started, follows
        self.state, self.requests, self.replaced = "accepting", 0, False


class World:
    """A host in memory. Whoever is asked in a way that could be noticed makes the test fail at once.

    :ivar fresh: MiB of its own that a worker has when it starts.
    """

    floor = 250

    def __init__(self, **apps):
        self.clock, self.pid = NOW, 100
        self.rest = 1000  # MiB that would be available without what the workers have of their own
        self.stalled, self.locked, self.fresh = 0.0, False, 0
        self.switches: set[str] = set()
        self.asked: list[tuple[Worker, float]] = []
        self.said: list[str] = []
        self.places = {f"{app}.blue": [self.worker(own) for own in sizes] for app, sizes in apps.items()}
        self.guard = memory_guard.Guard(self, f"{self.floor}M", 2, self.said.append)

    def worker(self, own, *more):
        self.pid += 1
        return Worker(self.pid, own, *more)

    @property
    def workers(self):
        return [one for place in self.places.values() for one in place]

    # What the guard uses of a host

    def now(self):
        return self.clock

    def memory(self):
        used = sum(one.own for one in self.workers if one.state != "dead")
        return memory_guard.Memory(2000 * MIB, (self.rest - used) * MIB, self.stalled)

    def deploying(self):
        return self.locked

    def switching(self, app):
        return app in self.switches

    def instances(self):
        return [self.instance(name) for name in self.places]

    def instance(self, name):
        found, place = [], self.places[name]
        for number, one in enumerate(place, 1):
            if one.state in ("accepting", "ending"):  # uWSGI tells no difference
                process = memory_guard.Process(one.pid, 0)
                age = self.clock - one.started
                found.append(memory_guard.Worker(number, process, one.own * MIB, age, not one.requests))
        cheap = frozenset(number for number, one in enumerate(place, 1) if one.state == "cheap")
        complete = len(found) + len(cheap) == len(place)
        master = memory_guard.Process(len(name), 0)
        return memory_guard.Instance(name, name.rpartition(".")[0], master, tuple(found), cheap, complete)

    def alive(self, process):
        return any(one.pid == process.pid and one.state not in ("dead", "cheap") for one in self.workers)

    def ask(self, process):
        name, place, victim = next(
            (name, place, one) for name, place in self.places.items() for one in place if one.pid == process.pid
        )
        available = self.memory().available // MIB
        urgent = available < self.floor or self.stalled >= memory_guard.STALLED
        assert available < 2 * self.floor, "enough is available"
        assert victim.state == "accepting", victim.state
        assert self.clock - victim.started >= memory_guard.YOUNG, "too young"
        assert urgent or not victim.requests, "busy, and it is not urgent"
        assert urgent or not self.locked, "a deploy runs, and it is not urgent"
        assert name.rpartition(".")[0] not in self.switches, "amid a switch"
        others = [one for one in place if one is not victim and one.state != "cheap"]
        assert others, "the last one"
        assert all(one.state == "accepting" for one in others), "two of an app"
        recent = [one for one, at in self.asked if self.clock - at < memory_guard.PATIENCE]
        assert all(one.replaced for one in recent), "two at once"
        victim.state = "ending"
        self.asked.append((victim, self.clock))

    # What happens on it

    def go_on(self, starts=True):
        """What takes time goes one step on."""
        for place in self.places.values():
            for index, one in enumerate(place):
                if one.state == "starting":
                    one.state = "accepting"
                    if one.follows:
                        one.follows.replaced = True
                elif one.state == "dead" and starts:
                    place[index] = self.worker(self.fresh, self.clock, one)
                    place[index].state = "starting"
                elif one.state == "ending" and not one.requests:
                    one.state = "dead"

    def look(self, seconds=0.0, starts=True):
        """Let the guard look until so many seconds are over, at least once."""
        end = self.clock + seconds
        while True:
            pause = self.guard.look()
            assert pause > 0
            self.clock += pause
            self.go_on(starts)
            if self.clock > end:
                return

    def victims(self):
        return [victim.own for victim, _at in self.asked]
