"""held_off(): no garbage collection inside, and everything as it was afterwards."""

import gc
import signal
import subprocess
import sys
import threading
import traceback
from typing import Any

import pytest

from otel_sched.diagnostics import collector, dump_tasks
from otel_sched.diagnostics.collector import held_off


def test_the_collector_is_off_inside_and_on_again_afterwards() -> None:
    """Also where the block ends with an error, and only when the outermost one does."""
    with held_off():
        with pytest.raises(ZeroDivisionError), held_off():
            _ = 1 / 0
        assert not gc.isenabled()
    assert gc.isenabled()


def test_where_it_was_off_it_stays_off() -> None:
    """Somebody wanted that."""
    gc.disable()
    try:
        with held_off():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_the_last_of_several_threads_turns_it_on_again() -> None:
    """Two dumps at once: the first to end must not spoil the other."""
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with held_off():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with held_off():
        thread.start()
        assert entered.wait(10)
    assert not gc.isenabled()
    leave.set()
    thread.join(10)
    assert gc.isenabled()


def test_a_child_forked_meanwhile_collects() -> None:
    """There nobody would turn it on again."""
    program = (
        "import gc, os\n"
        "from otel_sched.diagnostics.collector import held_off\n"
        "with held_off():\n"
        "    if not (child := os.fork()):\n"
        "        collects = gc.isenabled()\n"
        "        with held_off():\n"
        "            collects = collects and not gc.isenabled()\n"
        "        os._exit(0 if collects and gc.isenabled() else 1)\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
        "assert gc.isenabled()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_dump_in_a_signal_handler_during_a_dump_is_no_deadlock() -> None:
    """The handler runs in the thread that it interrupts, wherever that is."""
    dumps = []
    before = signal.signal(signal.SIGUSR2, lambda *_: dumps.append(dump_tasks()))
    try:
        with held_off():
            signal.raise_signal(signal.SIGUSR2)
        assert gc.isenabled()
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert len(dumps) == 1


def test_an_interrupt_anywhere_in_it_leaves_the_collector_on() -> None:
    """Ctrl-C, or the alarm of a test's time limit, comes between any two instructions."""

    class Stop(Exception):
        """The interrupt."""

    places = 0
    while True:
        left = places

        def interrupt(frame: Any, event: str, _: Any) -> Any:
            nonlocal left
            frame.f_trace_opcodes = True
            if event in ("opcode", "line") and frame.f_code.co_filename == collector.__file__:
                left -= 1
                if left < 0:
                    sys.settrace(None)
                    raise Stop
            return interrupt

        interrupted = False
        sys.settrace(interrupt)
        try:
            with held_off():
                pass
        except Stop:
            interrupted = True
        finally:
            sys.settrace(None)
        with held_off():  # at the latest with the next dump
            pass
        assert gc.isenabled(), f"interrupted at instruction {places}"
        if not interrupted:
            break
        places += 1
    assert places > 5


def test_no_garbage_is_collected_while_a_dump_is_made() -> None:
    """That would stop every thread, again and again."""
    during: list[str] = []

    def note(phase: str, _: dict[str, int]) -> None:
        if any(frame.name == "_looked" for frame in traceback.extract_stack()):
            during.append(phase)

    usual = gc.get_threshold()
    gc.callbacks.append(note)
    gc.set_threshold(1, 1, 1)
    try:
        dump_tasks()
    finally:
        gc.set_threshold(*usual)
        gc.callbacks.remove(note)
    assert not during
