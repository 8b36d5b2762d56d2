"""What a message may show of a process: everything but the secrets in its environment."""

from __future__ import annotations

import re
from collections.abc import Mapping

# Variables that every app has; their values are no secret and stand in every traceback.
OPEN_VARIABLES = frozenset((
    "PATH", "LANG", "HOME", "USER", "LOGNAME", "VIRTUAL_ENV", "RELEASE_ID", "EMPEROR_APP", "EMPEROR_SERVING",
    "EMPEROR_BACKUP",
))  # fmt: skip
# Parts of a word in the name of a variable or a setting that make its value a secret, however plain it is, wherever
# they stand in it (APIKEY, dbpassword, OAUTH).
SECRET_PART = re.compile(
    r"SECRET|PASS|PWD|TOKEN|KEY|CREDENTIAL|PRIVATE|DSN|COOKIE|WEBHOOK|PEPPER|SALT|SEED|CERT|SIGN|AUTH"
    r"|PIN(?:S|CODES?|NUMBERS?)?$"
)
# A word behind such a word that says that the value only chooses something: `auth_backend`, `token_type`.
CHOICE = re.compile(
    r"(?:BACKEND|TYPE|METHOD|CLASS|PROVIDER|ALGORITHM|MODULE|PLUGIN|SCHEME)(?:S|ES)?|POLICY|POLICIES|MODE|SAMESITE|SECURE|HTTPONLY"
    r"|ENABLED?|REQUIRED"
)
# Usual words that only contain such a part. What is left of a word without them is looked at (AUTHORTOKEN).
HARMLESS = re.compile(
    r"AUTHOR(?!I[SZ]ATION)|AUTHENTIC(?!ATION)"
    r"|^(?:KEYWORD|KEYBOARD|KEYSPACE|KEYSTONE|KEYNOTE|KEYMAP|HOTKEY|MONKEY|TURKEY|HOCKEY|DONKEY|WHISKEY|BYPASS|PASSIVE|PASSENGER|PASSTHROUGH|CONCERT|SEED(?:ER|ING|LING)|BASALT"
    r"|(?:RE)?DESIGN|(?:RE|UN)?ASSIGN|RESIGN|CONSIGN|SIGN(?:UP|IN(?!G)|OUT|OFF|ON|AL|IFIC)|(?:UN)?CERTAIN)"
    rf"|^(?:UN|S)PIN$|^MULTIAUTH$|^AUTH(?:{CHOICE.pattern})$"
)
# Words by their capitals, twice, as the end of capitals may belong to them: HTTPAuth, but TOKENs and PASSwd.
WORDS = (re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+"), re.compile(r"[A-Z]+[a-z]*|[a-z]+"))
# Values that say nothing, whatever the name: what settings of a few choices have.
PLAIN = frozenset(("false", "strict", "never", "always", "enabled", "disabled", "default", "required", "optional"))
# User and password in an address.
CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+@")
# Values that hide nothing: numbers, and plain words, alone or joined as in paths, names of modules, hosts and URLs
# without a password. A digit may only end a word: what no person would read as words may be a secret.
WORD = r"(?:[A-Z]?[a-z]{1,19}|[A-Z]{1,12})[0-9]{0,2}"
START = r"(?:[a-z+]{2,12}:/{1,4}|[/.~]{0,2}/?)?"
ADDRESS = r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}"
OPEN_VALUE = re.compile(rf"-?[0-9.:]+|{START}(?:{ADDRESS}|{WORD})(?:[/._:-]{WORD}|[:/-][0-9]{{1,5}})*/?")


def names_secret(name: str) -> bool:
    """Whether the name of a variable says that its value is a secret. In doubt it does."""
    for pattern in WORDS:
        words = [word.upper() for word in pattern.findall(name)]
        for word, behind in zip(words, [*words[1:], ""]):
            if SECRET_PART.search(HARMLESS.sub(" ", word)) and not CHOICE.fullmatch(behind):
                return True
    return False


def is_secret(name: str, value: str) -> bool:
    """Whether no message may show the value of a variable. Values shorter than five characters tell nothing."""
    if name.rpartition(" ")[2] in OPEN_VARIABLES or len(value) < 5 or value.lower() in PLAIN:
        return False
    return names_secret(name) or not OPEN_VALUE.fullmatch(value)


def censor(text: str, environment: Mapping[str, str]) -> str:
    """A text without the secrets of an environment."""
    values = [value for name, value in environment.items() if is_secret(name, value)]
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, "********")
    return text
