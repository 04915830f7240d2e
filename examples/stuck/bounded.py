"""What the five failures share: a command line, and an end, which is what they would not come to by themselves."""

import argparse
import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable, Coroutine
from typing import Any

LIMIT = 20.0
"""Seconds after which a program is ended, whatever was said."""
LAST_WORDS = 1.5
"""Seconds from the first finding to the end: more may follow."""


def run(main: Callable[[bool], Coroutine[Any, Any, None]]) -> None:
    """Run `main(cured)`, with `--cured` or without; end it some time after diagnostics have spoken."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cured", action="store_true", help="run without the mistake")
    parser.add_argument("--uvloop", action="store_true", help="run on uvloop")
    options = parser.parse_args()
    logging.basicConfig(format="%(levelname)s:%(name)s:%(message)s", level="WARNING", stream=sys.stdout)
    factory = None
    if options.uvloop:
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner, contextlib.suppress(asyncio.CancelledError):
        runner.get_loop().call_soon(_bound, runner.get_loop())
        runner.run(main(options.cured))


def _bound(loop: asyncio.AbstractEventLoop) -> None:
    (main,) = asyncio.all_tasks(loop)
    loop.call_later(LIMIT, main.cancel)
    ending = _Ending(lambda: loop.call_soon_threadsafe(loop.call_later, LAST_WORDS, main.cancel))
    logging.getLogger("otel_sched").addHandler(ending)


class _Ending(logging.Handler):
    """Calls a function when a warning is logged."""

    def __init__(self, function: Callable[[], Any]) -> None:
        super().__init__(logging.WARNING)
        self._function = function

    def emit(self, record: logging.LogRecord) -> None:
        self._function()
