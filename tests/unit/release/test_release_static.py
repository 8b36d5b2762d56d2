"""The module `release`: pages of old releases find their static files."""

import itertools
import os
import shutil

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import links
from ansible_collections.flaskops.emperor.plugins.module_utils.releases import activation, static_links
from ansible_collections.flaskops.emperor.plugins.module_utils.releases.registry import Releases
from hypothesis import given, settings
from hypothesis import strategies as st
from release_home import known, observe


class Nginx:
    """Looks for a file as the site's try_files does: below static/0, static/1, ... static/KEEP."""

    def __init__(self, home, keep):
        self.home, self.keep = home, keep

    def finds(self, name):
        """Whether the asset of a release is found; every release has one of its own."""
        slots = (self.home / "static" / str(slot) for slot in range(self.keep + 1))
        return any((slot / "static" / f"{name}.css").is_file() for slot in slots)


def test_assets_of_kept_releases_are_found_and_of_removed_ones_are_not(built, current, home):
    nginx = Nginx(home, 2)
    for name in "abc":
        known(home, name)
        static_links.publish(Releases(str(home)), Releases(str(home)).current(), {"/static": "static"}, name)
        assert nginx.finds(name)
        current(name, keep=2)
    assert [nginx.finds(name) for name in "abc"] == [False, True, True]
    assert sorted(name for name in os.listdir(home / "static") if not name.isdigit()) == ["b", "c"]
    assert {os.readlink(home / "static/0")} == {"c"}


def test_assets_of_good_releases_come_before_those_of_failed_ones(home):
    known(home, "a", activated=1.0)
    for name in "bcd":
        known(home, name, failed=True)
    assert Releases(str(home)).slots("", "e") == ["e", "a", "d", "c", "b"]


def test_rollback_of_a_rollback_moves_no_static_link_before_the_switch(built, current, home):
    for name in "abc":
        built(name)
        current(name)
    current("b", fail_others=["c"])
    built("d")
    current("d")
    assert Releases(str(home)).previous() == "b"
    assert observe(home, None)["static_right"]


def test_static_prefixes_may_be_nested(home):
    known(home, "a")
    static_links.publish(Releases(str(home)), "", {"/assets/v1": "static"}, "a")
    assert (home / "static/0/assets/v1/a.css").read_text() == "a"


def replaced(path, target):
    os.unlink(path)
    os.symlink(target, path)


@pytest.mark.parametrize(
    "change",
    [
        lambda root: os.unlink(root / "0"),
        lambda root: replaced(root / "0", "b"),
        lambda root: os.symlink("a", root / "7"),
        lambda root: os.symlink("a", root / "0.new"),
        lambda root: (root / "gone").mkdir(),
        lambda root: os.unlink(root / "c/static"),
        lambda root: replaced(root / "c/static", "/etc"),
    ],
)
def test_changed_static_links_are_found_and_repaired(change, built, current, home):
    for name in "abc":
        built(name)
        current(name)
    assert observe(home, "c")["static_right"]
    change(home / "static")
    assert not observe(home, "c")["static_right"]
    assert static_links.publish(Releases(str(home)), "c", {"/static": "static"}, "c")
    assert observe(home, "c")["static_right"]


def test_rollback_looks_at_the_static_links_of_the_release_before(built, current, home):
    for name in "abc":
        built(name)
        current(name)
    assert observe(home, None)["static_right"]
    os.unlink(home / "static/b/static")
    assert observe(home, "c")["static_right"]
    assert not observe(home, None)["static_right"]


# Deploys of a new release, returns to the release before, and deploys that fail, in any order.
STORIES = st.lists(st.sampled_from(["deploy", "rollback", "fail"]), min_size=2, max_size=9)


def test_no_link_changes_while_it_is_the_only_one_of_its_release(tmp_path, monkeypatch):
    real = links.link
    ways = [way for length in (1, 2, 3) for way in itertools.permutations("abcd", length)]
    for before, after in itertools.product(ways, ways):
        for number, name in enumerate([*before, before[0]]):
            real(name, str(tmp_path / str(number)))
        stays = set(before) & set(after)

        def link(name, path, stays=stays, story=(before, after)):
            real(name, path)
            assert stays <= {os.readlink(one) for one in tmp_path.iterdir()}, story

        monkeypatch.setattr(static_links, "link", link)
        assert static_links.arrange(str(tmp_path), [*after, after[0]]) == (before != after)
        assert [os.readlink(tmp_path / str(number)) for number in range(len(after) + 1)] == [*after, after[0]]
        for one in tmp_path.iterdir():
            one.unlink()


@settings(max_examples=60, derandomize=True)
@given(story=STORIES, keep=st.integers(1, 4))
def test_assets_of_every_kept_release_are_found_at_every_moment(tmp_path_factory, story, keep):
    home = tmp_path_factory.mktemp("home")
    for name in ("releases", "static"):
        (home / name).mkdir()
    releases, nginx = Releases(str(home)), Nginx(home, keep)
    names = iter("abcdefghijk")

    def look(watched):
        lost = [name for name in watched if not nginx.finds(name)]
        assert not lost, f"{lost} of {watched}: {[os.readlink(one) for one in sorted((home / 'static').glob('[0-9]'))]}"

    def publish(watched, *arguments):
        """Publish, and look after every single change."""
        with pytest.MonkeyPatch.context() as patch:
            for function in ("replace", "unlink"):
                real = getattr(os, function)
                patch.setattr(os, function, lambda *a, real=real, **o: (real(*a, **o), look(watched)))
            static_links.publish(releases, *arguments)

    def ran():
        return [one["id"] for one in releases.all() if one.get("activated")]

    def activate(name, reject=()):
        activation.activate(releases, name, reject)
        for old in releases.superfluous(name, keep):
            shutil.rmtree(releases.path(old))
        publish(ran(), name)

    for step, what in enumerate(story):
        if what == "rollback":
            if releases.previous():
                activate(releases.previous(), [releases.current()])
            continue
        name = next(names)
        known(home, name, created=float(step))
        publish(ran(), releases.current(), {"/static": "static"}, name)
        look([*ran(), name])  # it answers before it is made the current one
        if what == "fail":
            releases.record(name, failed=True)
        else:
            activate(name)
