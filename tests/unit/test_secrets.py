"""No message shows the value of an environment variable."""

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import secrets
from hypothesis import given
from hypothesis import strategies as st


def test_values_are_hidden_the_longer_one_first():
    environment = {"KEY": "s3cret!", "LONGER": "s3cret!!", "SLASH": "/tok/en", "LINES": "one\ntwo"}
    message = "KeyError: s3cret!! or s3cret! or /tok/en in one\ntwo"
    assert secrets.censor(message, environment) == "KeyError: ******** or ******** or ******** in ********"


def test_values_that_tell_nothing_stay():
    assert secrets.censor("abcd ab", {"A": "abcd", "B": ""}) == "abcd ab"


@pytest.mark.parametrize("name", sorted(secrets.OPEN_VARIABLES))
def test_what_every_app_has_stays(name):
    assert secrets.censor("in /srv/flask_apps/shop", {name: "/srv/flask_apps/shop"}) == "in /srv/flask_apps/shop"


@given(st.dictionaries(st.sampled_from("ABC"), st.text(min_size=5).filter(lambda value: "*" not in value)))
def test_no_hidden_value_is_left(environment):
    message = secrets.censor(" ".join(environment.values()), environment)
    assert not [value for value in environment.values() if value in message]


def test_what_the_roles_set_themselves_is_no_secret():
    environment = {"EMPEROR_APP": "shop:create_app()", "EMPEROR_SERVING": "/srv/flask_apps/shop/serving"}
    message = "shop:create_app() in /srv/flask_apps/shop/serving would not start"
    assert secrets.censor(message, environment) == message
