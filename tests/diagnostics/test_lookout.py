"""What the second look at a blocked loop adds to the first."""

import asyncio
import threading

import pytest

from otel_sched._core.clock import monotonic
from otel_sched._core.finding import Reporter
from otel_sched.diagnostics.blame import Evidence
from otel_sched.diagnostics.culprit import look
from otel_sched.diagnostics.heartbeat import Heartbeat
from otel_sched.diagnostics.lookout import Block, Lookout
from otel_sched.diagnostics.telling import Telling


@pytest.mark.parametrize(("before", "waits"), [(1.0, True), (0.99, False)])
def test_what_got_nothing_done_between_the_looks_waits(
    monkeypatch: pytest.MonkeyPatch, before: float, waits: bool
) -> None:
    """Whatever it had computed before: a client sets up TLS, then waits for the answer."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        heart = Heartbeat(loop, None, 0.05, 0.1)
        heart.thread = threading.get_ident()
        lookout = Lookout(heart, Telling(Reporter()))
        monkeypatch.setattr(heart, "processor", lambda: 1.0)
        step = look(loop, heart.thread, 0)
        evidence = Evidence(blocked=0.2, step=step, working=0.1)
        lookout._confirm(Block(0, monotonic(), before, evidence), loop)
        assert evidence.waits is waits
        heart.stop()

    asyncio.run(main())
