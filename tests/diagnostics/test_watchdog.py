"""The watchdog's thread: it looks when it was asked to, minds nobody's failures, and is there only while needed."""

import gc
import os
import threading
import weakref
from collections.abc import Iterator

import pytest

from otel_sched._core.clock import monotonic
from otel_sched.diagnostics import alarm
from otel_sched.diagnostics import watchdog as module
from otel_sched.diagnostics.alarm import Alarm, Sleep, new_alarm
from otel_sched.diagnostics.watchdog import MOST_FAILURES, Watchdog
from otel_sched.testing import wait_until_sync


class Patient:
    """Asks to be looked at again after a while, so many times."""

    def __init__(self, times: int, pause: float = 0.01) -> None:
        self.left = times
        self.pause = pause
        self.looks: list[float] = []

    def look(self, now: float) -> float | None:
        self.looks.append(now)
        self.left -= 1
        return now + self.pause if self.left > 0 else None


class Sick(Patient):
    """Raises when it is looked at, so many times; then it is well."""

    def __init__(self, times: int, error: BaseException) -> None:
        super().__init__(times + 1)
        self.error = error

    def look(self, now: float) -> float | None:
        wanted = super().look(now)
        if self.left > 0:
            raise self.error
        return wanted


def test_it_looks_when_it_was_asked_to_and_ends_with_the_last() -> None:
    """Not earlier than asked, and a new thread begins with the next one."""
    watchdog = Watchdog()
    for _ in range(2):
        patient = Patient(3, pause=0.02)
        watchdog.adopt(patient)
        wait_until_sync(lambda: watchdog._thread is None, description="the thread to end")
        assert len(patient.looks) == 3
        assert all(later - earlier >= 0.019 for earlier, later in zip(patient.looks, patient.looks[1:], strict=False))


def test_it_is_woken_up_before_its_time() -> None:
    """By whoever has news, and by a newcomer."""
    watchdog = Watchdog()
    patient = Patient(2, pause=60.0)
    watchdog.adopt(patient)
    wait_until_sync(lambda: patient.looks, description="the first look")
    began = monotonic()
    watchdog.wake()
    wait_until_sync(lambda: watchdog._thread is None, description="the thread to end")
    assert monotonic() - began < 30.0


@pytest.mark.parametrize("error", [ZeroDivisionError(), SystemExit()])
@pytest.mark.parametrize(("times", "looks"), [(1, 2), (MOST_FAILURES - 1, MOST_FAILURES), (99, MOST_FAILURES)])
def test_one_that_fails_is_looked_at_again_and_dropped_in_the_end(
    error: BaseException, times: int, looks: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a line in the log for each; the others are looked at meanwhile, and the thread lives."""
    monkeypatch.setattr(module, "AFTER_FAILURE", 0.0)
    watchdog, sick, patient = Watchdog(), Sick(times, error), Patient(3)
    watchdog.adopt(sick)
    watchdog.adopt(patient)
    wait_until_sync(lambda: watchdog._thread is None, description="the thread to end")
    assert (len(sick.looks), len(patient.looks)) == (looks, 3)
    assert "failed; it is looked at again" in caplog.text
    assert ("is not watched any more" in caplog.text) == (times == 99)


def test_where_no_thread_is_to_be_had_the_next_one_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise nothing would ever be watched, and nobody would know."""
    watchdog, patients = Watchdog(), [Patient(2), Patient(2)]

    def fails(_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fails)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            watchdog.adopt(patients[0])
    watchdog.adopt(patients[1])
    wait_until_sync(lambda: watchdog._thread is None, description="the thread to end")
    assert [len(each.looks) for each in patients] == [2, 2]


@pytest.mark.skipif(new_alarm() is None, reason="there are no such files here")
def test_it_goes_on_where_somebody_has_closed_its_files() -> None:
    """As daemons do, of all that the process has."""
    watchdog, patient = Watchdog(), Patient(3)
    watchdog.sleep._epoll.close()
    watchdog.adopt(patient)
    wait_until_sync(lambda: watchdog._thread is None, description="the thread to end")
    assert len(patient.looks) == 3


def test_it_keeps_nobody_alive() -> None:
    """One that nobody else holds is gone, and with it the thread."""
    watchdog = Watchdog()
    held = [Patient(1_000_000, pause=0.005)]
    ref = weakref.ref(held[0])
    watchdog.adopt(held[0])
    wait_until_sync(lambda: held[0].looks, description="the first look")
    held.clear()

    def gone() -> bool:
        gc.collect()
        return ref() is None and watchdog._thread is None

    wait_until_sync(gone, description="the thread to end")
    assert "otel_sched-watchdog" not in {each.name for each in threading.enumerate()}


@pytest.fixture
def timer() -> Iterator[Alarm]:
    """Return an alarm, where there are any."""
    made = new_alarm()
    if made is None:
        pytest.skip("there are no timers with file descriptors here")
    yield made
    made.close()


def test_an_alarm_goes_off_once_unless_it_is_put_off(timer: Alarm) -> None:
    """Then it is quiet until it is set anew."""
    sleep = Sleep()
    sleep.add(timer)
    timer.put_off(60.0)
    timer.put_off(0.05)
    began = monotonic()
    assert sleep.sleep(30.0)
    assert 0.05 <= monotonic() - began < 15.0
    assert not sleep.sleep(0.05)
    timer.put_off(0.01)
    assert sleep.sleep(30.0)
    sleep.close()


def test_a_closed_alarm_disturbs_nobody(timer: Alarm) -> None:
    """Its number may be another file's by then."""
    sleep = Sleep()
    sleep.add(timer)
    timer.put_off(0.01)
    timer.close()
    assert not sleep.sleep(0.05)
    timer.put_off(0.01)
    timer.close()
    sleep.close()


def test_a_forked_child_closes_its_parents_alarms(timer: Alarm) -> None:
    """Or its own beats would put off what watches over its parent."""
    fd = timer.fd
    alarm.forget()
    assert timer.fd == -1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_where_there_are_no_such_timers_it_only_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """As outside of Linux; it can be rung out of its sleep all the same."""
    monkeypatch.setattr(alarm, "_found", [None])
    assert new_alarm() is None
    watchdog = Watchdog()
    patient = Patient(2, pause=60.0)
    watchdog.adopt(patient)
    wait_until_sync(lambda: patient.looks, description="the first look")
    watchdog.wake()
    wait_until_sync(lambda: watchdog._thread is None, description="the thread to end")
    assert not watchdog.sleep.sleep(0.01)
