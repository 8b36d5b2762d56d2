"""How long the engine of the module `vassal` waits, and how often it looks. In one place, for tests to change."""

import time

SOON, PAUSE = 0.03, 0.1  # seconds between two looks: at first, and later
PATIENCE = 2  # seconds for the first answer of an app that starts
# A stopping instance without a running request hangs after so many seconds: nothing is lost by killing it.
HANGS = 5
AGAIN = 2  # seconds after which a stopping worker gets its signal again
DEATHS = 3  # so often may a worker die while it loads the app before it counts as hopeless
SILENCES = 4  # so often, for a second each, may its master not answer for the same reason before a worker accepts
EMPEROR = 15  # seconds after its requests within which the Emperor has noticed, stopped and buried a vassal


def pause(began: float) -> None:
    """Wait until the next look. Most waiting is over soon, so the looks are close together at first.

    :param began: when the waiting began, see time.monotonic().
    """
    time.sleep(min(PAUSE, max(SOON, (time.monotonic() - began) / 10)))
