"""Errors that an app logs where nobody sees them.

Frameworks answer an exception of a view themselves and log it. Django's own configuration in production sends that by
mail to administrators, and there may be none: then the log would only say that a request got status 500.
"""

import logging

MARK = "emperor_seen"  # of a record that was written here


class Unseen(logging.StreamHandler):
    """Writes to standard error what no other handler writes to a stream or a file, once."""

    def filter(self, record):
        logger = logging.getLogger(record.name)
        while logger:
            for handler in logger.handlers:
                writes = isinstance(handler, logging.StreamHandler) and not isinstance(handler, Unseen)
                if writes and record.levelno >= handler.level and handler.filter(record):
                    return False
            logger = logger.parent if logger.propagate else None
        if hasattr(record, MARK):
            return False
        setattr(record, MARK, True)
        return super().filter(record)


def show():
    """Let errors be seen, when the app is imported and has configured its logging.

    Loggers without handlers are left alone: what they get comes to standard error anyway (`logging.lastResort`).
    """
    shown = Unseen()
    shown.setLevel(logging.ERROR)
    for logger in [logging.root, *logging.root.manager.loggerDict.values()]:
        handlers = getattr(logger, "handlers", ())
        if any(not isinstance(one, logging.NullHandler) for one in handlers):
            logger.addHandler(shown)
