"""What a health check that was not passed tells of its own settings."""

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.health import suggestion

CASES = [
    (302, "/app/v2/", "set `health.path` to /app/v2/, where it leads to, or `health.status` to 302"),
    (301, "http://shop.test/login?next=/", "set `health.path` to /login, "),
    (302, "", "set `health.path` to another page, "),
    (401, "", "or `health.status` to 401"),
    (404, "", "set `health.path` to a page of its own"),
]


@pytest.mark.parametrize(("status", "location", "sentence"), CASES)
def test_answer_of_a_sound_app_names_the_setting_to_correct(status, location, sentence):
    assert sentence in suggestion(status, location)


@pytest.mark.parametrize("status", [0, 200, 500, 503])
def test_answer_of_a_broken_app_names_none(status):
    assert suggestion(status, "") == ""
