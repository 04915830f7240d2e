"""The sender: what waits is bounded, all of it is accounted for, and no receiver's answer goes unheard."""

import logging
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from otel_sched.telemetry.counting import ExporterCount
from otel_sched.telemetry.export import answers, metrics, sender
from otel_sched.telemetry.export.answers import TAKEN, Answer, Parcel, Verdict, partial, pause, retry_after
from otel_sched.telemetry.export.limits import Limits
from otel_sched.telemetry.export.metrics import MetricFeed, PointSender
from otel_sched.telemetry.export.pack import Packer
from otel_sched.telemetry.export.sender import Sender
from otel_sched.testing import wait_until_sync
from tests.support.otlp_receiver import OtlpReceiver

ROOT = Path(__file__).parents[3]
PROTOCOLS = ("grpc", "http/protobuf")
LATER = Answer(Verdict.LATER, "away")
REFUSED = Answer(Verdict.REFUSED, "no")


class Stage:
    """A transport that answers as told, and keeps what it took."""

    timeout = 10.0

    def __init__(self) -> None:
        self.answer: Callable[[Sequence[Any]], Answer] = lambda batch: TAKEN
        self.batches: list[list[Any]] = []
        self.taken: list[Any] = []
        self.timeouts: list[float] = []
        self.closed = self.renewed = 0
        self.open = threading.Event()
        self.open.set()

    pieces = None

    def pack(self, batch: Sequence[Any]) -> Parcel:
        good = [item for item in batch if item != "bad"]
        return Parcel(good, len(good), len(batch) - len(good))

    def send(self, parcel: Parcel, timeout: float) -> Answer:
        self.timeouts.append(timeout)
        self.batches.append(list(parcel.data))
        self.open.wait(30.0)
        answer = self.answer(parcel.data)
        if answer.verdict is Verdict.TAKEN:
            self.taken += parcel.data
        return answer

    def renew(self) -> None:
        self.renewed += 1

    def close(self) -> None:
        self.closed += 1


class Scene:
    """A sender on a stage."""

    def __init__(self, waiting: int, batch: int, delay: float) -> None:
        self.stage = Stage()
        self.count = ExporterCount("traces", "stage")
        self.sender = Sender(self.count, self.stage, Limits(waiting, batch, delay))

    def add(self, *items: Any) -> None:
        for item in items:
            self.sender.add(item)

    def flush(self, timeout: float = 10.0) -> bool:
        return self.sender.flush(time.monotonic() + timeout)

    def close(self, timeout: float = 10.0) -> None:
        self.sender.close(time.monotonic() + timeout)

    @property
    def dropped(self) -> dict[str, int]:
        return {reason: number for reason, number in self.count.dropped.items() if number}

    def balanced(self) -> bool:
        return self.count.handed == self.count.exported + self.count.failed + self.sender.waiting


@contextmanager
def scene(waiting: int = 100, batch: int = 10, delay: float = 600.0) -> Iterator[Scene]:
    """Give the block a sender; by default only a full batch or a flush makes it send."""
    made = Scene(waiting, batch, delay)
    try:
        yield made
    finally:
        made.stage.open.set()
        made.close(5.0)
        assert made.balanced()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "SHORTEST_PAUSE", 0.001)
    monkeypatch.setattr(answers, "LONGEST_PAUSE", 0.002)


