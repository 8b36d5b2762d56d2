"""The headers for the browser's safety: what may be set, and what an app gets."""

import pytest
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.site import security_headers
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused

COMMON = {"X-Frame-Options": "SAMEORIGIN", "Referrer-Policy": "no-referrer"}


def of(own, common=None):
    return security_headers(COMMON if common is None else common, own, "flask_apps[shop]")


def test_an_app_adds_changes_and_takes_away():
    own = {"Permissions-Policy": 'geolocation=(self "https://a")', "x-frame-options": "DENY", "Referrer-Policy": ""}
    assert of(own) == {"x-frame-options": "DENY", "Permissions-Policy": 'geolocation=(self "https://a")'}
    assert of({"Referrer-Policy": None}) == {"X-Frame-Options": "SAMEORIGIN"}
    assert of({}) == COMMON


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("X Frame", "a", "flask_apps[shop].security_headers['X Frame'] is 'X Frame', but the name of a header has"),
        ("X-A", "a\nb", "is 'a\\nb', but must be a text of printable ASCII characters without '$'."),
        ("X-A", "$host", "without '$'."),
        ("X-A", "é", "without '$'."),
        ("X-A", 1, "is 1, but must be a text"),
        ("Set-Cookie", "a", "is set by nginx or the app for each response: remove it."),
        ("strict-transport-security", "a", "belongs to HTTPS: remove it, and set tls.hsts_seconds."),
    ],
)
def test_what_cannot_be_meant_is_refused(name, text, sentence):
    with pytest.raises(Refused) as refusal:
        of({name: text})
    assert sentence in str(refusal.value)
    with pytest.raises(Refused, match=r"^flask_apps_security_headers\["):
        of({}, {name: text})
