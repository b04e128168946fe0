"""Text from dumps: titles made safe to store, to show and to put into a prompt.

A title is data of unknown origin. It may hold HTML, scripts, invisible characters that reorder or hide text, or be no
text at all. `clean_title` is the one place where that is dealt with; what it returns is one line of visible text.
"""

from __future__ import annotations

import html
import re
import unicodedata

LONGEST_RAW = 4096  # characters looked at; bounds the work that one hostile title can cause

_PLAIN = re.compile(r"[ -%'*-;?-z|~]*")  # printable ASCII without what markup and scripts need: & < > = ( ) { }
_SPACE = re.compile(r"\s+")
_BLOCK = re.compile(r"<(script|style)\b[^<>]*>.*?(?:</\1\s*>|$)|<!--.*?(?:-->|$)", re.I | re.S)
_TAG = re.compile(r"</?[a-z!?][^<>]*>", re.I)
_OPEN_TAG = re.compile(r"<[a-z]+\s+[a-z-]+\s*=[^<>]*$", re.I)  # cut off in the middle: <span class="a-size
_SCRIPT = re.compile(
    r"getTime\s*\(|\bfunction\s*\w*\s*\([^()]*\)\s*\{|\bvar\s+\w+\s*=|\bdocument\.\w+\s*[(=]|\{[^{}]*:[^{}]*;[^{}]*\}"
)
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn"}  # control, format (bidi, zero width), surrogate, private, unassigned


def clean_title(raw: object, limit: int = 500) -> str | None:
    """One line of visible text, at most `limit` characters, or None where nothing readable is left.

    Entities are resolved and tags stripped (also when one hid the other), compatibility forms normalised (NFKC),
    control, bidirectional and invisible characters dropped, white space collapsed. A title that is nothing but markup,
    or is a piece of script or style sheet, counts as missing. Of a list, the first usable element counts. Cleaning a
    clean title changes nothing.
    """
    if isinstance(raw, list | tuple):
        titles = (clean_title(part, limit) for part in raw if not isinstance(part, list | tuple))
        return next((title for title in titles if title), None)
    if isinstance(raw, int | float) and not isinstance(raw, bool):
        raw = str(raw)
    if not isinstance(raw, str):
        return None
    text = raw[:LONGEST_RAW]
    if _PLAIN.fullmatch(text):
        return " ".join(text.split())[:limit].strip() or None
    while (cleaned := _pass(text)[:limit].strip()) != text:
        text = cleaned
    return text or None


def _pass(text: str) -> str:
    """One round of cleaning; what one round uncovers (`&lt;b&gt;`), the next removes."""
    if _SCRIPT.search(text):
        return ""
    text = unicodedata.normalize("NFKC", html.unescape(text))
    text = _OPEN_TAG.sub("", _TAG.sub(" ", _BLOCK.sub(" ", text)))
    return _SPACE.sub(" ", "".join(c for c in text if c.isspace() or _visible(c)))


def _visible(character: str) -> bool:
    if character.isascii():
        return " " <= character <= "~"
    if "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef":  # variation selectors
        return False
    return unicodedata.category(character) not in _HIDDEN
