"""Names and errors as they may stand in a line of text: what would move the cursor or begin a line is escaped."""

from __future__ import annotations


def escaped(text: str) -> str:
    """Return *text* in one line: control characters, and all else that cannot be shown, as Python writes them."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
