"""The apps of this scenario, each named after its reload mode."""

MODES = ("zerg", "chain", "graceful", "upstream")
