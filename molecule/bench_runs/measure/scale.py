"""What many hosts cost: the memory of all processes of a run, and what the measured runs say of more hosts."""

import threading
from pathlib import Path

FURTHER = (100, 1000)  # hosts, computed
PROCESSORS = 8  # of a controller for many hosts, on which the computed seconds are


class Memory:
    """Looks three times a second how much memory the processes of a session have together.

    A page that several processes share counts once. Connections of SSH that outlive the run are not among them.

    :param session: its number, that of its first process.
    """

    def __init__(self, session):
        self._session = str(session)
        self._ended = threading.Event()
        self.most = 0  # KiB

    def _look(self):
        total = 0
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if (process / "stat").read_text().rpartition(") ")[2].split()[3] == self._session:
                    rollup = (process / "smaps_rollup").read_text()
                    total += int(rollup.partition("\nPss:")[2].split()[0])
            except (OSError, IndexError):  # it has just ended
                continue
        self.most = max(self.most, total)

    def __enter__(self):
        def run():
            while not self._ended.wait(0.3):
                self._look()

        self._thread = threading.Thread(target=run)
        self._thread.start()
        return self

    def __exit__(self, *_exception):
        self._ended.set()
        self._thread.join()


def line(points):
    """The straight line through points, by least squares: its value at 0, and what each step adds."""
    middle_x, middle_y = (sum(values) / len(points) for values in zip(*points, strict=True))
    slope = sum((x - middle_x) * (y - middle_y) for x, y in points) / sum((x - middle_x) ** 2 for x, _y in points)
    return middle_y - slope * middle_x, slope


def computed(unchanged, deploy):
    """Lines of Markdown for more hosts than were measured.

    :param unchanged: hosts and the processor time of a run that changes nothing.
    :param deploy: hosts and the processor time of a deploy on all of them at once.
    """
    if min(len(unchanged), len(deploy)) < 2:
        return []
    (quiet, quiet_each), (busy, busy_each) = line(unchanged), line(deploy)
    lines = [
        "",
        f"Up to {max(unchanged)[0]} hosts it is measured. What follows is computed from that, nobody has run it:"
        f" in a run without changes each further host takes {quiet_each:.1f} s of processor time, in a deploy"
        f" {busy_each:.1f} s (the lines through the measured runs).",
        "",
        f"| hosts | no change: processor time | on {PROCESSORS} processors | deploy: processor time |"
        f" on {PROCESSORS} processors |",
        "|--:|--:|--:|--:|--:|",
    ]
    for hosts in FURTHER:
        times = []
        for start, each in ((quiet, quiet_each), (busy, busy_each)):
            # Before and after the hosts' own tasks one process works alone.
            times += [f"{start + each * hosts:.0f} s", f"{start + each * hosts / PROCESSORS:.0f} s"]
        lines.append(f"| {hosts} | {' | '.join(times)} |")
    return lines
