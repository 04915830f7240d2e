"""Floor 6: where the demo's text goes: lines of plain text, a live screen, or nothing at all but JSON at the end."""

import os
import shutil
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TextIO

from .lines import Line, clipped, plain

ASCII = str.maketrans("█░╰├│─╌·…", "#.`||-~-.")


class Output(Protocol):
    """A way to show what goes on."""

    interval: float
    """Seconds between two calls of `update`."""

    def update(self, lines: list[Line], extra: Iterable[list[Line]], tail: Iterable[Line]) -> None:
        """Show how it stands: *lines*, and as much of *extra* and then of *tail* as there is room for."""

    def line(self, line: Line) -> None:
        """Show a log line that matters, as it comes."""

    def report(self, lines: list[Line]) -> None:
        """Show what came of it, at the end."""

    @property
    def width(self) -> int:
        """Characters in a line."""
        ...


class Paper:
    """Plain text, to a file, a pipe or a terminal. When the reader goes away, so does the demo."""

    interval = 2.0

    def __init__(self, stream: TextIO, gone: Callable[[], None]) -> None:
        self._stream = stream
        self._gone = gone
        self._room = 0

    @property
    def width(self) -> int:
        """Eighty, unless a terminal or COLUMNS says otherwise."""
        return min(shutil.get_terminal_size((80, 24)).columns, 140)

    def update(self, lines: list[Line], extra: Iterable[list[Line]], tail: Iterable[Line]) -> None:
        """Print the numbers; the room for log lines is new."""
        self._room = 6
        self._print(lines)

    def line(self, line: Line) -> None:
        """Print a log line, whole, if there were not too many lately: a failing shop could fill a disk."""
        self._room -= 1
        if self._room >= 0:
            self._print([line])

    def report(self, lines: list[Line]) -> None:
        """Print it."""
        self._print(lines)

    def _print(self, lines: Iterable[Line]) -> None:
        if not write("".join(f"{plain(line)}\n" for line in lines), self._stream):
            self._gone()


class Silence:
    """Nothing is shown."""

    interval = 2.0
    width = 80

    def update(self, lines: list[Line], extra: Iterable[list[Line]], tail: Iterable[Line]) -> None:
        """Show nothing."""

    def line(self, line: Line) -> None:
        """Show nothing."""

    def report(self, lines: list[Line]) -> None:
        """Show nothing."""


class Screen:
    """A live screen on a terminal, and the report on its ordinary one. A context manager."""

    interval = 0.25

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(highlight=False, soft_wrap=False)
        self._live = Live(console=self._console, screen=True, auto_refresh=False)

    @property
    def width(self) -> int:
        """The terminal's, but for what nobody reads across."""
        return min(self._console.width, 140)

    def __enter__(self) -> "Screen":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def update(self, lines: list[Line], extra: Iterable[list[Line]], tail: Iterable[Line]) -> None:
        """Fill the screen: whole pieces of *extra*, and the end of *tail*."""
        shown, room = list(lines), self._console.height - len(lines)
        for piece in extra:
            if len(piece) + 1 <= room:
                shown += [[], *piece]
                room -= len(piece) + 1
        last = list(tail)
        if room >= 3 and last:
            shown += [[], *last[-(room - 1) :]]
        self._live.update(self._text(shown), refresh=True)

    def line(self, line: Line) -> None:
        """Leave it to the next update."""

    def report(self, lines: list[Line]) -> None:
        """Print it where it stays."""
        self._console.print(self._text(lines))

    def _text(self, lines: Iterable[Line]) -> Any:
        from rich.text import Text

        result = Text(no_wrap=True, overflow="ellipsis")
        for n, line in enumerate(lines):
            result.append("\n" if n else "")
            for text, style in clipped(line, self._console.width):
                result.append(fitting(text, self._console.encoding), style or None)
        return result


def write(text: str, stream: TextIO) -> bool:
    """Write *text*; return False when the stream takes no more: its reader is gone, the disk is full."""
    try:
        print(fitting(text, stream.encoding), end="", file=stream, flush=True)
    except OSError:
        nothing = os.open(os.devnull, os.O_WRONLY)  # or Python complains when it flushes at exit
        os.dup2(nothing, stream.fileno())
        os.close(nothing)
        return False
    return True


def fitting(text: str, encoding: str | None) -> str:
    """Return *text* with nothing in it that *encoding* has not got: trees can be drawn in ASCII too."""
    encoding = encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(ASCII).encode(encoding, "replace").decode(encoding)
    return text
