"""What `queue._queue` shows to whoever peeks at it or changes it, and what the books make of that."""

import asyncio
import copy
import heapq
import pickle
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from otel_sched import LifoQueue, Observer, PriorityQueue, Queue, watch
from otel_sched._core.job import Job
from otel_sched._core.waiting import JobDeque

SILENT = Observer()


def filled(*items: Any) -> Queue[Any]:
    """Return a queue of these items that nobody listens to."""
    queue: Queue[Any] = Queue(name="orders", observer=SILENT)
    for item in items:
        queue.put_nowait(item)
    return queue


def drain(queue: "asyncio.Queue[Any]") -> list[Any]:
    """Take everything out."""
    return [queue.get_nowait() for _ in range(queue.qsize())]


def assert_balanced(queue: Any, *, dropped: int | None = None) -> None:
    """Assert the accounting identity, and that the size in the books is the real one."""
    stats = queue.stats()
    assert stats.put == stats.size + stats.active + stats.finished + stats.dropped
    assert stats.size == queue.qsize()
    if dropped is not None:
        assert stats.dropped == dropped


# The FIFO's own container


def test_a_peeker_sees_plain_items() -> None:
    """Indexing, iteration both ways, membership, search, length, truth and repr show what was put."""
    queue = filled("a", "b", "a")
    peeked = queue._queue
    assert isinstance(peeked, deque)
    assert (peeked[0], peeked[-1], len(peeked), bool(peeked)) == ("a", "a", 3, True)
    assert list(peeked) == ["a", "b", "a"]
    assert list(reversed(peeked)) == ["a", "b", "a"]
    assert "b" in peeked
    assert "z" not in peeked
    assert (peeked.index("a"), peeked.index("a", 1), peeked.index("b", 0, 2)) == (0, 2, 1)
    assert peeked.count("a") == 2
    assert repr(peeked) == "deque(['a', 'b', 'a'])"
    assert peeked.maxlen is None
    assert sorted(peeked) == ["a", "a", "b"]
    assert repr(queue).startswith("<Queue at ")
    assert "_queue=['a', 'b', 'a']" in repr(queue)
    assert_balanced(queue, dropped=0)


def test_a_peeker_that_looks_for_what_is_not_there_gets_deques_errors() -> None:
    """IndexError and ValueError as from a deque, and nothing is counted."""
    queue = filled("a")
    peeked = queue._queue
    with pytest.raises(IndexError):
        peeked[1]
    with pytest.raises(IndexError):
        peeked[1] = "b"
    with pytest.raises(IndexError):
        del peeked[1]
    with pytest.raises(TypeError):
        peeked[0:1]
    with pytest.raises(TypeError):
        peeked[0:1] = ["b"]
    with pytest.raises(TypeError):
        del peeked[0:1]
    with pytest.raises(ValueError, match="not in deque"):
        peeked.remove("z")
    with pytest.raises(ValueError, match="not in deque"):
        peeked.index("z")
    peeked.clear()
    for take in (peeked.pop, peeked.popleft):
        with pytest.raises(IndexError):
            take()
    assert_balanced(queue, dropped=1)
    assert queue.stats().put == 1


def test_a_change_that_fails_is_not_counted() -> None:
    """insert at no index, extend by what is not iterable or breaks half way: what got in counts, nothing else."""
    queue = filled("a")
    peeked = queue._queue

    def broken() -> Any:
        yield "b"
        raise LookupError("half way")

    with pytest.raises(TypeError):
        peeked.insert("first", "z")
    with pytest.raises(TypeError):
        peeked.extend(None)
    for extend in (peeked.extend, peeked.extendleft, peeked.__iadd__):
        with pytest.raises(LookupError):
            extend(broken())
    assert_balanced(queue)
    assert queue.stats().put == queue.qsize()


