"""Text from dumps: titles made safe to store, to show and to put into a prompt.

A title is data of unknown origin. It may hold HTML, scripts, invisible characters that reorder or hide text, or be no
text at all. `clean_title` is the one place where that is dealt with; what it returns is one line of visible text.
"""

from __future__ import annotations

import html
import re
import unicodedata

LONGEST_NUMBER = 256  # bits; of longer ones Python refuses to say the digits
LONGEST_RAW = 4096  # characters looked at; bounds the work that one hostile title can cause

_PLAIN = re.compile(r"[ -%'*-;?-z|~]*")  # printable ASCII without what markup and scripts need: & < > = ( ) { }
_SPACE = re.compile(r"\s+")
_BLOCK = re.compile(r"<(script|style)\b[^<>]*>.*?(?:</\1\s*>|$)|<!--.*?(?:-->|$)", re.I | re.S)
_TAG = re.compile(r"</?[a-z!?][^<>]*>", re.I)
_OPEN_TAG = re.compile(r"<[a-z]+\s+[a-z-]+\s*=[^<>]*$", re.I)  # cut off in the middle: <span class="a-size
_ATTRIBUTE = re.compile(r"""(?:[a-z-]+\s*=\s*["'])?([^"<>]*)"\s*/?>""")  # of a tag whose beginning was cut off: Soap">
_SELF_CLOSED = re.compile(r"""["']\s*/>$""")  # … and nothing that anybody would write: Men's "Soap" />
_CLASSES = re.compile(
    r"[a-z0-9_ -]*-[a-z0-9_ -]*[\"']\s*/?>\s*(?=\S)"
)  # … or that of a tag around: a-size-medium">Soap
_JOINERS = re.compile("[\u200c\u200d]")
_SCRIPT = re.compile(
    r"getTime\s*\(|\bfunction\s*\w*\s*\([^()]*\)\s*\{|\bvar\s+\w+\s*=|\bdocument\.\w+\s*[(=]|\{[^{}]*:[^{}]*;[^{}]*\}"
)
_OTHER_MEANING = ("<super>", "<sub>", "<fraction>", "<circle>", "<square>")  # 5½ is not 51⁄2, nor J² J2
VIRAMA = 9  # its canonical combining class
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn"}  # control, format (bidi, zero width), surrogate, private, unassigned


def clean_title(raw: object, limit: int = 500) -> str | None:
    """One line of visible text, at most `limit` characters, or None where nothing readable is left.

    Entities are resolved and tags stripped (also when one hid the other, or what began it was cut off), forms that only
    look different normalised (full width, ligatures; not ½ or ²), control, bidirectional and invisible characters
    dropped (not the joiners of Persian or of an emoji), white space collapsed. A title that is nothing but markup,
    or is a piece of script or style sheet, counts as missing. Of a list, the first usable element counts. Cleaning a
    clean title changes nothing.
    """
    if isinstance(raw, list | tuple):
        titles = (clean_title(part, limit) for part in raw if not isinstance(part, list | tuple))
        return next((title for title in titles if title), None)
    if isinstance(raw, float) or (type(raw) is int and raw.bit_length() < LONGEST_NUMBER):
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
    text = _normal(html.unescape(text))
    text = _OPEN_TAG.sub("", _TAG.sub(" ", _BLOCK.sub(" ", text))).strip()
    if cut_off := _ATTRIBUTE.fullmatch(text):
        text = cut_off[1]
    elif around := _CLASSES.match(text):
        text = text[around.end() :]
    text = _SELF_CLOSED.sub("", text)
    hidden = {c for c in set(text) if not (c.isspace() or _visible(c) or c in "\u200c\u200d")}
    if hidden:
        text = "".join(c for c in text if c not in hidden)
    return _SPACE.sub(" ", _JOINERS.sub(_if_it_joins, text))


def _normal(text: str) -> str:
    """NFKC, which merges what only looks different and unmasks disguised brackets; but characters whose meaning it
    would change stay as they are.
    """
    kept = {c for c in set(text) if not c.isascii() and unicodedata.decomposition(c).startswith(_OTHER_MEANING)}
    if not kept:
        return unicodedata.normalize("NFKC", text)
    pieces = re.split(f"([{''.join(kept)}])", text)
    return unicodedata.normalize("NFC", "".join(p if p in kept else unicodedata.normalize("NFKC", p) for p in pieces))


def _if_it_joins(joiner: re.Match[str]) -> str:
    """A zero-width joiner or non-joiner where it changes what is seen: behind a virama, between Arabic letters (RFC
    5892, A.1 and A.2), and between the parts of an emoji.
    """
    text, place = joiner.string, joiner.start()
    before = text[max(0, place - 8) : place]
    if before and unicodedata.combining(before[-1]) == VIRAMA:
        return joiner[0]
    left = next((c for c in reversed(before) if unicodedata.category(c) != "Mn"), " ")
    right = text[place + 1 : place + 2] or " "
    if unicodedata.bidirectional(left) == unicodedata.bidirectional(right) == "AL":
        return joiner[0]
    pictures = unicodedata.category(left) in {"So", "Sk"} and unicodedata.category(right) == "So"
    return joiner[0] if pictures and joiner[0] == "\u200d" else ""


def _visible(character: str) -> bool:
    if character.isascii():
        return " " <= character <= "~"
    if "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef":  # variation selectors
        return False
    return unicodedata.category(character) not in _HIDDEN
