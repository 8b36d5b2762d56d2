"""Sources in archives: what is unpacked, and what is refused."""

import gzip
import hashlib
import io
import lzma
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest
from ansible_collections.flaskops.emperor.plugins.plugin_utils import sources
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused
from guarded import serving  # type: ignore[import-not-found]  # as in test_load_client.py
from packed import members


def archived(kind, shop, file, top):
    """Pack the source as a code host would (in one directory) or plainly; return what the user would write."""
    paths = sorted(path for path in shop.rglob("*") if path.is_file() and not path.is_symlink())
    if kind == "zip":
        with zipfile.ZipFile(file, "w") as packed:
            for path in paths:
                packed.write(path, top + str(path.relative_to(shop)))
    else:
        plain = io.BytesIO()
        with tarfile.open(fileobj=plain, mode="w") as packed:
            for path in paths:
                packed.add(path, top + str(path.relative_to(shop)))
        raw = plain.getvalue()
        file.write_bytes({"gz": gzip.compress(raw), "xz": lzma.compress(raw), "": raw}[kind])
    return checked(file)


@pytest.fixture(params=["any Python", "Python before 3.11.4"])
def python(request, monkeypatch):
    """With what Python has to unpack archives safely, and without."""
    if request.param != "any Python":
        monkeypatch.delattr(tarfile, "data_filter", raising=False)


@pytest.mark.usefixtures("python")
@pytest.mark.parametrize("top", ["", "shop-2.1/"])
@pytest.mark.parametrize("kind", ["gz", "xz", "", "zip"])
def test_archive_is_packed_without_its_top_directory(kind, top, shop, bundle, tmp_path):
    archive = archived(kind, shop, tmp_path / "shop-2.1", top)
    answer = bundle(archive=archive)
    assert answer["label"] == "shop-2.1"
    assert set(members(answer["file"])) == {
        "run.sh",
        "shop",
        "shop/__init__.py",
        "shop/static",
        "shop/static/style.css",
    }


def test_an_archive_is_found_by_a_relative_path_and_by_a_url(shop, bundle, tmp_path):
    archive = archived("gz", shop, tmp_path / "shop.tar.gz", "")
    relative = bundle(archive={**archive, "url": "shop.tar.gz"})
    assert relative["digest"] == bundle(archive={**archive, "url": f"file://{tmp_path}/shop.tar.gz"})["digest"]


def test_an_archive_with_another_checksum_is_refused(shop, bundle, tmp_path):
    archive = archived("gz", shop, tmp_path / "shop.tar.gz", "")
    with pytest.raises(Refused, match=f"has the checksum {archive['checksum']}, not sha256:00"):
        bundle(archive={**archive, "checksum": "sha256:" + "0" * 64})


def test_missing_archive_is_refused(bundle, tmp_path):
    for url in ("typo.tar", f"file://{tmp_path}/typo.tar"):
        with pytest.raises(Refused, match="could not be read from"):
            bundle(archive={"url": url, "checksum": "sha256:" + "0" * 64})


def test_an_archive_keeps_links_that_stay_inside(python, shop, bundle, tmp_path):
    file = tmp_path / "linked.tar"
    with tarfile.open(file, "w") as packed:
        for name, target in (("latest", "shop"), ("shop/run", "../run.sh")):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            packed.addfile(link)
        for name in ("shop", "run.sh"):
            packed.add(shop / name, name)
    found = members(bundle(archive=checked(file))["file"])
    assert (found["latest"].linkname, found["shop/run"].linkname) == ("shop", "../run.sh")


def checked(file):
    """An archive as the user would write it."""
    return {"url": str(file), "checksum": "sha256:" + hashlib.sha256(file.read_bytes()).hexdigest()}


