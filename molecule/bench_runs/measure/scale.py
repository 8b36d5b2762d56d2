"""What many hosts cost: the memory of all processes of a run, and what the measured runs say of more hosts."""

import threading
from pathlib import Path

FURTHER = (16, 100, 1000)  # hosts, computed
PROCESSORS = 8  # of a controller for many hosts, on which the computed seconds are


class Memory:
    """Looks once a second how much memory the processes of a session have together.

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
            while not self._ended.wait(1):
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


def computed(measured):
    """Lines of Markdown for more hosts than were measured.

    :param measured: for each kind of run the processor time by the number of hosts.
    """
    lines = []
    for kind, times in measured.items():
        start, each = line(sorted(times.items()))
        lines += [
            "",
            f"{kind}: each further host takes {each:.1f} s of processor time (the line through the measured runs).",
            "",
        ]
        lines += ["| hosts | processor time, computed | seconds on 8 processors, computed |", "|--:|--:|--:|"]
        for hosts in FURTHER:
            total = start + each * hosts
            # Before and after the hosts' own tasks one process works alone.
            lines.append(f"| {hosts} | {total:.0f} s | {start + each * hosts / PROCESSORS:.0f} |")
    return lines
