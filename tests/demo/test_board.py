"""The tables of the demo's view say what the queues' own stats say."""

import asyncio

from otel_sched import Queue
from otel_sched.demo.board import Board
from otel_sched.demo.lines import plain
from otel_sched.demo.recorder import Recorder


class Time:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_rates_are_those_of_the_last_two_seconds() -> None:
    """Ten jobs in and four out over two seconds are 5.0 and 2.0 a second; what came before does not count."""
    clock = Time()
    queue: Queue[int] = Queue(name="orders", clock=clock)
    board = Board([queue], Recorder(), clock)
    for n in range(100):
        queue.put_nowait(n)
    board.sample()
    clock.now += 1.0
    board.sample()
    for n in range(10):
        queue.put_nowait(n)
    for _ in range(4):
        queue.get_nowait()
        queue.task_done()
    clock.now += 2.0
    board.sample()

    row = next(plain(line) for line in board.lines() if plain(line).startswith("orders"))
    assert row.split() == ["orders", "106", "3.00", "s", "5.0", "2.0", "-", "-", "-", "-", "-", "-"]
    assert board.open_jobs == 106
    assert board.peaks == {"orders": {"size": 106, "oldest_age": 3.0}}
    assert plain(board.backlog()[0]) == "longest backlog: orders 106 (3.00 s)"


def test_endings_and_blocked_producers_are_shown() -> None:
    """How jobs ended, who cancelled them, and who waits for room, each in its column."""

    async def main() -> list[str]:
        queue: Queue[int] = Queue(1, name="orders")
        queue.put_nowait(1)
        blocked = asyncio.create_task(queue.put(2))
        await asyncio.sleep(0)
        board = Board([queue], Recorder())
        board.sample()
        before = [plain(line) for line in board.lines()]
        queue.shutdown(immediate=True)
        await asyncio.gather(blocked, return_exceptions=True)
        board.sample()
        return [*before, *(plain(line) for line in board.lines())]

    lines = asyncio.run(main())

    rows = [line.split() for line in lines if line.startswith("orders")]
    assert rows[1] == ["orders", "0", "0", "0", "0", "0", "0", "1"]
    assert rows[3] == ["orders", "0", "0", "0", "1", "0", "0", "0"]
    assert "cancelled: 1 orders queued (shutdown)" in lines
    assert max(len(line) for line in lines) <= 80