def test_comparisons_and_sums_are_those_of_the_items() -> None:
    """==, !=, <, + either way round, *: with deques of items, and with another queue's container."""
    peeked = filled(1, 2)._queue
    assert peeked == deque([1, 2])
    assert deque([1, 2]) == peeked
    assert peeked != deque([2, 1])
    assert deque([2, 1]) != peeked
    assert peeked == filled(1, 2)._queue
    assert peeked < deque([1, 3])
    assert peeked >= deque([1, 2])
    assert peeked != [1, 2]
    assert peeked + deque([3]) == deque([1, 2, 3])
    assert deque([0]) + peeked == deque([0, 1, 2])
    assert peeked * 2 == deque([1, 2, 1, 2])
    assert 2 * peeked == deque([1, 2, 1, 2])
    with pytest.raises(TypeError):
        hash(peeked)


@pytest.mark.parametrize(
    "copied",
    [
        copy.copy,
        copy.deepcopy,
        lambda peeked: peeked.copy(),
        lambda peeked: pickle.loads(pickle.dumps(peeked)),
        lambda peeked: pickle.loads(pickle.dumps(peeked, protocol=0)),
    ],
    ids=["copy.copy", "copy.deepcopy", "copy()", "pickle", "pickle 0"],
)
def test_a_copy_is_a_plain_deque_of_the_items(copied: Callable[[Any], Any]) -> None:
    """It is nobody's queue: changing it changes no count."""
    queue = filled([1], [2])
    twin = copied(queue._queue)
    assert type(twin) is deque
    assert twin == deque([[1], [2]])
    twin.clear()
    assert_balanced(queue, dropped=0)
    assert queue.qsize() == 2


def test_a_deep_copy_copies_the_items() -> None:
    """copy.deepcopy gives items of its own, copy.copy the same ones."""
    item: list[int] = []
    peeked = filled(item)._queue
    assert copy.copy(peeked)[0] is item
    assert copy.deepcopy(peeked)[0] is not item


@pytest.mark.parametrize(
    ("change", "left", "put", "dropped"),
    [
        (lambda d: d.append("x"), "abcx", 4, 0),
        (lambda d: d.appendleft("x"), "xabc", 4, 0),
        (lambda d: d.extend("xy"), "abcxy", 5, 0),
        (lambda d: d.extend(d), "abcabc", 6, 0),
        (lambda d: d.extendleft("xy"), "yxabc", 5, 0),
        (lambda d: d.extendleft(d), "cbaabc", 6, 0),
        (lambda d: d.__iadd__("xy"), "abcxy", 5, 0),
        (lambda d: d.__imul__(2), "abcabc", 6, 0),
        (lambda d: d.__imul__(0), "", 3, 3),
        (lambda d: d.insert(1, "x"), "axbc", 4, 0),
        (lambda d: d.insert(-99, "x"), "xabc", 4, 0),
        (lambda d: d.pop(), "ab", 3, 1),
        (lambda d: d.popleft(), "bc", 3, 1),
        (lambda d: d.remove("b"), "ac", 3, 1),
        (lambda d: d.__delitem__(0), "bc", 3, 1),
        (lambda d: d.__delitem__(-1), "ab", 3, 1),
        (lambda d: d.__setitem__(1, "x"), "axc", 4, 1),
        (lambda d: d.clear(), "", 3, 3),
        (lambda d: d.rotate(1), "cab", 3, 0),
        (lambda d: d.reverse(), "cba", 3, 0),
    ],
)
def test_a_change_from_outside_is_noticed(change: Callable[[Any], Any], left: str, put: int, dropped: int) -> None:
    """What comes in becomes a job, what goes counts as dropped, and get() gives what a deque would hold."""
    queue = filled(*"abc")
    change(queue._queue)
    assert list(queue._queue) == list(left)
    assert queue.stats().put == put
    assert_balanced(queue, dropped=dropped)
    assert drain(queue) == list(left)
    assert_balanced(queue, dropped=dropped)


