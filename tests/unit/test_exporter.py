"""What the exporter counts: lines of access logs, lines of the journal, starts of workers."""

import re
import sys
from pathlib import Path

import pytest
import yaml
from role_program import load

ROOT = Path(__file__).parents[2]
MONITORING, UWSGI = ROOT / "roles/monitoring/files", ROOT / "roles/uwsgi/files"

sys.path.append(str(UWSGI))  # app_facts imports a neighbour
access_counts, journal_counts = load(MONITORING / "access_counts.py"), load(MONITORING / "journal_counts.py")
app_facts = load(UWSGI / "app_facts.py")

READABLE = ("2026-11-28T19:19:12+00:00 127.0.0.1 GET /fail 500 bytes=22 seconds=0.300 queue=0.100 "
            'app_seconds=0.003 release=r1 id=abc at=1764357552.279 host=desk.test agent="a \\x22b\\x22"')  # fmt: skip
JSON = ('{"time":"2026-11-28T19:19:12+00:00","address":"127.0.0.1","method":"GET","path":"/fail","status":500,'
        '"bytes":22,"seconds":0.300,"queue":0.100,"app_seconds":0.003,"release":"r1","id":"abc",'
        '"at":1764357552.279,"host":"desk.test","agent":"a \\"b\\""}')  # fmt: skip
STATIC = READABLE.replace("queue=0.100", "queue=-").replace("release=r1", "release=-").replace(" 500 ", " 200 ")


@pytest.fixture
def shop(tmp_path):
    """The access log of the shop."""
    (tmp_path / "shop").mkdir()
    return tmp_path / "shop" / "access.log"


def add(path, *lines):
    with path.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


@pytest.mark.parametrize("line", [READABLE, JSON])
def test_line_counts_by_release_and_status_with_its_times(line):
    counts = access_counts.Counts()
    counts.add(line.encode())
    assert counts.requests == {("r1", "5xx"): 1}
    assert (counts.bytes, counts.seconds.sum, counts.queue.sum) == (22, 0.3, 0.1)
    below = dict(zip((*access_counts.BOUNDS, "all"), counts.seconds.cumulative(), strict=True))
    assert (below[0.25], below[0.5], below["all"]) == (0, 1, 1)


def test_response_by_nginx_itself_has_no_waiting_time():
    counts = access_counts.Counts()
    counts.add(STATIC.encode())
    assert counts.requests == {("none", "2xx"): 1}
    assert counts.queue.cumulative()[-1] == 0


@pytest.mark.parametrize("line", ["", "{", "x", "a b c d e f g h i j", '{"status": null}', READABLE[:80]])
def test_broken_line_is_not_counted(line):
    counts = access_counts.Counts()
    counts.add(line.encode())
    assert not counts.requests


def test_lines_of_both_formats_and_broken_ones_between_them_are_counted(monkeypatch):
    monkeypatch.setattr(access_counts, "BLOCK", 500)
    counts = access_counts.Counts()
    counts.add("\n".join([*[READABLE, JSON, "broken", STATIC] * 50, ""]).encode())
    assert counts.requests == {("r1", "5xx"): 100, ("none", "2xx"): 50}
    assert counts.bytes == 100 * 22 + 50 * int(STATIC.partition("bytes=")[2].split()[0])
    assert counts.seconds.cumulative()[-1] == 150
    assert counts.queue.sum == pytest.approx(10)


@pytest.mark.parametrize("path", ['/\\"status\\":200,\\"bytes\\":1', "/x%20200%20bytes=1", "/{"])
def test_path_cannot_pretend_to_be_another_field(path):
    for line in (READABLE, JSON):
        counts = access_counts.Counts()
        counts.add(line.replace("/fail", path).encode())
        assert counts.requests == {("r1", "5xx"): 1}
        assert path in line.replace("/fail", path)


def test_the_oldest_of_too_many_releases_is_forgotten():
    counts = access_counts.Counts()
    for number in range(100):
        counts.add(READABLE.replace("release=r1", f"release=r{number}").encode())
    assert len(counts.requests) == access_counts.RELEASES
    assert ("r99", "5xx") in counts.requests


def test_only_lines_written_after_the_start_are_counted(shop):
    add(shop, READABLE)
    access = access_counts.Access(str(shop.parents[1]))
    access.read(["shop"])
    add(shop, READABLE, STATIC)
    access.read(["shop"])
    assert access.apps["shop"].requests.total() == 2


def test_app_that_is_added_later_is_counted_from_its_first_line(shop):
    access = access_counts.Access(str(shop.parents[1]))
    access.read([])
    access.read(["shop"])
    add(shop, READABLE)
    access.read(["shop"])
    assert access.apps["shop"].requests.total() == 1


