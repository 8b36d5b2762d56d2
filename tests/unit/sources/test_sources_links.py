"""Packing sources: nothing leads out of the source."""

import os
import re
import socket

import pytest
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused
from packed import members


@pytest.mark.parametrize(
    ("place", "target"),
    [
        ("out", "/etc/passwd"),
        ("out", "../secret"),
        ("out", ".."),
        ("shop/out", "../../secret"),
        ("shop/out", "static/../../../secret"),
        ("shop/static", "/"),
    ],
)
def test_a_link_that_leads_out_of_the_source_is_refused(place, target, shop, bundle):
    if place == "shop/static":  # a directory that is a link
        (shop / "shop/static/style.css").unlink()
        (shop / "shop/static").rmdir()
        (shop / "style").unlink()  # leads there
    (shop / place).symlink_to(target)
    with pytest.raises(
        Refused, match=f"has the link {place}, which leads out of the source to {re.escape(target)}: replace"
    ):
        bundle(path="shop")


def test_link_that_leads_out_through_another_link_is_refused(shop, bundle):
    (shop / "shop/up").symlink_to("..")  # the source itself: fine
    bundle(path="shop")
    (shop / "out").symlink_to("shop/up/../..")  # looks like the source, is two levels above
    with pytest.raises(Refused, match="has the link out, which leads out of the source"):
        bundle(path="shop")


@pytest.mark.parametrize(
    ("place", "target"), [("in", "shop"), ("shop/in", "../run.sh"), ("in", "."), ("in", "not/yet")]
)
def test_a_link_inside_the_source_is_kept(place, target, shop, bundle):
    (shop / place).symlink_to(target)
    assert members(bundle(path="shop")["file"])[place].linkname == target


def test_link_to_itself_is_kept(shop, bundle):
    (shop / "loop").symlink_to("loop")
    assert members(bundle(path="shop")["file"])["loop"].linkname == "loop"


@pytest.mark.parametrize("kind", ["socket", "fifo"])
def test_socket_or_fifo_in_the_source_is_refused(kind, shop, bundle, monkeypatch):
    if kind == "fifo":
        os.mkfifo(shop / "odd")
    else:
        monkeypatch.chdir(shop)  # the path of a socket is short
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("odd")
    with pytest.raises(
        Refused, match="has odd, which is neither a file nor a directory nor a link: remove or exclude it"
    ):
        bundle(path="shop")
    bundle(path="shop", exclude=["odd"])


def test_source_that_is_not_a_directory_is_refused(shop, bundle, tmp_path):
    with pytest.raises(Refused, match=f"is {tmp_path}/typo, which is no directory .*: correct source.path"):
        bundle(path="shop/../typo")
    with pytest.raises(Refused, match="is no directory"):
        bundle(path="shop/run.sh")
