"""The releases that `make demo-deploy` and `make demo-break` make are what they are to be."""

import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "molecule/shared"), str(ROOT / "sample_app")]

import demo_release  # type: ignore[import-not-found]  # noqa: E402
from load_report import Report  # type: ignore[import-not-found]  # noqa: E402


@pytest.fixture
def app(tmp_path, monkeypatch):
    """Import a changed copy of the sample app."""

    def load(kind):
        monkeypatch.syspath_prepend(demo_release.changed(kind, tmp_path))
        for name in [one for one in sys.modules if one == "shop" or one.startswith("shop.")]:
            monkeypatch.delitem(sys.modules, name)
        shop = importlib.import_module("shop")
        assert str(tmp_path) in str(shop.__file__)
        return shop

    yield load
    for name in [one for one in sys.modules if one == "shop" or one.startswith("shop.")]:
        del sys.modules[name]


def test_good_release_says_on_its_page_that_it_is_another(app):
    page = app("good").create_app().test_client().get("/").text
    assert "served you. (Release of " in page


def test_broken_release_does_not_start(app):
    with pytest.raises(RuntimeError, match="broken on purpose"):
        app("broken").create_app()


@pytest.mark.parametrize(
    ("kind", "code", "releases", "failed", "ends"),
    [
        ("good", 0, ("one", "two"), False, 0),
        ("good", 0, ("one",), False, 1),
        ("good", 2, ("one", "two"), False, 1),
        ("good", 0, ("one", "two"), True, 1),
        ("broken", 2, ("one",), False, 0),
        ("broken", 0, ("one",), False, 1),
        ("broken", 2, ("one", "two"), False, 1),
    ],
)
def test_demo_fails_when_a_request_did_or_the_run_ended_otherwise(
    kind, code, releases, failed, ends, tmp_path, monkeypatch, capsys
):
    class Load:
        report = Report(["demo"])

        def __init__(self, *_arguments, **_more):
            for number, release in enumerate(releases):
                self.report.add(1000 + number, 0.01, "demo", "get_keep", release)
            if failed:
                self.report.add(1009, 0.01, "demo", "post", None, "refused")

        def __enter__(self):
            return self

        def __exit__(self, *_error):
            pass

    monkeypatch.setattr(demo_release, "Load", Load)
    monkeypatch.setattr(demo_release, "deploy", lambda *_arguments: code)
    monkeypatch.setattr(demo_release.time, "sleep", lambda _seconds: None)
    monkeypatch.setattr(demo_release, "ROOT", tmp_path)
    monkeypatch.setattr(demo_release, "changed", lambda *_arguments: tmp_path)
    monkeypatch.setattr(demo_release, "PICTURE", tmp_path / "cache/demo.svg")
    monkeypatch.setattr(sys, "argv", ["demo_release.py", kind, "--address", "127.0.0.1:1"])
    assert demo_release.main() == ends
    told = capsys.readouterr().out
    assert f"{len(releases)} requests were answered during this run (1 by one" in told
    assert f"{int(failed)} failed. Picture: cache/demo.svg" in " ".join(told.split()) or kind == "broken"
    assert ("answered no client" in told) is (kind == "broken")
    assert "<svg" in (tmp_path / "cache/demo.svg").read_text(encoding="utf-8")