def test_in_place_operators_keep_the_queues_own_container() -> None:
    """`queue._queue += [...]` and `*=` assign what they return: the same container, counted once."""
    queue = filled("a")
    before: Any = queue._queue
    queue._queue += ["b"]
    assert queue._queue is before
    assert queue.stats().put == 2
    assert_balanced(queue, dropped=0)
    assert drain(queue) == ["a", "b"]
    queue = filled("a")
    before = queue._queue
    before *= 3
    assert before is queue._queue
    assert queue.stats().put == 3
    assert_balanced(queue, dropped=0)


def test_a_container_that_is_replaced_takes_its_items_along() -> None:
    """`queue._queue = ...`: the old items are dropped, the new ones are jobs, and the queue works on."""
    queue = filled(3, 1, 2)
    queue._queue = deque(sorted(queue._queue))
    assert isinstance(queue._queue, JobDeque)
    assert_balanced(queue, dropped=3)
    assert drain(queue) == [1, 2, 3]
    queue._queue = (each for each in "xy")
    assert drain(queue) == ["x", "y"]
    assert_balanced(queue, dropped=3)


def test_a_container_that_cannot_be_one_is_refused_whole() -> None:
    """What is not iterable, or breaks half way, leaves the queue as it was."""
    queue = filled("a", "b")

    def broken() -> Any:
        yield "x"
        raise LookupError("half way")

    with pytest.raises(TypeError):
        queue._queue = None
    with pytest.raises(LookupError):
        queue._queue = broken()
    assert_balanced(queue, dropped=0)
    assert drain(queue) == ["a", "b"]


def test_nothing_dropped_makes_no_series_of_dropped() -> None:
    """Clearing what is empty, as some programs do to be sure, counts nothing at all."""
    queue = filled()
    queue._queue.clear()
    queue._queue = deque()
    assert queue.ledger.snapshot().dropped == {}


def test_items_without_equality_can_be_looked_for() -> None:
    """`in` finds an item by identity first, as a deque does."""

    class Odd:
        def __eq__(self, other: object) -> bool:
            return False

        __hash__ = None  # type: ignore[assignment]

    odd = Odd()
    assert odd in filled(odd)._queue
    assert Odd() not in filled(odd)._queue


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["put", "append", "appendleft"]), st.integers(0, 3)),
            st.tuples(st.sampled_from(["extend", "extendleft", "replace"]), st.lists(st.integers(0, 3), max_size=4)),
            st.tuples(st.sampled_from(["insert", "set"]), st.tuples(st.integers(-5, 5), st.integers(0, 3))),
            st.tuples(st.sampled_from(["remove", "delete", "rotate", "times"]), st.integers(-3, 3)),
            st.tuples(st.sampled_from(["get", "pop", "popleft", "clear", "reverse"]), st.none()),
        ),
        max_size=40,
    )
)
@settings(max_examples=200, deadline=None)
def test_any_program_sees_a_deque(program: list[tuple[str, Any]]) -> None:
    """Side by side with a plain deque: the same contents, the same errors, and books that balance at every step."""
    queue, model = filled(), deque[Any]()
    for verb, argument in program:
        errors = [on_queue(queue, verb, argument), on_deque(model, verb, argument)]
        assert errors[0] == errors[1], verb
        assert queue._queue == model
        assert list(queue._queue) == list(model)
        assert_balanced(queue)
    assert drain(queue) == list(model)


def on_queue(queue: Queue[Any], verb: str, argument: Any) -> Any:
    """Do one step of a program to a queue; return what it gave or the type of what it raised."""
    if verb == "put":
        return queue.put_nowait(argument)
    if verb == "get":
        return outcome(queue.get_nowait) if queue.qsize() else None
    if verb == "replace":
        queue._queue = deque(argument)
        return None
    return on_deque(queue._queue, verb, argument)


