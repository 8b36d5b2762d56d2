"""Errors that an app logs where nobody sees them.

Frameworks answer an exception of a view themselves and log it. Django's own configuration in production sends that by
mail to administrators, and there may be none: then the log would only say that a request got status 500.
"""

import logging


class Unseen(logging.StreamHandler):
    """Writes to standard error what no other handler writes to a stream or a file."""

    def filter(self, record):
        logger = logging.getLogger(record.name)
        while logger:
            for handler in logger.handlers:
                writes = isinstance(handler, logging.StreamHandler) and handler is not self
                if writes and record.levelno >= handler.level and handler.filter(record):
                    return False
            logger = logger.parent if logger.propagate else None
        return super().filter(record)


def show():
    """Let errors be seen, when the app is imported and has configured its logging: not if it cares for all of it."""
    if not logging.root.handlers:
        handler = Unseen()
        handler.setLevel(logging.ERROR)
        logging.root.addHandler(handler)
