"""The settings `persistent` and `files`: where the app looks for its data, and what is refused."""

import pytest
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.apps import complete_apps
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused


def one(**changes):
    return complete_apps([{"name": "shop", "app": "shop.web:app", "source": {"path": "."}, **changes}])[0]


def links(**changes):
    return {link["at"]: link["data"] for link in one(**changes)["persistent"]}


INSTANCE = {
    "src/instance": "instance",
    "src/src/instance": "instance",
    "venv/var/shop-instance": "instance",
    "venv/var/shop.web-instance": "instance",
}
PACKAGE = {"source": {"package": "shop==1"}}


def test_flasks_folder_is_persistent_wherever_flask_looks_for_it():
    assert links() == INSTANCE
    assert links(persistent=["media"]) == {**INSTANCE, "src/media": "media"}
    assert links(**PACKAGE, persistent=["var/x"]) == {
        "venv/var/shop-instance": "instance",
        "venv/var/shop.web-instance": "instance",
        "venv/var/x": "var/x",
    }


def test_instance_folder_is_not_persistent_when_a_part_of_it_is_listed():
    assert links(persistent=["instance/data"]) == {"src/instance/data": "instance/data"}


def test_listed_folder_is_not_optional():
    optional = {link["at"]: link["optional"] for link in one(persistent=["instance"])["persistent"]}
    assert not optional["src/instance"]
    assert optional["venv/var/shop-instance"]


@pytest.mark.parametrize(
    ("settings", "path", "at"),
    [
        ({}, "config/local.py", "src/config/local.py"),
        ({}, "instance/config.py", "shared/instance/config.py"),
        ({"persistent": ["var"]}, "var/shop.cfg", "shared/var/shop.cfg"),
        ({}, "~/.config/shop.toml", "shared/.config/shop.toml"),
        (PACKAGE, "instance/config.py", "shared/instance/config.py"),
        (PACKAGE, "etc/shop.cfg", "venv/etc/shop.cfg"),
    ],
)
def test_file_is_where_the_app_looks(settings, path, at):
    (found,) = one(**settings, files=[{"path": path, "content": "x"}])["files"]
    assert found["at"] == at


REFUSED = [
    ({"persistent": ["/media"]}, "persistent[0] is '/media', but must be a path inside the app's source"),
    ({"persistent": ["a", "../b"]}, "persistent[1] is '../b'"),
    ({"persistent": ["."]}, "must have no '.'"),
    ({"persistent": ["a/b", "a"]}, "persistent[1] is 'a', which overlaps with 'a/b'"),
    ({"persistent": ["shop/static/up"], "static": {"/s": "shop/static"}}, "static['/s'] is 'shop/static'"),
    ({"persistent": ["shop"], "static": {"/s": "shop/static"}}, "let nginx serve the data by `media`"),
    ({**PACKAGE, "persistent": ["lib/python3"]}, "belongs to the virtualenv itself"),
    ({"files": [{"path": "/etc/x", "content": ""}]}, "files[0].path is '/etc/x', but must be a path inside"),
    ({"files": [{"path": "~/../x", "content": ""}]}, "without '..'"),
    ({"files": [{"path": "x", "content": {"a": "secret"}}]}, "files[0].content of x is no text: put it in quotes"),
    (
        {"files": [{"path": "x", "content": ""}, {"path": "x/y", "content": ""}]},
        "files[1].path is 'x/y', where another",
    ),
    ({"files": [{"path": "instance", "content": ""}]}, "is a persistent directory: name a file in it"),
    ({"environment": {"EMPEROR_FILES": "x"}}, "is set by the role itself"),
]


@pytest.mark.parametrize(("settings", "sentence"), REFUSED)
def test_invalid_data_setting_is_refused_with_a_sentence(settings, sentence):
    with pytest.raises(Refused) as refusal:
        one(**settings)
    assert sentence in str(refusal.value)
    assert str(refusal.value).startswith("flask_apps[shop].")
    assert "secret" not in str(refusal.value)
