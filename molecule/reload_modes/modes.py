"""The apps of this scenario, each named after its reload mode, and what their visitors notice."""

MODES = ("zerg", "chain", "graceful", "upstream")


def noticed(report):
    """The failures that a browser would show to its user.

    nginx closes kept connections when it reloads. Who wrote a request at that very moment has no answer, and asks again
    on a new connection if that can do no harm (RFC 9112, 9.3.1).
    """
    return [
        failure
        for failure in report.failures
        if not (
            failure.idempotent
            and failure.reason.endswith("(kept connection)")
            and "disconnected without sending a response" in failure.reason
        )
    ]