def on_deque(model: Any, verb: str, argument: Any) -> Any:
    """Do one step of a program to a deque, likewise."""
    if verb == "get":
        return model.popleft() if model else None
    if verb == "replace":
        model.clear()
        return model.extend(argument)
    steps: dict[str, Callable[[], Any]] = {
        "put": lambda: model.append(argument),
        "set": lambda: model.__setitem__(*argument),
        "insert": lambda: model.insert(*argument),
        "delete": lambda: model.__delitem__(argument),
        "times": lambda: len(model.__imul__(argument)) if len(model) < 50 else None,
    }
    if verb in steps:
        return outcome(steps[verb])
    method = getattr(model, verb)
    return outcome(method if argument is None else lambda: method(argument))


def outcome(call: Callable[[], Any]) -> Any:
    """Return what *call* returns, or the type of its exception."""
    try:
        return call()
    except (IndexError, ValueError) as error:
        return type(error)


# Containers that are not ours


class Listed(asyncio.Queue[Any]):
    """A queue over a list, newest first out of the middle: an order of its own."""

    def _init(self, maxsize: int) -> None:
        self._queue: Any = []

    def _put(self, item: Any) -> None:
        self._queue.append(item)

    def _get(self) -> Any:
        return self._queue.pop(len(self._queue) // 2)


class Unique(asyncio.Queue[Any]):
    """The well-known queue over a set: an item that waits already is not put a second time."""

    def _init(self, maxsize: int) -> None:
        self._queue: Any = set()

    def _put(self, item: Any) -> None:
        self._queue.add(item)

    def _get(self) -> Any:
        return self._queue.pop()


class Latest(asyncio.Queue[Any]):
    """A queue over a dict: a new item replaces the one of its key."""

    def _init(self, maxsize: int) -> None:
        self._queue: Any = {}

    def _put(self, item: Any) -> None:
        self._queue[item[0]] = item

    def _get(self) -> Any:
        return self._queue.pop(next(iter(self._queue)))


def sidecars() -> list[Any]:
    """Return one queue of each kind that a sidecar stands beside."""
    return [
        PriorityQueue(name="p", observer=SILENT),
        LifoQueue(name="l", observer=SILENT),
        watch(asyncio.Queue[Any](), name="f", observer=SILENT),
        watch(asyncio.PriorityQueue[Any](), name="wp", observer=SILENT),
        watch(asyncio.LifoQueue[Any](), name="wl", observer=SILENT),
        watch(Listed(), name="listed", observer=SILENT),
    ]


def plain_twin(queue: Any) -> "asyncio.Queue[Any]":
    """Return an unobserved queue of the same kind."""
    for kind in (Listed, asyncio.PriorityQueue, asyncio.LifoQueue):
        if isinstance(queue, kind):
            return kind()
    return asyncio.Queue()


@given(st.lists(st.one_of(st.integers(0, 3), st.none()), max_size=60))
@settings(max_examples=100, deadline=None)
def test_any_program_of_puts_and_gets_is_that_of_the_plain_queue(program: list[int | None]) -> None:
    """Duplicates included: the same items in the same order, each item with a job of its own."""
    for queue in sidecars():
        twin = plain_twin(queue)
        for item in program:
            if item is not None:
                queue.put_nowait(item)
                twin.put_nowait(item)
            elif twin.qsize():
                assert queue.get_nowait() == twin.get_nowait()
            assert list(queue._queue) == list(twin._queue)  # type: ignore[attr-defined]
            assert_balanced(queue, dropped=0)
        assert drain(queue) == drain(twin)
        assert len(queue._otel_waiting) == 0


class Ticket:
    """An item that is equal to others and ordered among them, and still itself."""

    def __init__(self, priority: int) -> None:
        self.priority = priority

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ticket) and self.priority == other.priority

    def __lt__(self, other: "Ticket") -> bool:
        return self.priority < other.priority

    __hash__ = None  # type: ignore[assignment]


def taken_now(queue: Any) -> Job[Any]:
    """Take the next job itself."""
    job: Job[Any] = queue._otel_take_nowait()
    return job