def damaged(kind, shop, file):
    if kind == "no archive":
        file.write_bytes(b"<html>not found</html>")
    elif kind == "a tar cut off":
        # Random content, so that the end of the archive is content.
        (shop / "big").write_bytes(os.urandom(50_000))
        archived("gz", shop, file, "")
        file.write_bytes(file.read_bytes()[:20_000])
    elif kind == "a zip with a wrong byte":
        archived("zip", shop, file, "")
        file.write_bytes(file.read_bytes().replace(b"app = 1", b"app = 7", 1))
    elif kind == "a tar that leads out":
        with tarfile.open(file, "w") as packed:
            packed.addfile(tarfile.TarInfo("../out"))
    elif kind == "a tar with a link that leads out":
        with tarfile.open(file, "w") as packed:
            link = tarfile.TarInfo("out")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc"
            packed.addfile(link)
    elif kind == "a tar that goes through a link that leads out":
        with tarfile.open(file, "w") as packed:
            for name, target in (("here", "."), ("out", "here/here/../..")):
                link = tarfile.TarInfo(name)
                link.type, link.linkname = tarfile.SYMTYPE, target
                packed.addfile(link)
            packed.addfile(tarfile.TarInfo("./out/side"))
    elif kind == "a tar with a device":
        with tarfile.open(file, "w") as packed:
            device = tarfile.TarInfo("null")
            device.type, device.devmajor, device.devminor = tarfile.CHRTYPE, 1, 3
            packed.addfile(device)
    return checked(file)


@pytest.mark.usefixtures("python")
@pytest.mark.parametrize(
    "kind",
    [
        "no archive",
        "a tar cut off",
        "a zip with a wrong byte",
        "a tar that leads out",
        "a tar with a link that leads out",
        "a tar that goes through a link that leads out",
        "a tar with a device",
    ],
)
def test_an_archive_that_cannot_be_unpacked_is_refused(kind, shop, bundle, tmp_path):
    with pytest.raises(Refused, match=r"cannot be unpacked: .* Use a tar or zip archive"):
        bundle(archive=damaged(kind, shop, tmp_path / "archive"))
    assert os.listdir(tmp_path / "cache") == []
    assert not (tmp_path / "side").exists()


def test_an_archive_without_files_is_refused(bundle, tmp_path):
    tarfile.open(tmp_path / "empty.tar", "w").close()
    with pytest.raises(Refused, match="has no files"):
        bundle(archive=checked(tmp_path / "empty.tar"))


@pytest.mark.parametrize("address", ["http://robot:s3cret@{}/shop.tar.gz", "http://{}/shop.tar.gz?token=s3cret"])
def test_secret_in_the_address_works_and_is_in_no_label_and_no_message(address, shop, tmp_path, bundle):
    (tmp_path / "web").mkdir()
    file = shutil.make_archive(str(tmp_path / "web/shop"), "gztar", shop)
    checksum = "sha256:" + hashlib.sha256(Path(file).read_bytes()).hexdigest()
    with serving(tmp_path / "web", "robot", "s3cret", "s3cret") as place:
        url = address.format(place)
        assert bundle(archive={"url": url, "checksum": checksum})["label"] == "shop.tar.gz"
        with pytest.raises(Refused, match="has the checksum") as wrong:
            bundle(archive={"url": url, "checksum": "sha256:" + "0" * 64})
        with pytest.raises(Refused, match="could not be read from") as missing:
            bundle(archive={"url": url.replace("shop.tar", "none.tar"), "checksum": checksum})
    assert "s3cret" not in f"{wrong.value} {missing.value}"


def test_message_of_a_server_shows_no_token_of_an_address_in_it(bundle, monkeypatch):
    def fail(url, **_more):
        raise OSError(f"redirected to {url}&again=s3cret for ever")

    monkeypatch.setattr(sources, "open_url", fail)
    with pytest.raises(Refused, match=r"redirected to https://a\.test/x\?\*+ for ever\.$") as refusal:
        bundle(archive={"url": "https://a.test/x?token=s3cret", "checksum": "sha256:" + "0" * 64})
    assert "s3cret" not in str(refusal.value)
