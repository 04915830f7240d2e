"""Floor 5: whether log lines want their job's fields: jobs are then worth following even without an SDK."""

correlating = False
"""True once anybody asked for correlation."""


def correlate() -> None:
    """Say that log lines are to carry their job's fields."""
    global correlating
    correlating = True