def test_equal_items_that_are_not_the_same_keep_their_own_jobs() -> None:
    """Unhashable, equal, distinct: each comes out with the job it was put with, ties as in asyncio."""
    for queue in sidecars():
        twin = plain_twin(queue)
        tickets = [Ticket(each % 2) for each in range(8)]
        put_at = {}
        for at, ticket in enumerate(tickets):
            queue.put_nowait(ticket)
            twin.put_nowait(ticket)
            job = queue._otel_waiting._jobs[id(ticket)]
            job.put_at = put_at[id(ticket)] = float(at)
        for _ in tickets:
            job = taken_now(queue)
            assert job.item is twin.get_nowait()
            assert job.put_at == put_at[id(job.item)]
        assert len(queue._otel_waiting) == 0


def test_the_same_object_put_twice_is_two_jobs_in_the_order_of_their_puts() -> None:
    """One object, three times in the queue; also among others."""
    for queue in sidecars():
        same, other = Ticket(1), Ticket(1)
        for at, item in enumerate((same, other, same, same)):
            queue.put_nowait(item)
            entry = queue._otel_waiting._jobs[id(item)]
            (entry[-1] if isinstance(entry, deque) else entry).put_at = float(at)
        out = [taken_now(queue) for _ in range(4)]
        assert [job.put_at for job in out if job.item is same] == [0.0, 2.0, 3.0]
        assert [job.put_at for job in out if job.item is other] == [1.0]


def test_what_cannot_be_compared_is_refused_and_not_counted() -> None:
    """A heap that raises TypeError in put_nowait: the item is counted as no job, and the queue works on."""
    queues: list[Any] = [PriorityQueue(name="p", observer=SILENT)]
    queues.append(watch(asyncio.PriorityQueue[Any](), name="wp", observer=SILENT))
    for queue in queues:
        queue.put_nowait((1, "a"))
        with pytest.raises(TypeError):
            queue.put_nowait((1, {}))
        twin: asyncio.PriorityQueue[Any] = asyncio.PriorityQueue()
        twin.put_nowait((1, "a"))
        with pytest.raises(TypeError):
            twin.put_nowait((1, {}))
        assert queue._queue == twin._queue  # type: ignore[attr-defined]  # asyncio's heap keeps the item all the same
        assert queue.get_nowait() == (1, "a")
        drain(queue)
        stats = queue.stats()
        assert stats.size == 0
        assert stats.put == stats.size + stats.active + stats.finished + stats.dropped


def test_what_was_removed_behind_its_back_is_noticed_at_the_next_get() -> None:
    """Cleared, popped, replaced or added to: after the next get() the books are right again."""
    for queue in sidecars():
        if not hasattr(queue._queue, "sort"):
            continue  # a heap or a list: what programs really reach into
        for item in range(6):
            queue.put_nowait(item)
        queue._queue.remove(3)
        queue._queue.remove(4)
        heapq.heapify(queue._queue)
        queue.get_nowait()
        assert_balanced(queue, dropped=2)
        queue._queue.clear()
        queue.put_nowait(9)
        assert queue.get_nowait() == 9
        assert_balanced(queue, dropped=5)


def test_what_was_added_behind_its_back_becomes_a_job_when_it_comes_out() -> None:
    """An item that nobody put: counted as put when it is got."""
    for queue in sidecars():
        queue._queue.append("x")
        assert queue.get_nowait() == "x"
        assert queue.stats().put == queue.stats().taken == 1
        assert_balanced(queue, dropped=0)


def test_an_item_exchanged_for_another_takes_the_oldest_job_without_its_link() -> None:
    """A container that gives out other objects than it was given: a wrong link would be worse than none."""

    class Copies(asyncio.Queue[Any]):
        def _get(self) -> Any:
            return list(super()._get())

    queue = watch(Copies(), name="copies", observer=SILENT)
    for item in ([1], [2]):
        queue.put_nowait(item)
        queue._otel_waiting._jobs[id(item)].trace = "its producer"  # type: ignore[attr-defined]
    job = taken_now(queue)
    assert (job.item, job.trace) == ([1], None)
    assert queue.get_nowait() == [2]
    assert len(queue._otel_waiting) == 0  # type: ignore[attr-defined]