def test_no_line_is_lost_or_counted_twice_when_the_log_is_rotated(shop):
    access = access_counts.Access(str(shop.parents[1]))
    add(shop, READABLE)
    access.read(["shop"])
    add(shop, READABLE)
    former = shop.rename(shop.with_name("access.log.1"))
    add(shop, READABLE, READABLE)
    access.read(["shop"])
    add(former, READABLE)  # by a process of nginx that has not opened the new one yet
    add(shop, READABLE)
    access.read(["shop"])
    access.read(["shop"])
    assert access.apps["shop"].requests.total() == 5


def test_part_of_a_line_waits_for_its_rest(shop):
    access = access_counts.Access(str(shop.parents[1]))
    access.read([])
    with shop.open("w") as file:
        file.write(READABLE[:100])
    access.read(["shop"])
    assert not access.apps["shop"].requests
    with shop.open("a") as file:
        file.write(f"{READABLE[100:]}\n")
    access.read(["shop"])
    assert access.apps["shop"].requests.total() == 1


def test_too_many_lines_at_once_are_skipped_and_counted(shop, monkeypatch):
    monkeypatch.setattr(access_counts, "MOST", 1000)
    access = access_counts.Access(str(shop.parents[1]))
    access.read([])
    add(shop, *[READABLE] * 100)
    access.read(["shop"])
    assert 3 <= access.apps["shop"].requests.total() <= 6
    assert access.skipped >= 15000


def test_removed_app_has_no_metrics(shop):
    access = access_counts.Access(str(shop.parents[1]))
    access.read(["shop"])
    access.read([])
    assert not access.apps


@pytest.mark.parametrize(
    ("who", "text", "found"),
    [
        ("shop", "request 4f GET /x (release r1) got 500 INTERNAL SERVER ERROR", ("shop", "exception")),
        ("shop", "request 4f GET /x (release r1) takes more than 2 s. What it does:", ("shop", "slow")),
        ("shop", "a request takes more than 60 s (max_request_seconds), so its worker is replaced. What that does:",
         ("shop", "late")),
        ("shop", "this worker has 300 MiB (memory.worker_recycle), so it is replaced", ("shop", "recycled")),
        ("shop", "DAMN ! worker 2 (pid: 71) died, killed by signal 9 :( trying respawn ...", ("shop", "killed")),
        ("shop", "DAMN ! worker 2 (pid: 71) died, killed by signal 11 :( trying respawn ...", ("shop", "crashed")),
        ("shop", "DAMN ! worker 2 (pid: 71) died, killed by signal 15 :( trying respawn ...", None),
        ("emperor-memory-guard", "asked the idle worker 2 of shop (pid 71, 90 MiB of its own)", ("shop", "guarded")),
        ("emperor", "[emperor] throttling instance shop.blue.ini for 2 seconds", ("shop", "throttled")),
        ("shop", "request 4f is what the app itself wrote", None),
        ("emperor", "something else", None),
    ],
)  # fmt: skip
def test_journal_line_becomes_an_event(who, text, found):
    assert journal_counts.event(who, text) == found


def stats(pid, *counts):
    return {"pid": pid, "workers": [{"id": number, "respawn_count": count} for number, count in enumerate(counts, 1)]}


def test_starts_of_workers_only_grow_through_a_switch():
    starts = app_facts.Starts()
    starts.add(stats(10, 3, 1), first=True)
    assert starts.total == 0, "what was before the exporter"
    starts.add(stats(10, 4, 1), first=False)
    starts.add(stats(20, 1, 1), first=False)  # another instance
    assert starts.total == 3
    starts.forget({20})
    starts.add(stats(20, 1, 2), first=False)
    assert starts.total == 4
    starts.add(stats(10, 1, 1), first=False)  # the number of a process comes again
    assert starts.total == 6


def test_shared_modules_are_installed_with_their_imports():
    text = (ROOT / "roles/monitoring/vars/main.yml").read_text(encoding="utf-8")
    shared = {Path(name) for name in yaml.safe_load(text)["__monitoring_shared"]}
    package = "ansible_collections.flaskops.emperor.plugins.module_utils"
    for file in shared:
        source = (ROOT / "plugins/module_utils" / file).read_text(encoding="utf-8")
        for module, names in re.findall(rf"^from {re.escape(package)}([\w.]*) import ([\w, ]+)$", source, re.MULTILINE):
            place = Path(*module.split("."))
            wanted = {place / f"{name.strip()}.py" for name in names.split(",")}
            assert Path(f"{place}.py") in shared or wanted <= shared, f"{file} imports {place} {names}"
