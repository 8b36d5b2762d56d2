"""The setting `app`: which names and arguments are taken, and what the loader makes of them."""

import re
import sys
import types
from pathlib import Path

import pytest
import role_program
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.wsgi_app import wsgi_app

LOADER = Path(__file__).parents[2] / "roles/uwsgi/files/emperor_loader.py"
MODULE = """
class Dash: pass
app = Dash()
app.server = lambda: "the server"
class API:
    async def __call__(self, scope, receive, send): pass
api = API()
create_api = API
async def served(scope, receive, send): pass
def create_app(name="development", path=None, *, debug=None):
    return lambda: f"{name} {path} {debug}"
"""
TAKEN = {
    "shop_of_test:app.server": "the server",
    "shop_of_test:create_app()": "development None None",
    "shop_of_test:create_app('production')": "production None None",
    'shop_of_test:create_app("a", path="/etc/shop (1).cfg", debug=False)': "a /etc/shop (1).cfg False",
    "shop_of_test:create_app({'a': [1, -2]})": "{'a': [1, -2]} None None",
}
REFUSED = [
    "shop:create_app(production)",
    "shop:create_app(__import__('os'))",
    "shop:create_app('a').run()",
    "shop:create_app('a'",
    "shop:create_app(*'ab')",
    "shop:create_app(**{'a': 1})",
    "shop:create_app('a')('b')",
    "shop:create_app('a') + (1)",
    "shop:create_app('a',\n'b')",
    "shop:create_app('a')#",
]


@pytest.fixture
def imported(monkeypatch):
    """What the loader finds under a name."""
    monkeypatch.syspath_prepend(str(LOADER.parent))
    monkeypatch.setitem(sys.modules, "uwsgi", types.ModuleType("uwsgi"))
    loader = role_program.load(LOADER)
    shop = types.ModuleType("shop_of_test")
    exec(MODULE, shop.__dict__)
    monkeypatch.setitem(sys.modules, "shop_of_test", shop)
    return loader.imported


@pytest.mark.parametrize(("name", "answer"), TAKEN.items())
def test_app_is_found_and_called_as_the_setting_says(name, answer, imported):
    assert imported(wsgi_app(name, "app"))() == answer


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_plain_value_is_refused(name):
    with pytest.raises(Refused, match=r"^flask_apps\[shop\]\.app is .*must be"):
        wsgi_app(name, "flask_apps[shop].app")


WRONG = {
    "shop_of_test:app.serve": "has no callable `app.serve`; it has `create_app` and `api`: correct `app`",
    "shop_of_test:app": "no callable `app`, only a Dash of that name; it has `app.server`: correct `app`",
    "shop_of_test:api": "shop_of_test:api is an ASGI app, which no WSGI server can serve",
    "shop_of_test:create_api()": "is an ASGI app",
    "shop_of_test:served": "is an ASGI app",
}


@pytest.mark.parametrize(("name", "sentence"), WRONG.items())
def test_app_that_cannot_be_served_is_told_with_what_can(name, sentence, imported):
    with pytest.raises(Exception, match=re.escape(sentence)):
        imported(name)


def test_module_that_is_not_there_is_told_with_those_that_are(imported, tmp_path, monkeypatch):
    (tmp_path / "wsgi.py").write_text("import nothing_of_test\n")
    (tmp_path / "inner_of_test").mkdir()
    (tmp_path / "inner_of_test/__init__.py").touch()
    (tmp_path / "inner_of_test/web.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    told = {
        "shop_that_is_not_there:app": "there is no module shop_that_is_not_there; there is wsgi: correct `app`",
        "inner_of_test.wep:app": "there is no module inner_of_test.wep; there is inner_of_test.web: correct `app`",
        "inner_of_test.xxxxxx:app": "there is no module inner_of_test.xxxxxx: correct `app`",
        "wsgi:app": "No module named 'nothing_of_test'",
    }
    for name, sentence in told.items():
        with pytest.raises(Exception, match=re.escape(sentence)):
            imported(name)
