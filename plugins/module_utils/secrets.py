"""What a message may show of a process: everything but the secrets in its environment."""

from __future__ import annotations

import re
from collections.abc import Mapping

# Variables that every app has; their values are no secret and stand in every traceback.
OPEN_VARIABLES = frozenset((
    "PATH", "LANG", "HOME", "USER", "LOGNAME", "VIRTUAL_ENV", "RELEASE_ID", "EMPEROR_APP", "EMPEROR_SERVING",
    "EMPEROR_BACKUP",
))  # fmt: skip
# Names of variables whose value is hidden whatever it is.
SECRET_NAME = re.compile(
    r"SECRET|PASS|PWD|TOKEN|KEY|CREDENTIAL|AUTH|PRIVATE|SALT|SEED|DSN|SIGN|CERT|COOKIE|WEBHOOK|PIN(?:_|$)",
    re.IGNORECASE,
)
# User and password in an address.
CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+@")
# Values that hide nothing: numbers, and plain words, alone or joined as in paths, names of modules, hosts and URLs
# without a password. A digit may only end a word: what no person would read as words may be a secret.
WORD = r"(?:[A-Z]?[a-z]{1,19}|[A-Z]{1,12})[0-9]{0,2}"
START = r"(?:[a-z+]{2,12}:/{1,4}|[/.~]{0,2}/?)?"
ADDRESS = r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}"
OPEN_VALUE = re.compile(rf"-?[0-9.:]+|{START}(?:{ADDRESS}|{WORD})(?:[/._:-]{WORD}|[:/-][0-9]{{1,5}})*/?")


def is_secret(name: str, value: str) -> bool:
    """Whether no message may show the value of a variable. Values shorter than five characters tell nothing."""
    if name.rpartition(" ")[2] in OPEN_VARIABLES or len(value) < 5:
        return False
    return bool(SECRET_NAME.search(name)) or not OPEN_VALUE.fullmatch(value)


def censor(text: str, environment: Mapping[str, str]) -> str:
    """A text without the secrets of an environment."""
    values = [value for name, value in environment.items() if is_secret(name, value)]
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, "********")
    return text
