"""An app that lacks a module is told of all that it lacks at once, by its source, of which nothing is run."""

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal import journal

SHOP = {
    "shop/__init__.py": "from . import views\nimport absent_one.part\n",
    "shop/views.py": """
import json
from absent_two import thing
from .models import Order
try:
    import absent_but_tried
except ImportError:
    pass
if json:
    import absent_in_condition
def later():
    import absent_in_function
class View:
    import absent_three
""",
    "shop/models.py": "from shop.base import *\nimport broken\nOrder = 1\n",
    "shop/base/__init__.py": "from .. import unused\n",
    "shop/unused.py": "import absent_four\n",
    "shop/cli.py": "import absent_of_no_import\n",
    "broken.py": "def (\n",
}
DJANGO = {
    "site/__init__.py": "",
    "project/__init__.py": "",
    "project/wsgi.py": "import os\nos.environ['DJANGO_SETTINGS_MODULE'] = 'project.settings'\nimport absent_first\n",
    "project/settings.py": """
import os
INSTALLED_APPS = ["absent_app", "polls.apps.Polls", "json", *(["absent_if_wanted"] if "DEBUG" in os.environ else [])]
MIDDLEWARE = ("absent_middleware.One", 1)
TEMPLATES = [{"BACKEND": "absent.Backend"}]
""",
    "polls/__init__.py": "",
    "polls/apps.py": "",
    "polls/models.py": "import absent_of_models\n",
}


@pytest.fixture
def fail(run, home):
    """Load an app of these files, which fails; returns the cause that a run tells."""

    def start(app, files):
        for name, text in files.items():
            file = home / "releases/r2/src" / name
            file.parent.mkdir(exist_ok=True, parents=True)
            file.write_text(text)
        (home / "releases/r2/src/shop.py").unlink(missing_ok=True)
        ended = run(app, link=str(home / "releases/r2"))
        assert ended.returncode == 1
        return journal.explained("it ends", ended.stderr).splitlines()[0]

    return start


def test_all_that_an_app_imports_and_lacks_is_told_at_once(fail):
    assert fail("shop:app", SHOP) == (
        "the modules absent_two, absent_one, absent_three and absent_four are missing: add what brings them to what "
        "the app requires (its file of requirements, or python.additional)"
    )


def test_apps_and_middleware_of_django_count_as_imported(fail):
    told = fail("project.wsgi:application", DJANGO)
    assert told.startswith("the modules absent_first, absent_app, absent_middleware and absent_of_models are missing: ")


def test_one_missing_module_is_told_as_before(fail):
    assert fail("shop:app", {"shop/__init__.py": "import yaml_of_nobody.x\n"}).startswith(
        "the module yaml_of_nobody is missing: add what brings it"
    )


def test_a_factory_that_lacks_a_module_tells_the_others_too(fail):
    source = "import json\ndef create_app():\n    import absent_one\n"
    assert fail(
        "shop:create_app()", {"shop/__init__.py": source + "from shop import more\n", "shop/more.py": ""}
    ).startswith("the module absent_one is missing: ")


def test_packages_with_other_names_are_named(fail):
    told = fail("shop:app", {"shop/__init__.py": "import PIL_of_nobody\nimport cv2\nimport ldap\n"})
    assert told.startswith(
        "the modules PIL_of_nobody, cv2 (of opencv-python-headless) and ldap (of python-ldap) are missing: "
    )
