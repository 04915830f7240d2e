"""Floor 6: lines of styled text, numbers that fit their columns, and tables of them; for a terminal and for a file."""

from collections.abc import Sequence

Line = list[tuple[str, str]]
"""Pieces of text, each with a style of rich's, or "" for none."""

PLAIN, BOLD, FAINT = "", "bold", "dim"
# Green, red and magenta are told apart on dark and on light; yellow and cyan are not to be seen on white.
STYLES = {"ok": "green", "error": "red", "timeout": "magenta", "cancelled": "bold"}


def seconds(value: float | None) -> str:
    """Return a duration in at most six characters."""
    if value is None:
        return "-"
    if value < 0.9995:
        return f"{value * 1000:.1f} ms" if value < 0.00995 else f"{value * 1000:.0f} ms"
    if value < 99.95:
        return f"{value:.2f} s" if value < 9.995 else f"{value:.1f} s"
    return f"{value:.0f} s" if value < 9999.5 else f"{value / 3600:.0f} h"


def rate(value: float | None) -> str:
    """Return jobs a second in at most five characters."""
    if value is None:
        return "-"
    return f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def table(head: Sequence[str], rows: Sequence[Sequence[tuple[str, str] | str]], widths: Sequence[int]) -> list[Line]:
    """Return a table: the first column flush left, all others flush right."""
    lines: list[Line] = [[(_row(head, widths), FAINT)]]
    for row in rows:
        line: Line = []
        for n, cell in enumerate(row):
            text, style = cell if isinstance(cell, tuple) else (cell, PLAIN)
            line.append(((" " if n else "") + _placed(text, widths[n], n), style))
        lines.append(line)
    return lines


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    return " ".join(_placed(cell, widths[n], n) for n, cell in enumerate(cells))


def _placed(text: str, width: int, column: int) -> str:
    return text.rjust(width) if column else text.ljust(width)


def clipped(line: Line, width: int) -> Line:
    """Return *line*, cut where it is wider than *width*."""
    result: Line = []
    left = width
    for text, style in line:
        if len(text) > left:
            result.append((text[: max(0, left - 1)] + "…", style))
            return result
        result.append((text, style))
        left -= len(text)
    return result


def plain(line: Line) -> str:
    """Return the text of *line* without its styles."""
    return "".join(text for text, _ in line).rstrip()
