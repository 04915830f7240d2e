"""Event loops for tests that only ask them questions."""

import asyncio


class Still(asyncio.SelectorEventLoop):
    """Says that it runs, or does not, and never turns."""

    runs = False

    def is_running(self) -> bool:
        return self.runs

    def close(self) -> None:
        self.runs = False
        super().close()


def running() -> Still:
    """Return an event loop that seems to run; close it."""
    loop = Still()
    loop.runs = True
    return loop
