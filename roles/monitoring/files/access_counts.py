"""Count the lines of the apps' access logs, as they are written."""

import contextlib
import os
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterator
from itertools import accumulate
from operator import itemgetter
from typing import BinaryIO, NamedTuple

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)  # seconds
RELEASES = 12  # of an app that are told apart; anybody may write a log line, in a way, and each is a series for ever
MOST = 64 << 20  # bytes of one log that are read at a time
BLOCK = 1 << 18  # bytes that are counted at a time


class Layout(NamedTuple):
    """Where a kind of line has what is counted of it: the number of each word, and how much is before its value.

    :ivar begin: what the words come after; no client can write it, as nginx escapes quotes.
    :ivar words: how many there are, the rest of the line is the last one.
    """

    begin: bytes
    between: bytes
    words: int
    status: int
    size: tuple[int, int]
    seconds: tuple[int, int]
    queue: tuple[int, int]
    release: tuple[int, int]


JSON = Layout(b'"status":', b",", 7, 0, (1, 8), (2, 10), (3, 8), (5, 11))
READABLE = Layout(b"", b" ", 11, 4, (5, 6), (6, 8), (7, 6), (9, 8))


class Histogram:
    """How many values there were up to each bound."""

    def __init__(self) -> None:
        self.counts, self.sum = [0] * (len(BOUNDS) + 1), 0.0

    def add(self, value: float, times: int) -> None:
        self.counts[bisect_left(BOUNDS, value)] += times
        self.sum += value * times

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

    def add(self, text: bytes) -> None:
        """Count whole lines; one that is broken counts as nothing."""
        begin = 0
        while begin < len(text):
            end = text.find(b"\n", begin + BLOCK) + 1 or len(text)
            lines = text[begin:end].split(b"\n")
            self.count(JSON, [line.partition(JSON.begin)[2].split(b",", JSON.words - 1)
                              for line in lines if line.startswith(b"{")])  # fmt: skip
            self.count(READABLE, [line.split(b" ", READABLE.words - 1) for line in lines if not line.startswith(b"{")])
            begin = end

    def count(self, layout: Layout, lines: list[list[bytes]]) -> None:
        """Count lines of a kind, taken apart: many have equal values, and each of these is looked at once.

        That is half the work of doing it line by line, and less.
        """
        whole = [words for words in lines if len(words) == layout.words]

        def values(place: tuple[int, int]) -> Iterator[tuple[bytes, int]]:
            for value, times in Counter(map(itemgetter(place[0]), whole)).items():
                yield value[place[1] :], times

        with contextlib.suppress(ValueError):
            for value, times in values(layout.seconds):
                self.seconds.add(float(value), times)
            for value, times in values(layout.size):
                self.bytes += int(value) * times
            for value, times in values(layout.queue):
                if value not in (b"null", b"-"):
                    self.queue.add(float(value), times)
            release, before = layout.release
            for (status, told), times in Counter(map(itemgetter(layout.status, release), whole)).items():
                name = told[before:].rstrip(b'"}').decode("utf-8", "replace")
                self.requests[self.known(name), f"{int(status[:1])}xx"] += times

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
        """What was written since the last time: whole lines, in one or more pieces.

        nginx still writes to a log for a moment after it was rotated, so that is read once more the next time.
        """
        found = []
        if self.former:
            found.append(self.of(self.former))
            self.former.close()
            self.former = None
        if self.file and self.rotated(self.file):
            found.append(self.of(self.file))
            self.former, self.file = self.file, self.opened()
            # A line is written as a whole, so no rest is lost.
            self.rest = b""
        self.file = self.file or self.opened()
        return [*found, self.of(self.file)] if self.file else found

    def rotated(self, file: BinaryIO) -> bool:
        """Whether the path leads to another file now."""
        try:
            return not os.path.samestat(os.stat(self.path), os.fstat(file.fileno()))
        except OSError:
            return True

    def of(self, file: BinaryIO) -> bytes:
        """New lines of a file."""
        left = os.fstat(file.fileno()).st_size - file.tell()
        if left < 0:  # somebody emptied it
            file.seek(0)
        if left > MOST:
            self.skipped += left - MOST
            file.seek(left - MOST, os.SEEK_CUR)
            file.readline()
        lines, end, self.rest = (self.rest + file.read(MOST)).rpartition(b"\n")
        return lines + end


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
            for text in self.tails[name].lines():
                self.apps[name].add(text)
        self.begun = True
        self.skipped = sum(tail.skipped for tail in self.tails.values())