def test_a_set_that_swallows_a_duplicate_drops_its_job() -> None:
    """A queue over a set: what it did not keep is dropped as soon as that shows, and all that it gives is taken."""
    queue = watch(Unique(), name="unique", observer=SILENT)
    for item in ("a", "b", "a", "a"):
        queue.put_nowait(item)
    assert sorted(drain(queue)) == ["a", "b"]
    stats = queue.stats()
    assert (stats.put, stats.taken, stats.size, stats.dropped) == (4, 2, 0, 2)


def test_a_dict_that_replaces_an_item_drops_the_older_ones_job() -> None:
    """A queue over a dict: the walk over its container gives keys, the books still come out even."""
    queue = watch(Latest(), name="latest", observer=SILENT)
    first, second, third = ("k", 1), ("k", 2), ("other", 3)
    for item in (first, second, third):
        queue.put_nowait(item)
    assert drain(queue) == [second, third]
    stats = queue.stats()
    assert stats.size == 0
    assert stats.put == stats.taken + stats.dropped


def test_a_container_that_cannot_be_walked_or_measured_works() -> None:
    """Neither len() nor iteration: puts and gets are counted, nothing is ever resynchronised."""

    class Opaque:
        def __init__(self) -> None:
            self.items: deque[Any] = deque()

    class Hidden(asyncio.Queue[Any]):
        def _init(self, maxsize: int) -> None:
            self._queue: Any = Opaque()

        def _put(self, item: Any) -> None:
            self._queue.items.append(item)

        def _get(self) -> Any:
            return self._queue.items.popleft()

        def qsize(self) -> int:
            return len(self._queue.items)

        def empty(self) -> bool:
            return not self._queue.items

    queue = watch(Hidden(), name="hidden", observer=SILENT)
    for item in range(3):
        queue.put_nowait(item)
    queue._queue.items.popleft()  # type: ignore[attr-defined]
    assert drain(queue) == [1, 2]
    assert queue.stats().taken == 2


class SidecarMachine(RuleBasedStateMachine):
    """A heap under puts, gets and hands that reach into it: books that balance as soon as they can know."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: Any = PriorityQueue(name="p", observer=SILENT)
        self.clean = True

    @rule(item=st.integers(0, 5))
    def put(self, item: int) -> None:
        self.queue.put_nowait(item)

    @rule()
    def get(self) -> None:
        if self.queue.qsize():
            smallest = min(self.queue._queue)
            assert self.queue.get_nowait() == smallest
            self.clean = self.queue.ledger.snapshot().size == self.queue.qsize()

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        if self.queue._queue:
            self.queue._queue.remove(data.draw(st.sampled_from(self.queue._queue)))
            heapq.heapify(self.queue._queue)
            self.clean = False

    @rule(item=st.integers(0, 5))
    def add(self, item: int) -> None:
        heapq.heappush(self.queue._queue, item)
        self.clean = False

    @rule()
    def clear(self) -> None:
        self.queue._queue.clear()
        self.clean = False

    @invariant()
    def balances(self) -> None:
        stats = self.queue.stats()
        assert stats.put == stats.size + stats.active + stats.finished + stats.dropped
        assert stats.size >= 0
        if self.clean:
            assert stats.size == self.queue.qsize()

    def teardown(self) -> None:
        while self.queue.qsize():
            self.queue.get_nowait()
        stats = self.queue.stats()
        assert stats.put == stats.size + stats.taken + stats.dropped


SidecarMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
test_hands_that_reach_into_a_heap_leave_the_books_even = SidecarMachine.TestCase