class TestBuffer:
    """What waits."""

    def test_a_full_batch_leaves_at_once_and_the_rest_on_flush(self) -> None:
        """In order, and in batches of the size asked for."""
        with scene() as play:
            play.add(*range(25))
            wait_until_sync(lambda: len(play.stage.taken) == 20)
            assert play.sender.waiting == 5
            assert play.flush()
            assert play.stage.batches == [list(range(10)), list(range(10, 20)), list(range(20, 25))]

    def test_what_is_not_a_batch_leaves_after_the_delay(self) -> None:
        """Nobody has to ask."""
        with scene(delay=0.01) as play:
            play.add(1)
            wait_until_sync(lambda: play.stage.taken == [1])

    def test_a_full_buffer_refuses_the_newest_and_counts_them(self) -> None:
        """While a receiver keeps the sender waiting, no more is held than the bound and the batch under way."""
        with scene(waiting=20) as play:
            play.stage.open.clear()
            play.add(*range(10))
            wait_until_sync(lambda: len(play.stage.batches) == 1)
            play.add(*range(10, 1000))
            assert play.sender.waiting == 30
            assert play.dropped == {"buffer_full": 970}
            play.stage.open.set()
            assert play.flush()
            assert play.stage.taken == list(range(30))

    def test_many_threads_are_refused_and_each_item_is_counted(self) -> None:
        with scene(waiting=10, batch=10, delay=600.0) as play:
            play.stage.open.clear()

            def add() -> None:
                for _ in range(20_000):
                    play.sender.add("item")

            before = sys.getswitchinterval()
            sys.setswitchinterval(1e-5)
            try:
                threads = [threading.Thread(target=add) for _ in range(4)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
            finally:
                sys.setswitchinterval(before)
            assert play.count.handed == 80_000
            assert play.count.handed - play.count.failed == play.sender.waiting
            play.stage.open.set()

    def test_many_threads_may_add_while_it_sends(self) -> None:
        """Every item is taken once, or counted as dropped."""
        with scene(waiting=200, batch=16) as play:

            def produce(first: int) -> None:
                for item in range(first, first + 5000):
                    play.sender.add(item)

            threads = [threading.Thread(target=produce, args=(number * 5000,)) for number in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert play.flush()
            assert play.count.handed == 20_000
            assert max(Counter(play.stage.taken).values()) == 1
            assert len(play.stage.taken) + play.dropped.get("buffer_full", 0) == 20_000


class TestAnswers:
    """What follows from what the receiver says."""

    def test_a_batch_is_tried_until_it_is_taken(self) -> None:
        """The same batch, and nothing overtakes it."""
        with scene() as play:
            said = [LATER] * 5
            play.stage.answer = lambda batch: said.pop() if said else TAKEN
            play.add(*range(20))
            assert play.flush()
            assert play.stage.batches[:6] == [list(range(10))] * 6
            assert play.stage.taken == list(range(20))

    def test_a_refused_batch_is_counted_and_the_next_one_sent(self) -> None:
        """A receiver that says no for good is not asked again."""
        with scene() as play:
            play.stage.answer = lambda batch: REFUSED if 0 in batch else TAKEN
            play.add(*range(20))
            assert play.flush()
            assert play.dropped == {"refused": 10}
            assert play.stage.taken == list(range(10, 20))

    def test_a_transport_that_raises_costs_its_batch(self, caplog: pytest.LogCaptureFixture) -> None:
        """And says so."""
        with scene() as play:

            def fail(batch: Sequence[Any]) -> Answer:
                raise OSError("broken")

            play.stage.answer = fail
            play.add(1, 2)
            assert play.flush()
            assert play.dropped == {"refused": 2}
            assert "broken" in caplog.text

    def test_partial_success_counts_what_was_rejected(self) -> None:
        """The rest was exported."""
        with scene() as play:
            play.stage.answer = lambda batch: Answer(Verdict.TAKEN, "too old", rejected=3)
            play.add(*range(10))
            assert play.flush()
            assert (play.count.exported, play.dropped) == (7, {"rejected": 3})

    def test_what_cannot_be_encoded_costs_itself_alone(self) -> None:
        """The batch goes without it."""
        with scene() as play:
            play.add(1, "bad", 2)
            assert play.flush()
            assert (play.stage.taken, play.dropped) == ([1, 2], {"encoding": 1})

    def test_a_batch_that_is_too_large_goes_in_parts(self) -> None:
        """Down to the single item, which is refused."""
        with scene() as play:
            play.stage.answer = lambda batch: Answer(Verdict.TOO_LARGE) if len(batch) > 2 or 7 in batch else TAKEN
            play.add(*range(10))
            assert play.flush()
            assert (sorted(play.stage.taken), play.dropped) == ([0, 1, 2, 3, 4, 5, 6, 8, 9], {"refused": 1})

    def test_a_batch_is_given_up_in_the_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It may be the batch that the receiver cannot stand."""
        monkeypatch.setattr(sender, "LONGEST_TRY", 0.05)
        with scene() as play:
            play.stage.answer = lambda batch: LATER if 0 in batch else TAKEN
            play.add(*range(20))
            assert play.flush()
            assert play.dropped == {"gave_up": 10}
            assert play.stage.taken == list(range(10, 20))

    def test_the_receivers_delay_is_kept_even_when_somebody_flushes(self) -> None:
        """It asked for peace; a flush that does not want to wait for so long is told False."""
        with scene() as play:
            said = [Answer(Verdict.LATER, "busy", after=0.5)]
            play.stage.answer = lambda batch: said.pop() if said else TAKEN
            play.add(1)
            begun = time.monotonic()
            assert not play.flush(timeout=0.1)
            assert play.flush()
            assert time.monotonic() - begun >= 0.5
            assert len(play.stage.batches) == 2

    def test_an_outage_is_logged_once_and_so_is_its_end(self, caplog: pytest.LogCaptureFixture) -> None:
        """However many attempts it takes."""
        caplog.set_level(logging.INFO, "otel_sched")
        with scene() as play:
            said = [LATER] * 4
            play.stage.answer = lambda batch: said.pop() if said else TAKEN
            play.add(1)
            assert play.flush()
        assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


class TestEnd:
    """Closing is bounded, whatever the receiver does."""

    def test_close_sends_what_waits_and_refuses_what_comes_later(self) -> None:
        """What comes later is counted too."""
        with scene() as play:
            play.add(1, 2)
            play.close()
            play.add(3)
            assert (play.stage.taken, play.dropped, play.stage.closed) == ([1, 2], {"shutdown": 1}, 1)
            assert play.flush()

    def test_a_stuck_receiver_costs_the_bound_and_what_is_left_is_counted(self) -> None:
        """The batch under way and all that waits."""
        with scene() as play:
            play.stage.open.clear()
            play.add(*range(25))
            begun = time.monotonic()
            play.close(timeout=0.2)
            assert 0.2 <= time.monotonic() - begun < 5.0
            assert play.dropped == {"shutdown": 25}
            assert play.balanced()

    def test_a_batch_that_is_taken_after_all_is_not_called_lost(self) -> None:
        """The answer came too late for the one who waited, not for the books."""
        with scene() as play:
            play.stage.open.clear()
            play.add(*range(10))
            play.close(timeout=0.05)
            assert play.dropped == {"shutdown": 10}
            play.stage.open.set()
            wait_until_sync(lambda: play.count.exported == 10)
            assert play.dropped == {}

    def test_an_away_receiver_is_tried_until_the_bound(self) -> None:
        """No attempt may take longer than what is left."""
        with scene() as play:
            play.stage.answer = lambda batch: LATER
            play.add(1)
            play.close(timeout=0.3)
            assert len(play.stage.batches) > 1
            assert all(timeout <= 0.3 for timeout in play.stage.timeouts[-3:])
            assert play.dropped == {"shutdown": 1}

    def test_a_delay_beyond_the_bound_is_not_waited_for(self) -> None:
        """There is no use in it."""
        with scene() as play:
            play.stage.answer = lambda batch: Answer(Verdict.LATER, "busy", after=60.0)
            play.add(1)
            begun = time.monotonic()
            play.close(timeout=20.0)
            assert time.monotonic() - begun < 10.0
            assert play.dropped == {"shutdown": 1}


class TestFork:
    """A child has its own buffer, thread and counts."""

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_a_child_begins_with_nothing_and_works(self) -> None:
        """Even if the parent was in the middle of an attempt; what waited stays the parent's."""
        with scene() as play:
            play.stage.open.clear()
            play.add(*range(10))
            wait_until_sync(lambda: len(play.stage.batches) == 1)
            play.add("waits")
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    play.stage.open = threading.Event()
                    play.stage.open.set()
                    empty = (play.sender.waiting, play.count.handed) == (0, 0)
                    play.add("child")
                    sent = play.flush(5.0) and play.stage.taken == ["child"] and play.stage.renewed == 1
                    status = 0 if empty and sent and play.balanced() else 1
                finally:
                    os._exit(status)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            play.stage.open.set()
            assert play.flush()
            assert play.stage.taken == [*range(10), "waits"]


class TestParts:
    """The small ones."""

    def test_pauses_grow_and_differ(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Full jitter: anything up to a bound that doubles, up to its own."""
        monkeypatch.undo()
        monkeypatch.setattr(random, "uniform", lambda low, high: high)
        assert [pause(attempt) for attempt in (1, 2, 3, 4, 5, 1000)] == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]

    @pytest.mark.parametrize(
        ("value", "expected"),
        [("7", 7.0), ("1.5", 1.5), ("-3", 0.0), ("nan", None), ("soon", None), ("", None)],
    )
    def test_retry_after_in_seconds(self, value: str, expected: float | None) -> None:
        """What makes no sense is not there."""
        assert retry_after({"retry-after": value}) == expected

    def test_retry_after_as_a_date(self) -> None:
        """One in the past asks for nothing."""
        assert retry_after({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0
        distant = retry_after({"Retry-After": "Wed, 21 Oct 2099 07:28:00 GMT"})
        assert distant is not None
        assert distant > 1e8

    def test_partial_success_never_rejects_more_than_there_was(self) -> None:
        """Or less than nothing."""

        class Said:
            rejected_spans = 99
            error_message = "no"

        class Response:
            partial_success = Said()

        assert partial(Response(), 5) == Answer(Verdict.TAKEN, "no", 5)
        Said.rejected_spans = -1
        assert partial(Response(), 5).rejected == 0

    def test_a_packer_finds_the_one_that_cannot_be_encoded(self) -> None:
        """All others are there, in their order, in however many stretches."""

        def encode(items: Sequence[Any]) -> bytes:
            return bytes(items)

        packed = Packer(encode)([*range(100), 999, *range(100, 200)])
        assert packed == (bytes(range(200)), 200, 1)


PROGRAM = """
import asyncio, multiprocessing, os, sys
from concurrent.futures import ProcessPoolExecutor
import otel_sched
from opentelemetry import trace

telemetry = otel_sched.configure(service_name="shop", endpoint={endpoint!r}, protocol={protocol!r})

def work(number):
    with trace.get_tracer("test").start_as_current_span(f"child {{number}}"):
        pass

if __name__ == "__main__":
    with trace.get_tracer("test").start_as_current_span("parent"):
        pass
    assert asyncio.run(telemetry.flush())
    context = multiprocessing.get_context({method!r})
    if {pool}:
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            list(pool.map(work, range(4)))
    else:
        workers = [context.Process(target=work, args=(number,)) for number in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    with trace.get_tracer("test").start_as_current_span("parent"):
        pass
"""


@pytest.mark.parametrize("pool", [True, False], ids=["pool", "processes"])
@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_worker_processes_export_their_own_and_end(protocol: str, method: str, pool: bool, tmp_path: Path) -> None:
    """They leave without atexit; what they made arrives all the same, each once, and so does the parent's."""
    path = tmp_path / "program.py"
    with OtlpReceiver() as receiver:
        endpoint = receiver.endpoint(protocol)
        path.write_text(PROGRAM.format(endpoint=endpoint, protocol=protocol, method=method, pool=pool), "utf-8")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
        done = subprocess.run(
            [sys.executable, "-W", "ignore::DeprecationWarning", str(path)],
            capture_output=True,
            text=True,
            env={**kept, "PYTHONPATH": str(ROOT)},
            timeout=60.0,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        names = Counter(span.name for span in receiver.spans())
    assert names == {"parent": 2, **{f"child {number}": 1 for number in range(4)}}


def collection(points: int) -> Any:
    """Return what a reader collects, as far as it is counted."""
    data = SimpleNamespace(data_points=[None] * points)
    scope = SimpleNamespace(metrics=[SimpleNamespace(data=data)])
    return SimpleNamespace(resource_metrics=[SimpleNamespace(scope_metrics=[scope])])


class TestMetrics:
    """Collections, whose points are counted."""

    def feed(self, stage: Stage) -> MetricFeed:
        exporter = SimpleNamespace(_preferred_temporality={}, _preferred_aggregation={})
        return MetricFeed(exporter, PointSender(ExporterCount("metrics", "stage"), stage))

    def test_a_reader_does_not_wait_for_a_receiver_that_hangs(self) -> None:
        """The SDK shuts readers down one after another: those after it need their time."""
        stage = Stage()
        stage.open.clear()
        feed = self.feed(stage)
        feed.export(collection(3))
        wait_until_sync(lambda: bool(stage.batches), description="the collection to be sent")
        assert feed.force_flush(30_000)
        feed.shutdown(timeout=30_000)
        assert not feed.sender._done.is_set()
        assert feed.export(collection(2)).name == "SUCCESS"
        assert (feed.sender.count.handed, feed.sender.count.dropped["shutdown"]) == (5, 2)
        stage.open.set()
        feed.sender.close(time.monotonic() + 10.0)

    def test_no_more_points_wait_than_may_but_one_collection_does(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(metrics, "MOST_POINTS", 10)
        stage = Stage()
        stage.open.clear()
        feed = self.feed(stage)
        feed.export(collection(1))
        wait_until_sync(lambda: bool(stage.batches), description="the collection to be sent")
        for points in (100, 1):
            feed.export(collection(points))
        count = feed.sender.count
        assert (count.handed, count.dropped["buffer_full"]) == (102, 1)
        stage.open.set()
        feed.sender.close(time.monotonic() + 10.0)
