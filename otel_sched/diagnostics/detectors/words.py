"""Floor 5: words for the sentences of detectors: numbers with their nouns, and lists that stay short. Pure."""

NAMED = 3
"""How many things a sentence names before it counts them."""


def counted(number: int, noun: str) -> str:
    """Return *number* and its noun: "1 item", "2 items"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def listed(words: list[str], between: str = "; ") -> str:
    """Return the first of *words*, and how many more there are."""
    more = f" and {len(words) - NAMED} more" if len(words) > NAMED else ""
    return between.join(words[:NAMED]) + more
