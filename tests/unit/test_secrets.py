"""No message shows a secret of an environment."""

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import secrets
from hypothesis import given
from hypothesis import strategies as st


def test_longer_secret_is_hidden_before_a_shorter_one():
    environment = {"KEY": "s3cret!", "LONGER": "s3cret!!", "SLASH": "/t0k/3n", "LINES": "one\ntwo"}
    message = "KeyError: s3cret!! or s3cret! or /t0k/3n in one\ntwo"
    assert secrets.censor(message, environment) == "KeyError: ******** or ******** or ******** in ********"


def test_values_without_information_are_shown():
    assert secrets.censor("abcd ab", {"A": "abcd", "B": ""}) == "abcd ab"


@pytest.mark.parametrize("name", sorted(secrets.OPEN_VARIABLES))
def test_common_values_of_all_apps_are_shown(name):
    assert secrets.censor("in /srv/flask_apps/shop", {name: "/srv/flask_apps/shop"}) == "in /srv/flask_apps/shop"


@pytest.mark.parametrize(
    "value",
    [
        "/srv/flask_apps/shop/shared/db.sqlite3", "production", "shop.settings", "8080", "127.0.0.1:8080",
        "https://shop.example.com/", "sqlite:////srv/shop/shared/db", "/var/lib/git/repositories", "en_US.UTF-8",
        "localhost:6379", "debug",
    ],
)  # fmt: skip
def test_plain_words_are_shown(value):
    assert secrets.censor(f"Path '{value}' not found", {"PLACE": value}) == f"Path '{value}' not found"
    assert secrets.censor(value, {"API_KEY": value}) == (value if len(value) < 5 else "********")


@pytest.mark.parametrize(
    "value",
    ["postgres://shop:hunter@db.test/shop", "correct horse battery", "3f2a9c01d4e5", "aGVsbG8gd29ybGQ=", "x7Gh2kLp",
     "https://hooks.test/T00AB1C/x9y8z7", "sk_live_4eC39HqLyjWD", "abcdefghijklmnopqrstuvwxyz", "pa$word"],
)  # fmt: skip
def test_possible_secret_is_hidden_whatever_its_variable_is_named(value):
    assert secrets.censor(value, {"PLACE": value}) == "********"


def tells(value):
    """Whether a value is hidden by its name, and is no part of what stands for it."""
    return "*" not in value and value.lower() not in secrets.PLAIN


@given(st.dictionaries(st.sampled_from(["A_KEY", "B_TOKEN", "PASSWORD"]), st.text(min_size=5).filter(tells)))
def test_no_hidden_value_is_left_in_the_text(environment):
    message = secrets.censor(" ".join(environment.values()), environment)
    assert not [value for value in environment.values() if value in message]


def test_variables_set_by_the_roles_are_no_secrets():
    environment = {"EMPEROR_APP": "shop:create_app()", "EMPEROR_SERVING": "/srv/flask_apps/shop/serving"}
    message = "shop:create_app() in /srv/flask_apps/shop/serving would not start"
    assert secrets.censor(message, environment) == message


@pytest.mark.parametrize(
    ("name", "hidden"),
    [
        # Said by a word of the name
        ("SECRET_KEY", True), ("API_KEY", True), ("APIKEY", True), ("apiKey", True), ("DBPassword", True),
        ("PGPASSWORD", True), ("SMTP_PASS", True), ("requirepass", True), ("auth_token", True), ("AUTH", True),
        ("REDIS_AUTH", True), ("basicAuth", True), ("AUTH_USER", True), ("AUTHORIZATION", True), ("PIN", True),
        ("BOT_PIN", True), ("PASSWORD_SALT", True), ("hashsalt", True), ("TLS_CERT", True), ("SENTRY_DSN", True),
        ("SIGNING_KEY", True), ("signature", True), ("SESSION_COOKIE", True), ("API_TOKEN_PEPPERS", True),
        ("auth_backend_password", True), ("line 3 multiauth.token", True),
        # By a part of a word, and by words that are not cut where their capitals end
        ("OAUTH", True), ("OAUTH2", True), ("MYAUTH", True), ("AUTHCODE", True), ("AUTHSTRING", True),
        ("PINCODE", True), ("MYPIN", True), ("PINS", True), ("SIGNATURES", True), ("cosignature", True),
        ("SIGNINGSTRING", True), ("SEEDPHRASE", True), ("CERTCHAIN", True), ("SALTED", True), ("AUTHENTICATION", True),
        ("TOKENs", True), ("APIKEYs", True), ("PASSwd", True), ("DBPASSword", True), ("HTTPAuth", True),
        ("SMTPPin", True), ("AUTHORTOKEN", True), ("HOTKEYSECRET", True), ("authorisation", True),
        # Words that only contain such a word
        ("multiauth.policies", False), ("line 3 multiauth.policies", False), ("author", False), ("AUTHORITY", False),
        ("authenticated_group", False), ("design", False), ("SIGNUP_GROUP", False), ("assignee", False),
        ("concert", False), ("certain", False), ("seeder", False), ("spinner", False), ("SHIPPING", False),
        ("keyboard", False), ("keywords", False), ("passive_host", False), ("bypass", False),
        ("multiauth", False), ("coauthors", False), ("unauthorized", False), ("AUTHENTICATED", False),
        ("signals", False), ("SIGNIN_PAGE", False), ("reassigned", False), ("redesign", False), ("spin", False),
        ("uncertain", False), ("OS_KEYSTONE_FILES", False), ("seedlings", False), ("XMLAuthor", False),
        # Settings that choose one of several things
        ("auth_backend", False), ("AUTHENTICATION_BACKENDS", False), ("authType", False), ("auth.policy", False),
        ("auth_type", False), ("authtype", False), ("AUTHBACKENDS", False), ("AUTHType", False),
        ("OAUTH_PROVIDER", False),
        ("TOKEN_TYPE", False), ("KEY_ALGORITHM", False), ("SESSION_COOKIE_SAMESITE", False),
        ("secret_key_class_key", True),
    ],
)  # fmt: skip
def test_plain_word_is_hidden_when_a_word_of_the_name_says_so(name, hidden):
    assert secrets.censor("no account here", {name: "account"}) == f"no {'********' if hidden else 'account'} here"


@pytest.mark.parametrize("value", ["False", "Strict", "disabled"])
def test_choices_that_tell_nothing_are_shown_whatever_the_name(value):
    assert secrets.censor(f"it is {value}", {"COOKIE_SECRET": value}) == f"it is {value}"


def test_what_is_no_plain_word_is_hidden_whatever_the_name():
    assert secrets.censor("x7Gh2kLp", {"multiauth.policies": "x7Gh2kLp"}) == "********"
