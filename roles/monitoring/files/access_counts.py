"""Count the lines of the apps' access logs, as they are written."""

import contextlib
import json
import os
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection
from itertools import accumulate
from typing import BinaryIO

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)  # seconds
RELEASES = 12  # of an app that are told apart; anybody may write a log line, in a way, and each is a series for ever
MOST = 64 << 20  # bytes of one log that are read at a time


class Histogram:
    """How many values there were up to each bound."""

    def __init__(self) -> None:
        self.counts, self.sum = [0] * (len(BOUNDS) + 1), 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(BOUNDS, value)] += 1
        self.sum += value

    def cumulative(self) -> list[int]:
        """The counts as Prometheus wants them."""
        return list(accumulate(self.counts))


class Counts:
    """What is counted of an app.

    :ivar requests: by release and the first digit of the status.
    """

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str]] = Counter()
        self.releases: dict[str, None] = {}
        self.bytes = 0
        self.seconds, self.queue = Histogram(), Histogram()

    def add(self, line: bytes) -> None:
        """Count a line; one that is broken counts as nothing."""
        with contextlib.suppress(ValueError, KeyError, IndexError, TypeError):
            if line.startswith(b"{"):
                told = json.loads(line)
                status, size, seconds = str(told["status"]), int(told["bytes"]), float(told["seconds"])
                queue, release = told["queue"], str(told["release"])
            else:
                words = line.split(b" ", 10)
                status, release = words[4].decode(), words[9][8:].decode()
                size, seconds, queue = int(words[5][6:]), float(words[6][8:]), words[7][6:]
            self.seconds.add(seconds)
            self.bytes += size
            if queue not in (None, b"-"):
                self.queue.add(float(queue))
            self.requests[self.known(release), f"{status[:1]}xx"] += 1

    def known(self, release: str) -> str:
        """The release's own name, while there are not too many; `none` for what nginx answered itself."""
        if release == "-":
            return "none"
        if release not in self.releases:
            if len(self.releases) >= RELEASES:
                oldest = next(iter(self.releases))
                del self.releases[oldest]
                for key in [key for key in self.requests if key[0] == oldest]:
                    del self.requests[key]
            self.releases[release] = None
        return release


class Tail:
    """The log of an app, read on from where it was read to.

    :param path: of the log.
    :param end: whether what is there now does not count.
    """

    def __init__(self, path: str, end: bool) -> None:
        self.path, self.rest, self.skipped = path, b"", 0
        self.file: BinaryIO | None = self.opened()
        self.former: BinaryIO | None = None
        if self.file and end:
            self.file.seek(0, os.SEEK_END)

    def opened(self) -> BinaryIO | None:
        try:
            return open(self.path, "rb")
        except OSError:
            return None

    def lines(self) -> list[bytes]:
        """What was written since the last time.

        nginx still writes to a log for a moment after it was rotated, so that is read once more the next time.
        """
        found = []
        if self.former:
            found += self.of(self.former)
            self.former.close()
            self.former = None
        if self.file and self.rotated(self.file):
            found += self.of(self.file)
            self.former, self.file = self.file, self.opened()
            # A line is written as a whole, so no rest is lost.
            self.rest = b""
        self.file = self.file or self.opened()
        return found + (self.of(self.file) if self.file else [])

    def rotated(self, file: BinaryIO) -> bool:
        """Whether the path leads to another file now."""
        try:
            return not os.path.samestat(os.stat(self.path), os.fstat(file.fileno()))
        except OSError:
            return True

    def of(self, file: BinaryIO) -> list[bytes]:
        """New lines of a file."""
        left = os.fstat(file.fileno()).st_size - file.tell()
        if left < 0:  # somebody emptied it
            file.seek(0)
        if left > MOST:
            self.skipped += left - MOST
            file.seek(left - MOST, os.SEEK_CUR)
            file.readline()
        *lines, self.rest = (self.rest + file.read(MOST)).split(b"\n")
        return lines


class Access:
    """The access logs of all apps.

    :param directory: below which every app has one of its own.
    """

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.apps: dict[str, Counts] = {}
        self.tails: dict[str, Tail] = {}
        self.skipped = 0
        self.begun = False

    def read(self, names: Collection[str]) -> None:
        """Count what was written since the last time. What was written before the first time does not count."""
        for name in [one for one in self.tails if one not in names]:
            del self.tails[name], self.apps[name]
        for name in names:
            if name not in self.tails:
                path = os.path.join(self.directory, name, "access.log")
                self.tails[name], self.apps[name] = Tail(path, end=not self.begun), Counts()
            for line in self.tails[name].lines():
                self.apps[name].add(line)
        self.begun = True
        self.skipped = sum(tail.skipped for tail in self.tails.values())
