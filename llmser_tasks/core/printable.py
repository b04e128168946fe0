"""Text of unknown origin on its way to people: nothing in it may steer a terminal, or reorder or hide what is there.

Names of files, of archives' members, of columns, ids, and what an endpoint said end up in sentences, progress and logs.
Where these are made or written, and nowhere else, they pass through here: `LlmserError`, the console, the log.
"""

from __future__ import annotations

JOINERS = "\u200c\u200d"  # invisible and harmless: Persian words and emoji are spelt with them


def printable(text: str) -> str:
    """One line without control characters, as long as before: white space becomes a blank, the rest �."""
    if text.isprintable():
        return text
    return "".join(map(_shown, text))


def printable_lines(text: str) -> str:
    """The same for a text of several lines, which stay."""
    return "\n".join(map(printable, text.split("\n")))


def _shown(character: str) -> str:
    if character.isprintable() or character in JOINERS:
        return character
    return " " if character.isspace() else "\ufffd"
